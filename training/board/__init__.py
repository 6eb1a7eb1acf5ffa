"""Board games: self-play, opponents, search, matches and ratings."""
