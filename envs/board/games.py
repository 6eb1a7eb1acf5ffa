"""Which games of open_spiel are played here, and how one is made from its name and parameters.

open_spiel (Lanctot et al. 2019, "OpenSpiel: A Framework for Reinforcement Learning in Games") is imported when a game
is first asked for. A game is known here as `board/<its short name in open_spiel>`.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym

from triathlon.envs.errors import EnvError
from triathlon.envs.lookup import nearest, needs_extra

NAMESPACE = "board"
ENTRY_POINT = "triathlon.envs.board.vector:BoardEnvs"


def spiel(name: str = "a board game") -> Any:
    """The module `pyspiel`.

    Raises:
        EnvError: open_spiel is not installed.
    """
    try:
        return importlib.import_module("pyspiel")
    except ImportError as error:
        raise EnvError(needs_extra(name, "open_spiel", "board")) from error


def refusal(kind: Any) -> str | None:
    """Why a game of this `pyspiel.GameType` is not played here; None if it is.

    Played are two-player zero-sum games whose players move in turn and are paid at the end: all of those with perfect
    information, with or without dice, and those with hidden information that tell a player's information state.
    """
    if not kind.default_loadable:
        return "it is made from another game or from a file"
    if kind.dynamics != kind.Dynamics.SEQUENTIAL:
        return "its players do not move in turn"
    if not kind.min_num_players <= 2 <= kind.max_num_players:
        players = {kind.min_num_players, kind.max_num_players}
        return f"it is not for two players but for {' to '.join(str(number) for number in sorted(players))}"
    if kind.utility != kind.Utility.ZERO_SUM:
        return "what one side wins is not what the other loses"
    if kind.reward_model != kind.RewardModel.TERMINAL:
        return "it pays before the end of a game"
    if kind.chance_mode == kind.ChanceMode.SAMPLED_STOCHASTIC:
        return "it draws its chances itself, so that games could not be repeated"
    if is_perfect(kind):
        return None if kind.provides_observation_tensor else "open_spiel gives no observation of it as numbers"
    if not kind.provides_information_state_tensor:
        return "it hides something, and open_spiel gives no information state of it as numbers"
    return None


def is_perfect(kind: Any) -> bool:
    """Whether nothing is hidden from either player of a game of this `pyspiel.GameType`."""
    return bool(kind.information == kind.Information.PERFECT_INFORMATION)


def game_names() -> list[str]:
    """The short names of all games that are played here.

    Raises:
        EnvError: open_spiel is not installed.
    """
    return sorted(kind.short_name for kind in spiel().registered_games() if refusal(kind) is None)


def load_game(name: str, parameters: dict[str, Any] | None = None) -> Any:
    """The `pyspiel.Game` of a short name, such as `connect_four`, with these parameters in place of its own.

    Raises:
        EnvError: open_spiel is not installed, has no such game or parameter, a value is of the wrong kind, or it is a
            game that is not played here; the message says why.
    """
    id = f"{NAMESPACE}/{name}"
    module = spiel(id)
    kinds = {kind.short_name: kind for kind in module.registered_games()}
    if name not in kinds:
        raise EnvError(f"unknown board game {id!r}{nearest(id, [f'{NAMESPACE}/{known}' for known in game_names()])}")
    if (reason := refusal(kinds[name])) is not None:
        raise EnvError(f"{id} cannot be played here: {reason}")
    chosen = _checked(id, parameters or {}, kinds[name].parameter_specification)
    try:
        game = module.load_game(name, chosen)
        state = game.new_initial_state()
    except module.SpielError as error:
        raise EnvError(f"{id} cannot be made with parameters {chosen}: {str(error).splitlines()[0]}") from error
    if state.is_terminal() or not state.legal_actions():
        raise EnvError(f"{id} with parameters {chosen} leaves nothing to play")
    if game.num_players() != 2:
        raise EnvError(f"{id} must be for two players, found parameters.players: {game.num_players()}")
    return game


def parameters_of(game: Any) -> dict[str, Any]:
    """All parameters of a `pyspiel.Game`; by itself it tells those only that it has read so far."""
    return {**game.get_type().parameter_specification, **game.get_parameters()}


def _checked(id: str, parameters: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The parameters as open_spiel wants them, which takes no whole number for a real one."""
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise EnvError(f"{id} has no parameter {name!r}{nearest(name, list(known)) or f'; {has}'}")
        wanted = type(known[name])
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
            raise EnvError(f"{id}: parameters.{name} must be {words.get(wanted, wanted.__name__)}, found {value!r}")
        # open_spiel reads memory that is not there on a board without rows.
        if wanted is int and known[name] >= 0 and value < (least := min(known[name], 1)):
            raise EnvError(f"{id}: parameters.{name} must be at least {least}, found {value}")
        checked[name] = value
    return checked


def register() -> None:
    """Make the ids of all games known to Gymnasium.

    Raises:
        EnvError: open_spiel is not installed.
    """
    for name in game_names():
        if (id := f"{NAMESPACE}/{name}") not in gym.registry:
            gym.register(id, vector_entry_point=ENTRY_POINT, kwargs={"game": name})


__all__ = ["NAMESPACE", "game_names", "is_perfect", "load_game", "parameters_of", "refusal", "register", "spiel"]
