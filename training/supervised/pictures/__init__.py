"""Pictures: what is on them, where, and new ones."""
