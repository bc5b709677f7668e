"""The record of one run: directory, metrics, what it is resumed from, system."""
