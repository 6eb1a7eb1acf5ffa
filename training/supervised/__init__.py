"""Supervised work with the backbones that agents use: pictures, texts, and what can be made of them."""
