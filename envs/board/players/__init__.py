"""Players of board games. `make_player("mcts:1000", game, rng)` gives one by its name."""

from triathlon.envs.board.players.make import PLAYERS, make_player

__all__ = ["PLAYERS", "make_player"]
