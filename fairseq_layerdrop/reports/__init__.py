"""What was measured, as pictures and pages."""
