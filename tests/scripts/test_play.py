"""A person's game at the terminal, typed by a test."""

from __future__ import annotations

import io
from pathlib import Path

import pyspiel
import pytest

from triathlon.envs.board.planes import Planes
from triathlon.scripts.main import main
from triathlon.scripts.terminal import board_text, find_move, move_name

CONFIG = """
env: {{id: board/{game}, num_envs: 4}}
agent: {{kind: ppo, num_steps: 8, batch_size: 16, normalize_reward: {scaled}}}
backbone: {{kind: mlp, hidden_sizes: [8]}}
total_steps: 32
num_threads: 1
name: mine
root: {root}
evaluation: {{final_episodes: 0, video: false}}
logging: {{tensorboard: false}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs of a few steps, by game."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for game in ("tic_tac_toe", "backgammon", "kuhn_poker", "phantom_ttt"):
        scaled = str(game == "backgammon").lower()
        (root / "tiny.yaml").write_text(CONFIG.format(game=game, root=root, scaled=scaled))
        assert main(["train", str(root / "tiny.yaml")]) == 0
        found[game] = str(root / f"board-{game}" / "mine")
    return found


class Typist:
    """Types lines, and notes what was on the screen before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, typed: str, *arguments: str) -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(typed.split()) + "\n"))
        assert main(["play", *arguments]) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(monkeypatch, capsys)


def test_a_whole_game(runs: dict[str, str], play: Typist, tmp_path: Path) -> None:
    # Every cell is typed in turn; those that are taken are asked for again, until the game is over.
    cells = " ".join(f"{column}{row}" for row in (1, 2, 3) for column in "abc")
    transcript = tmp_path / "game.txt"
    said = play(cells, runs["tic_tac_toe"], "--seed", "0", "--transcript", str(transcript))
    assert said.count("The agent plays ") >= 2
    ends = ("You win.", "You lose.", "A draw.")
    assert sum(said.count(end) for end in ends) == 1
    lines = transcript.read_text().splitlines()
    assert lines[-1] in ends and "Your move: a1" in lines
    assert lines[2:6] == ["    a b c", "  1 . . .", "  2 . . .", "  3 . . ."] and lines[-4].startswith("  1 X ")


def test_all_that_can_be_typed(runs: dict[str, str], play: Typist) -> None:
    said = play("help nonsense ? moves undo b2 undo x(1,1) quit", runs["tic_tac_toe"], "--search", "20")
    assert said.count("Type a move;") == 2
    assert "There is no move 'nonsense' here. Legal: a1, b1, c1, a2, b2, c2, a3, b3, c3." in said
    assert "The agent would play " in said and "for the side to move." in said
    assert "There is nothing to take back." in said
    assert said.count("  1 . . .\n  2 . . .\n  3 . . .") == 3  # at first, and after each undo
    assert said.count("The agent plays") == 2
    assert said.rstrip().endswith("The game was left unfinished.")


def test_the_agent_moves_first(runs: dict[str, str], play: Typist) -> None:
    said = play("", runs["tic_tac_toe"], "--second", "--show-probabilities")
    assert said.index("The agent would play") < said.index("The agent plays") < said.index("  a b c\n")
    assert said.count("X") == 1 and "left unfinished" in said  # nothing was typed: the end of the input leaves
    assert said.count("The agent would play") == 2


def test_dice_stay_when_a_move_is_taken_back(runs: dict[str, str], play: Typist) -> None:
    def dice(said: str) -> list[str]:
        return [line for line in said.splitlines() if line.startswith("Dice")]

    once = play("quit", runs["backgammon"], "--seed", "3")
    legal = play("moves quit", runs["backgammon"], "--seed", "3").split("Legal: ")[1].split(", ")[0]
    said = play(f"{legal.replace(' ', '')} undo quit", runs["backgammon"], "--seed", "3")
    assert dice(once)[0] == dice(said)[0] == dice(said)[-1]
    assert "The agent plays" in said


def test_values_in_another_unit_are_not_told(runs: dict[str, str], play: Typist) -> None:
    said = play("? quit", runs["backgammon"])
    assert "The agent would play" in said and "it expects" not in said


def test_a_card_is_shown_at_the_end(runs: dict[str, str], play: Typist) -> None:
    """Kuhn poker: what is shown is one's own card (0 to 2) and then what both did, p or b; at the end both cards."""
    for seed in "012345":
        dealt = play("quit", runs["kuhn_poker"], "--seed", seed).splitlines()
        assert dealt[2] in ("0", "1", "2")
        said = play("Pass Pass", runs["kuhn_poker"], "--seed", seed, "--show-probabilities")
        *before, end, _ = said.splitlines()
        assert dealt[2] in before and not any(len(line.split()) == 2 and line[0] in "012" for line in before)
        own, other = end.split()[:2]
        assert own == dealt[2] and other in "012"
        assert "The agent moves." in said and "The agent plays" not in said


def test_a_hidden_stone_stays_hidden(runs: dict[str, str], play: Typist) -> None:
    said = play("quit", runs["phantom_ttt"], "--second", "--show-probabilities")
    before, after = said.split("The agent moves.")
    assert "would play" not in before  # what the agent thinks of its own move tells where it goes
    assert after.splitlines()[2:5] == ["...", "...", "..."]


@pytest.mark.parametrize(
    ("game", "moves", "typed", "action"),
    [
        ("tic_tac_toe", [], "c1", 2),
        ("tic_tac_toe", [], "x(0,2)", 2),
        ("tic_tac_toe", [2], "c1", None),
        ("connect_four", [], "4", 3),
        ("connect_four", [], "x3", 3),
        ("connect_four", [], "0", None),
        ("gomoku(size=9)", [], "B3", 19),
        ("othello", [], "D3", 19),
        ("go(board_size=9)", [], "b2", 10),
        ("go(board_size=9)", [], "PASS", 81),
        ("hex(board_size=5)", [], "b2", 6),
        ("mnk(m=30,n=3,k=3)", [], "ab1", 27),
    ],
)
def test_moves_by_name(game: str, moves: list[int], typed: str, action: int | None) -> None:
    state = pyspiel.load_game(game).new_initial_state()
    for move in moves:
        state.apply_action(move)
    assert find_move(state, typed) == action


@pytest.mark.parametrize(
    "game",
    [
        "chess",
        "othello",
        "connect_four",
        "breakthrough",
        "checkers",
        "go(board_size=5)",
        "gomoku(size=5)",
        "hex(board_size=4)",
    ],
)
def test_every_move_is_found_by_its_name(game: str) -> None:
    state = pyspiel.load_game(game).new_initial_state()
    while not state.is_terminal() and state.move_number() < 12:
        legal = state.legal_actions()
        for action in legal:
            assert find_move(state, move_name(state, action)) == action
        state.apply_action(legal[state.move_number() * 7 % len(legal)])


def test_capitals_tell_a_bishop_from_a_pawn() -> None:
    state = pyspiel.load_game("chess(chess960=false)").new_initial_state(
        "rnbqkbnr/pp1ppppp/8/2p5/8/P7/1PPPPPPP/RNBQKBNR w KQkq - 0 2"
    )
    names = {move_name(state, action) for action in state.legal_actions()}
    assert {"b4", "Nf3"} <= names
    assert move_name(state, find_move(state, "nf3")) == "Nf3"


def test_boards() -> None:
    def shown(game: str, *actions: int) -> str:
        loaded = pyspiel.load_game(game)
        state = loaded.new_initial_state()
        for action in actions:
            state.apply_action(action)
        return board_text(state, Planes(loaded), seat=0)

    assert shown("tic_tac_toe", 1, 8).splitlines() == ["    a b c", "  1 . X .", "  2 . . .", "  3 . . O"]
    assert shown("connect_four", 3, 3, 0).splitlines()[-2:] == ["    . . . O . . .", "    X . . X . . ."]
    assert shown("connect_four").splitlines()[0] == "    1 2 3 4 5 6 7"
    chess = shown("chess").splitlines()
    assert chess[0] == "    a b c d e f g h" and chess[1] == "  8 r n b q k b n r" and chess[8] == "  1 R N B Q K B N R"
    assert shown("hex(board_size=3)", 1, 3).splitlines() == ["    a b c", "  1 . X .", "   2 O . .", "    3 . . ."]
    assert shown("othello").startswith("Black (x) to play:")  # as open_spiel prints it


def test_refusals(runs: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = runs["tic_tac_toe"]
    for arguments, sentence in [
        ((run, "--search", "-1"), "--search is -1 but should be at least 0"),
        ((run, "--seed", "-1"), "--seed is -1 but should be at least 0"),
        ((run, "--transcript", str(tmp_path)), "a folder, but should be a file"),
        ((str(tmp_path / "none"),), "there is no run folder"),
    ]:
        assert main(["play", *arguments]) == 2
        assert sentence in capsys.readouterr().err
