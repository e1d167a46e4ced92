"""What was measured, shown: choices for a budget, pictures and pages."""
