"""`triathlon arena` from a trained run to its table, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyspiel
import pytest
from PIL import Image

from triathlon.scripts import arena
from triathlon.scripts.board_run import open_board_run
from triathlon.scripts.main import main
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search import SearchPlayer

BOARD = """
env: {{id: board/{game}, num_envs: 4, board: {{{board}}}}}
agent: {{kind: {agent}}}
backbone: {{kind: mlp, hidden_sizes: [8]}}
total_steps: 64
num_threads: 1
name: {name}
root: {root}
evaluation: {{final_episodes: 0, video: false}}
logging: {{tensorboard: false}}
"""


PPO = "ppo, num_steps: 8, batch_size: 16"


def trained(root: Path, game: str, name: str, agent: str = PPO, board: str = "") -> str:
    """The folder of a run of a few steps."""
    (root / "tiny.yaml").write_text(BOARD.format(game=game, name=name, root=root, agent=agent, board=board))
    assert main(["train", str(root / "tiny.yaml")]) == 0
    (folder,) = root.glob(f"*/{name}")
    return str(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def ppo(root: Path) -> str:
    return trained(root, "tic_tac_toe", "ppo")


@pytest.fixture(scope="module")
def dqn(root: Path) -> str:
    return trained(root, "tic_tac_toe", "dqn", "dqn, learning_starts: 16")


@pytest.fixture(scope="module")
def four(root: Path) -> str:
    return trained(root, "connect_four", "four")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence of an arena that cannot begin."""
    assert main(["arena", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("triathlon: error: ")]
    return line.removeprefix("triathlon: error: ")


def test_an_agent_that_looks_at_all_sides_of_a_board(four: str, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    how = ["--symmetries", "--positions", "mixed", "--out", str(out)]
    assert main(["arena", four, "--opponent", "random", "--games", "2", *how]) == 0
    found = json.loads(out.read_text())
    assert found["settings"]["symmetries"] is True
    assert found["players"] == ["four+symmetric", "random"]
    assert set(found["outcome_preserving"]) == {"four+symmetric", "random"}


def test_a_game_without_a_known_symmetry(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(root, "checkers", "checkers")
    assert refusal(capsys, run, "--opponent", "random", "--symmetries").startswith(
        "--symmetries: board/checkers has no symmetry that is known here; leave it out (games with some: breakthrough"
    )


def test_one_match(ppo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.json"
    command = ["arena", ppo, "--opponent", "random", "--games", "10", "--opening-plies", "2", "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "tic_tac_toe, ppo against random" in said and "ppo against random: +" in said and "95 % interval" in said
    found = json.loads(out.read_text())
    (match,) = found["matches"]
    assert match["wins"] + match["draws"] + match["losses"] == 10 == len(match["games"])
    assert [game["a_seat"] for game in match["games"]] == [0, 1] * 5 and match["forfeits"] == 0
    points = {1.0: 1, 0.5: 0, 0.0: -1}
    for game in match["games"]:
        state = pyspiel.load_game("tic_tac_toe").new_initial_state()
        for action in game["history"]:
            state.apply_action(action)
        assert state.player_return(game["a_seat"]) == points[game["score"]]
    assert Image.open(out.with_suffix(".png")).format == "PNG"
    assert main(command) == 0
    assert json.loads(out.read_text())["matches"] == found["matches"]  # the seed repeats it


def test_a_round_robin_of_runs_searches_and_players(
    ppo: str, dqn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.json"
    options = ["--opponent", "random", "--search", "0", "--search", "60", "--games", "20", "--out", str(out)]
    assert main(["arena", ppo, dqn, *options]) == 0
    names = ["ppo", "ppo+puct:60", "dqn", "dqn+puct:60", "random"]
    found = json.loads(out.read_text())
    assert found["players"] == names and len(found["matches"]) == 10
    said = capsys.readouterr().out
    assert "  5 random" in said and "Elo, random = 0" in said
    elo = {rating["name"]: rating["elo"] for rating in found["elo"]["ratings"]}
    assert elo["random"] == 0 and elo["ppo+puct:60"] > 100  # by search alone: the network has learnt nothing


def test_results_stand_in_the_run_folder(ppo: str) -> None:
    assert main(["arena", ppo, "--opponent", "random", "--games", "2", "--openings", "none", "--stochastic"]) == 0
    assert len(list(Path(ppo).glob("arena/*.json"))) == 1 == len(list(Path(ppo).glob("arena/*.png")))


def test_positions_need_no_opponent(four: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    options = ["--positions", "both", "--search", "0", "--search", "30", "--games", "2", "--out", str(out)]
    assert main(["arena", four, *options]) == 0
    shares = json.loads(out.read_text())["outcome_preserving"]
    assert list(shares) == ["four", "four+puct:30"] and set(shares["four"]) == {"random", "mixed"}
    assert shares["four+puct:30"]["random"] > shares["four"]["random"]
    capsys.readouterr()
    assert main(["arena", four, "--positions", "mixed", "--out", str(out)]) == 0
    assert set(json.loads(out.read_text())["outcome_preserving"]["four"]) == {"mixed"}
    assert "(random play)" not in capsys.readouterr().out


def test_refusals(ppo: str, four: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, ppo).startswith("there is nobody to play against")
    assert refusal(capsys, ppo, four) == (
        f"runs of different games cannot meet: {ppo} is of tic_tac_toe(), {four} of connect_four()"
    )
    for options, sentence in {
        "--games 3": "--games is 3 but should be even",
        "--opponent randon": "unknown player 'randon'; did you mean random?",
        "--opponent stockfish:0": "stockfish",
        "--opponent random --opponent random": "--opponent random is given more than once",
        "--opponent random --search 8 --search 8": "--search 8 is given more than once",
        "--opponent random --search -1": "--search is -1 but should be at least 0",
        "--opponent random --seed -1": "--seed is -1 but should be at least 0",
        "--opponent random --opening-plies -1": "--opening-plies is -1 but should be at least 0",
        "--opponent random --opening-plies 9": "opening_plies must leave something to play",
        "--positions both": "the solver's positions are of connect four",
        "--opponent random --out table.png": "--out is table.png but should be a file that ends with .json",
    }.items():
        assert sentence in refusal(capsys, ppo, *options.split())
    assert "there is no run folder" in refusal(capsys, str(tmp_path / "nothing"), "--opponent", "random")


def test_a_run_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pole.yaml").write_text(
        BOARD.replace("id: board/{game}", "id: CartPole-v1")
        .replace(", board: {{{board}}}", "")
        .format(name="pole", root=tmp_path, agent=PPO)
    )
    assert main(["train", str(tmp_path / "pole.yaml")]) == 0
    assert "which is no board game" in refusal(capsys, str(tmp_path / "CartPole-v1" / "pole"), "--opponent", "random")
    assert main(["evaluate", str(tmp_path / "CartPole-v1" / "pole"), "--search", "4"]) == 2
    assert "board games only" in capsys.readouterr().err


def test_evaluation_by_search(ppo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "score.json"
    assert main(["evaluate", ppo, "--episodes", "20", "--search", "60", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["search"] == "puct:60" and found["mean"] > 0.5
    assert "search puct:60, 20 episodes" in capsys.readouterr().out
    film = tmp_path / "game.gif"
    assert main(["watch", ppo, "--search", "10", "--search-kind", "gumbel", "--out", str(film)]) == 0
    assert film.is_file()


def test_a_search_needs_values_in_what_the_game_pays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As training refuses `search_share`; without a search the agent plays."""
    run = trained(root, "tic_tac_toe", "scaled", f"{PPO}, normalize_reward: true")
    options = {"arena": ["--opponent", "random"], "play": [], "evaluate": [], "watch": ["--out", str(root / "a.gif")]}
    for command, more in options.items():
        assert main([command, run, "--search", "8", *more]) == 2
        assert (
            "--search is 8, and a search needs values in what the game pays, but this run's are scaled "
            "(agent.normalize_reward); leave out --search"
        ) in capsys.readouterr().err
    assert main(["arena", run, "--opponent", "random", "--games", "2"]) == 0
    assert main(["evaluate", run, "--episodes", "2"]) == 0


def test_a_parameter_that_is_spelled_out_makes_no_other_game(
    root: Path, four: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spelled = trained(root, "connect_four", "spelled", board="parameters: {rows: 6}")
    assert main(["arena", four, spelled, "--games", "2"]) == 0
    lower = trained(root, "connect_four", "lower", board="parameters: {rows: 5}")
    capsys.readouterr()
    assert refusal(capsys, four, lower).startswith("runs of different games cannot meet")


def test_no_two_players_draw_the_same_numbers(ppo: str, dqn: str) -> None:
    options = arena._parser().parse_args([ppo, dqn, "--opponent", "random", "--search", "0", "--search", "8"])
    runs = [open_board_run(run, None) for run in options.run]
    players = arena._players(options, runs, runs[0].game)
    seeds = {player.policy.generator.initial_seed() for player in players if isinstance(player, AgentPlayer)}
    assert len(seeds) == 2
    draws = [player._rng.random() for player in players if isinstance(player, SearchPlayer)]
    assert len({*draws, np.random.default_rng(options.seed).random()}) == 3  # the last: what openings are drawn from


def test_whom_a_run_was_trained_against_is_not_needed_to_play(root: Path, tmp_path: Path) -> None:
    run = trained(root, "tic_tac_toe", "taught", board="opponent: greedy")
    config = Path(run) / "config.yaml"
    config.write_text(config.read_text().replace("opponent: greedy", "opponent: gtp:/no/such/engine"))
    assert "gtp:/no/such/engine" in config.read_text()
    assert main(["arena", run, "--opponent", "random", "--games", "2"]) == 0
    assert main(["evaluate", run, "--episodes", "2"]) == 0
