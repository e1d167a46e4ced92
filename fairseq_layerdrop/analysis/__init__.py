"""What the parts of a model are worth, and what it gives at each depth."""
