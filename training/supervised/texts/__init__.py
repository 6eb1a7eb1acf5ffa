"""Texts: what they are about, what comes next, and the same in another language."""
