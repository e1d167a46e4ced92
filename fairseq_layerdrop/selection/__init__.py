"""Choosing what to keep by looking at data."""
