"""Running models on data: loading, stacks unit by unit, measures, generation, and scores of many plans."""
