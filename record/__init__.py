"""The record of one run: directory, metrics, saved state, system."""
