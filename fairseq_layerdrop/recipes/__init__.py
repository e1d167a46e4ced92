"""Configurations of trainings: as flags, on other devices, and those that checkpoints hold."""
