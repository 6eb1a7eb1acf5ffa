"""Board games of open_spiel, for one agent that plays both sides or against opponents."""

from triathlon.envs.board.config import BoardConfig
from triathlon.envs.board.games import game_names, load_game
from triathlon.envs.board.planes import Planes
from triathlon.envs.board.vector import BoardEnvs

__all__ = ["BoardConfig", "BoardEnvs", "Planes", "game_names", "load_game"]
