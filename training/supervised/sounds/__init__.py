"""Sounds: what is said, and by whom."""
