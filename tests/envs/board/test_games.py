"""Which games are played, what their settings may be, and what is said about those that cannot be."""

from __future__ import annotations

import sys

import gymnasium as gym
import pytest

from triathlon.envs import EnvConfig, EnvError, make_env, make_envs
from triathlon.envs.lookup import find
from triathlon.training.config import dump, from_mapping
from triathlon.training.errors import RunError

pytest.importorskip("pyspiel")

from triathlon.envs.board import BoardConfig, game_names, load_game
from triathlon.envs.board.layouts import LAYOUTS
from triathlon.envs.board.planes import Planes


def test_the_games_that_are_played() -> None:
    names = game_names()
    assert len(names) >= 45
    assert {
        *("tic_tac_toe", "connect_four", "othello", "breakthrough", "hex", "go", "chess", "checkers", "backgammon"),
        *("kuhn_poker", "leduc_poker", "amazons", "quoridor", "shogi", "xiangqi", "hive", "pentago", "y", "havannah"),
    } <= set(names)  # fmt: skip
    assert set(LAYOUTS) <= set(names)
    assert find("board/chess").id == "board/chess"
    assert gym.make_vec("board/connect_four", num_envs=2).unwrapped.name == "board/connect_four"


@pytest.mark.parametrize(
    ("name", "shape", "num_actions"),
    [
        ("tic_tac_toe", (3, 3, 3), 9),
        ("othello", (3, 8, 8), 65),
        ("chess", (19, 8, 8), 4674),
        ("hex", (9, 11, 11), 121),
        ("gomoku", (2, 15, 15), 225),
        ("go", (4, 19, 19), 362),
        ("backgammon", (200,), 1352),
        ("kuhn_poker", (11,), 2),
        ("dots_and_boxes", (81,), 12),
        ("shogi", (46, 9, 9), 13689),  # nothing is known of its planes: one more tells the side to move
        ("ultimate_tic_tac_toe", (255,), 9),
    ],
)
def test_spaces(name: str, shape: tuple[int, ...], num_actions: int) -> None:
    planes = Planes(load_game(name))
    assert planes.space.shape == shape
    assert planes.num_actions == num_actions


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("goofspiel", "its players do not move in turn"),
        ("skat", "it is not for two players but for 3"),
        ("hanabi", "what one side wins is not what the other loses"),
        ("bridge_uncontested_bidding", "what one side wins"),
        ("gin_rummy", "it hides something, and open_spiel gives no information state"),
        ("misere", "it is made from another game"),
        ("connect_for", r"unknown board game 'board/connect_for'; did you mean board/connect_four\?"),
    ],
)
def test_games_that_are_not_played_say_why(name: str, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        make_envs(EnvConfig(f"board/{name}"))


def test_parameters() -> None:
    assert load_game("connect_four", {"rows": 4, "columns": 5}).observation_tensor_shape() == [3, 4, 5]
    assert load_game("go", {"komi": 7, "board_size": 9}).get_parameters()["komi"] == 7.0
    assert load_game("mnk", {"m": 4, "n": 3}).num_distinct_actions() == 12


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("connect_four", {"row": 4}, r"has no parameter 'row'; did you mean rows\?"),
        ("go", {"size": 9}, "has no parameter 'size'; (it has|did you mean)"),
        ("tic_tac_toe", {"size": 4}, "has no parameter 'size'; it has none"),
        ("connect_four", {"rows": 4.5}, r"parameters.rows must be a whole number, found 4.5"),
        ("connect_four", {"egocentric_obs_tensor": 1}, r"must be true or false, found 1"),
        ("connect_four", {"rows": 0}, r"parameters.rows must be at least 1, found 0"),
        ("go", {"handicap": -1}, r"parameters.handicap must be at least 0, found -1"),
        ("checkers", {"rows": 6, "columns": 6}, "leaves nothing to play"),
        ("pig", {"players": 3}, r"must be for two players, found parameters.players: 3"),
        ("go", {"board_size": 50}, r"cannot be made with parameters \{'board_size': 50\}"),
    ],
)
def test_wrong_parameters_are_explained(name: str, parameters: dict[str, object], sentence: str) -> None:
    with pytest.raises(EnvError, match=f"board/{name}.*{sentence}"):
        load_game(name, parameters)


def test_what_is_played_is_recorded() -> None:
    settings = {"env": {"id": "board/go", "board": {"parameters": {"board_size": 9}}}, "agent": "ppo", "total_steps": 1}
    experiment = from_mapping(settings)
    assert experiment.env.board == BoardConfig(parameters={"board_size": 9})
    assert "random_openings: 0.0" in dump(experiment)
    assert from_mapping({"env": {"id": "board/go"}, "agent": "ppo", "total_steps": 1}).env.board == BoardConfig()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"id": "board/go", "hide": [1]}, r"env\.hide is not read for board games; env\.board has parameters, random_"),
        ({"id": "board/go", "max_episode_steps": 9}, r"env\.max_episode_steps is not read .* max_plies"),
        ({"id": "board/go", "kwargs": {"komi": 5.5}}, r"env\.kwargs is not read"),
        ({"id": "board/go", "atari": {}}, r"env\.atari is read for Atari games only .* not for board/go"),
        ({"id": "CartPole-v1", "board": {}}, r"env\.board is read for board games only \(ids that begin with board/\)"),
        ({"id": "board/go", "board": {"random_opening": 0.5}}, r"did you mean 'random_openings'"),
        ({"id": "board/go", "board": {"random_openings": 1.5}}, r"env\.board\.random_openings is 1\.5"),
        ({"id": "board/go", "board": {"random_openings": 0.6, "resume_share": 0.6}}, r"at most 1, found 0\.6 and 0\.6"),
        ({"id": "board/go", "board": {"random_openings": 0.6, "max_plies": 8}}, "than opening_plies, found 8 and 8"),
        ({"id": "board/go", "board": {"opponent": "mtcs:10"}}, r"unknown player 'mtcs:10'; did you mean mcts"),
    ],
)  # fmt: skip
def test_wrong_settings_are_explained(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises((RunError, EnvError), match=sentence):
        make_envs(from_mapping({"env": settings, "agent": "ppo", "total_steps": 1}).env)


def test_openings_that_always_end_the_game_are_refused() -> None:
    board = BoardConfig(parameters={"m": 1, "n": 1, "k": 1}, random_openings=1.0, opening_plies=1)
    with pytest.raises(
        EnvError, match=r"100 openings of up to 1 random plies all ended the game; .*opening_plies lower"
    ):
        make_envs(EnvConfig("board/mnk", board=board)).reset(seed=0)


def test_no_window() -> None:
    with pytest.raises(EnvError, match="board/chess plays without a window"):
        make_env(EnvConfig("board/chess"))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(EnvError, match=r'board/chess needs open_spiel, .* pip install "triathlon\[board\]"'):
        make_envs(EnvConfig("board/chess"))
