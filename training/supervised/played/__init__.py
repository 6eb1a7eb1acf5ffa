"""What was played: recordings of environments, and what can be learned from them."""
