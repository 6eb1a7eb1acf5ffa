"""Other libraries as engines: the same configuration and the same networks, trained by RLlib or Stable-Baselines3."""
