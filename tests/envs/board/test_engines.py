"""Engines play whole games, and whatever they do wrong ends one game and leaves no process behind.

Most engines here are small programs written for the purpose; those of Debian are marked external.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyspiel
import pytest

from tests.envs.board.playing import random_positions
from triathlon.envs import EnvError
from triathlon.envs.board.player import Player, PlayerError, choose_all
from triathlon.envs.board.players import make_player
from triathlon.envs.board.players.engine import EnginePlayer
from triathlon.envs.board.players.gtp import GtpPlayer
from triathlon.envs.board.players.uci import UciPlayer
from triathlon.training.board.arena import play_match

CHESS = pyspiel.load_game("chess")
BREAKTHROUGH = pyspiel.load_game("breakthrough")
GO = pyspiel.load_game("go(board_size=5)")

# Speaks UCI and plays a random legal move by python-chess, except in positions of at least FAIL_AT plies, where it
# does what MISDEED says.
UCI_ENGINE = """
import os, random, sys, time, chess
misdeed, fail_at = sys.argv[1], int(sys.argv[2])
def say(text): print(text, flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "uci":
        say("id name random")
        say("option name Skill Level type spin default 9 min 0 max 20")
        say("uciok")
    elif words[0] == "isready": say("readyok")
    elif words[0] == "position":
        at = words.index("moves") if "moves" in words else len(words)
        board = chess.Board(" ".join(words[2:at]))
        for move in words[at + 1:]: board.push_uci(move)
    elif words[0] == "go":
        say("info depth 1")
        move = random.choice(list(board.legal_moves)).uci()
        if len(board.move_stack) < fail_at: say(f"bestmove {move} ponder a1a1")
        elif misdeed == "crash": sys.exit("the engine is out of hay")
        elif misdeed == "hang": time.sleep(60)
        elif misdeed == "babble":
            while True: print("info string " + "x" * 50)
        elif misdeed == "endless line":
            while True: sys.stdout.write("x" * 10000)
        elif misdeed == "nonsense": say("bestmove z9z9")
        elif misdeed == "silence": say("bestmove")
    elif words[0] == "quit" and misdeed != "stays": break
while misdeed == "stays": time.sleep(1)
"""

# Speaks GTP and always passes; from the FAIL_AT-th move on it does what MISDEED says.
GTP_ENGINE = """
import sys, time
misdeed, fail_at, moves = sys.argv[1], int(sys.argv[2]), 0
def say(text): print(text + "\\n", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "clear_board": moves = 0
    if words[0] == "play": moves += 1
    if words[0] == "play" and misdeed == "refuse" and moves > fail_at: say("? illegal move"); continue
    if words[0] == "quit": say("="); break
    if words[0] != "genmove" or moves < fail_at or misdeed == "refuse": say("= pass" if words[0] == "genmove" else "=")
    elif misdeed == "crash": sys.exit(3)
    elif misdeed == "hang": time.sleep(60)
    elif misdeed == "nonsense": say("= z99")
    elif misdeed == "babble": say("what?")
    moves += words[0] == "genmove"
"""


@pytest.fixture
def players() -> Iterator[list[EnginePlayer]]:
    """Players to be closed after the test; then their last engines must be gone."""
    opened: list[EnginePlayer] = []
    yield opened
    pids = [pid_of(player) for player in opened if player._engine is not None]
    for player in opened:
        player.close()
    assert not any(is_alive(pid) for pid in pids)


def uci(folder: Path, misdeed: str = "none", fail_at: int = 10_000, timeout: float = 10.0) -> UciPlayer:
    return UciPlayer(CHESS, script(folder, UCI_ENGINE, misdeed, fail_at), "test-uci", 0.01, timeout=timeout)


def gtp(folder: Path, misdeed: str = "none", fail_at: int = 10_000, timeout: float = 10.0) -> GtpPlayer:
    return GtpPlayer(GO, script(folder, GTP_ENGINE, misdeed, fail_at), "test-gtp", timeout)


def script(folder: Path, source: str, misdeed: str, fail_at: int) -> list[str]:
    path = folder / "engine.py"
    path.write_text(source)
    return [sys.executable, str(path), misdeed, str(fail_at)]


def pid_of(player: EnginePlayer) -> int:
    assert player._engine is not None
    return player._engine.pid


def is_alive(pid: int) -> bool:
    """Whether a process runs or waits to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_gone_soon(pid: int) -> bool:
    for _ in range(100):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def random_player(game: pyspiel.Game) -> Player:
    return make_player("random", game, np.random.default_rng(0))


def test_whole_games_over_uci(tmp_path: Path, players: list[EnginePlayer]) -> None:
    players.append(uci(tmp_path))
    result = play_match(players[0], random_player(CHESS), CHESS, 2, np.random.default_rng(0))
    assert result.errors == [] and len(result.games) == 2 and result.mean_plies > 20


def test_an_engine_is_told_that_a_game_begins(tmp_path: Path, players: list[EnginePlayer]) -> None:
    """Once a game, also where games are played side by side, and whichever side it has."""
    heard = tmp_path / "heard"
    note = f"    open({str(heard)!r}, 'a').write('.' if line == 'ucinewgame\\n' else '')\n"
    source = UCI_ENGINE.replace("    words = line.split()\n", "    words = line.split()\n" + note)
    players.append(UciPlayer(CHESS, script(tmp_path, source, "none", 10_000), "test-uci", 0.001))
    assert heard.read_text() == "."  # at its start
    opponent, rng = random_player(CHESS), np.random.default_rng(0)
    for num_games, num_tables, total in ((2, 1, 3), (6, 6, 9)):
        play_match(players[0], opponent, CHESS, num_games, rng, "random", 3, num_tables=num_tables)
        assert len(heard.read_text()) == total


def test_whole_games_over_gtp(tmp_path: Path, players: list[EnginePlayer]) -> None:
    players.append(gtp(tmp_path))
    result = play_match(players[0], random_player(GO), GO, 4, np.random.default_rng(0))
    assert result.errors == [] and result.tally().num_games == 4
    state = GO.new_initial_state()
    for action in result.games[0].history:
        assert state.current_player() != result.games[0].a_seat or action == 25
        state.apply_action(action)


@pytest.mark.parametrize(
    ("protocol", "misdeed", "sentence"),
    [
        ("uci", "crash", "test-uci ended with exit status 1 (the engine is out of hay), at ply "),
        ("uci", "hang", "test-uci gave no answer to 'go movetime 10' in time, at ply "),
        ("uci", "babble", "test-uci gave no answer to 'go movetime 10' in time, at ply "),
        ("uci", "endless line", "test-uci gave no answer to 'go movetime 10' in time, at ply "),
        ("uci", "nonsense", "test-uci answered 'z9z9', which is no legal move, at ply "),
        ("uci", "silence", "test-uci answered '', which is no legal move, at ply "),
        ("gtp", "crash", "test-gtp ended with exit status 3, at ply "),
        ("gtp", "hang", "test-gtp gave no answer to 'genmove "),
        ("gtp", "nonsense", "test-gtp answered 'z99', which is no legal move, at ply "),
        ("gtp", "babble", "test-gtp answered 'what?' to 'genmove "),
        ("gtp", "refuse", "test-gtp refused 'play "),
    ],
)
def test_a_misdeed_forfeits_its_game_and_no_other(
    protocol: str, misdeed: str, sentence: str, tmp_path: Path, players: list[EnginePlayer]
) -> None:
    make, game = {"uci": (uci, CHESS), "gtp": (gtp, GO)}[protocol]
    players.append(
        make(tmp_path, misdeed, fail_at=3, timeout=0.5 if misdeed in ("hang", "babble", "endless line") else 10.0)
    )
    result = play_match(players[0], random_player(game), game, 2, np.random.default_rng(0))
    assert len(result.games) == 2
    assert [record.score for record in result.games if record.error is not None] == [0] * len(result.errors)
    assert result.errors and all(error.startswith(sentence) and "\n" not in error for error in result.errors)


def test_after_a_failure_a_new_engine_plays_and_the_old_one_is_gone(
    tmp_path: Path, players: list[EnginePlayer]
) -> None:
    players.append(uci(tmp_path, "crash", fail_at=1))
    first = pid_of(players[0])
    start, later = CHESS.new_initial_state(), CHESS.new_initial_state()
    later.apply_action(later.legal_actions()[0])
    answers = choose_all(players[0], [start, later, start])
    assert [isinstance(answer, PlayerError) for answer in answers] == [False, True, False]
    assert not is_alive(first) and pid_of(players[0]) != first


def test_an_engine_that_will_not_quit_is_killed_with_what_it_started(tmp_path: Path) -> None:
    starts_another = (
        "import subprocess; child = subprocess.Popen(['sleep', '60']); open('child', 'w').write(str(child.pid))"
    )
    path = tmp_path / "engine.py"
    path.write_text(starts_another.replace("'child'", repr(str(tmp_path / "child"))) + UCI_ENGINE)
    player = UciPlayer(CHESS, [sys.executable, str(path), "stays", "10000"], "stays")
    parent, child = pid_of(player), int((tmp_path / "child").read_text())
    assert is_alive(parent) and is_alive(child)
    player.close()
    player.close()
    assert not is_alive(parent) and is_gone_soon(child)


def test_an_engine_ends_with_a_player_that_nobody_closed(tmp_path: Path) -> None:
    player = uci(tmp_path)
    pid = pid_of(player)
    del player
    assert is_gone_soon(pid)


def test_an_engine_ends_with_python(tmp_path: Path) -> None:
    code = (
        "import sys, pyspiel\n"
        "from triathlon.envs.board.players.uci import UciPlayer\n"
        "player = UciPlayer(pyspiel.load_game('chess'), sys.argv[1:], 'forgotten')\n"
        "print(player._engine.pid)\n"
    )
    command = [sys.executable, "-c", code, *script(tmp_path, UCI_ENGINE, "none", 10_000)]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert is_gone_soon(pid)


@pytest.mark.parametrize(
    ("source", "patience", "sentence"),
    [
        ("import sys; sys.exit('no weights')", 30.0, r"x ended with exit status 1 \(no weights\)"),
        ("import time; time.sleep(60)", 1.0, "x gave no answer to 'uci' in time"),
        (UCI_ENGINE, 30.0, "cannot play chess so: the engine has no option 'Contempt'"),
    ],
)
def test_an_engine_that_does_not_start_is_one_sentence(
    source: str, patience: float, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(EnvError, match=sentence):
        UciPlayer(CHESS, script(tmp_path, source, "none", 0), "x", options={"Contempt": "5"}, start_timeout=patience)


def test_an_engine_that_cannot_play_the_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="x cannot play breakthrough so: the engine has no option 'UCI_Variant'"):
        UciPlayer(BREAKTHROUGH, script(tmp_path, UCI_ENGINE, "none", 0), "x")
    combo = UCI_ENGINE.replace("Skill Level type spin default 9 min 0 max 20", "UCI_Variant type combo var chess")
    with pytest.raises(EnvError, match="x cannot play breakthrough: its UCI_Variant does not offer 'breakthrough'"):
        UciPlayer(BREAKTHROUGH, script(tmp_path, combo, "none", 0), "x")


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.write_text("not a program")
    path.chmod(0o755)
    with pytest.raises(EnvError, match="cannot be run: Exec format error"):
        make_player(f"uci:{path}", CHESS, np.random.default_rng(0))


@pytest.mark.external
@pytest.mark.parametrize(
    ("name", "game", "wins"),
    [
        ("stockfish:0:5", "chess", 2),
        ("fairy-stockfish:-20:5", "chess", 0),  # as weak as it gets: every fifth game against random play is a draw
        ("fairy-stockfish:0:5", "breakthrough", 2),
        ("gnugo:1", "go(board_size=7)", 2),
    ],
)
def test_whole_legal_games_of_real_engines(name: str, game: str, wins: int, players: list[EnginePlayer]) -> None:
    loaded = pyspiel.load_game(game)
    players.append(make_player(name, loaded, np.random.default_rng(0)))
    result = play_match(players[0], random_player(loaded), loaded, 2, np.random.default_rng(0), "random", 2)
    assert result.errors == [] and result.tally().wins >= wins
    for record in result.games:
        state = loaded.new_initial_state()
        for action in record.history:
            assert action in state.legal_actions()
            state.apply_action(action)
        assert state.is_terminal()


@pytest.mark.external
def test_gnugo_sees_the_same_stones(players: list[EnginePlayer]) -> None:
    game = pyspiel.load_game("go(board_size=9)")
    player = make_player("gnugo:1", game, np.random.default_rng(0))
    players.append(player)
    for number, state in enumerate(random_positions(game, num_games=2, seed=4)):
        if number in (3, 30, 31, 60):
            (action,) = player.choose([state])
            child = state.child(action)
            for color, letter in (("black", "X"), ("white", "O")):
                vertices = player.ask(player._engine, f"list_stones {color}", 10.0).split()
                assert sorted(vertices) == sorted(stones(child, letter))


def stones(state: pyspiel.State, letter: str) -> list[str]:
    rows = [line.split() for line in str(state).splitlines()[2:11]]
    return ["ABCDEFGHJ"[x] + row for row, points in rows for x, point in enumerate(points) if point == letter]
