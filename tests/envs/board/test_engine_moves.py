"""Engines and this project call the same moves by the same names; Debian's engines are marked external."""

from __future__ import annotations

import time

import chess
import pyspiel
import pytest

from tests.envs.board.playing import random_positions
from triathlon.envs.board.players.engine import EngineProcess, find_program
from triathlon.envs.board.players.gtp import move_text
from triathlon.envs.board.players.uci import breakthrough_moves, chess_moves

CHESS = pyspiel.load_game("chess")
BREAKTHROUGH = pyspiel.load_game("breakthrough")


def test_chess_moves_are_those_of_python_chess() -> None:
    seen = {"castling": 0, "en passant": 0, "promotion": 0, "all": 0}
    board = chess.Board()
    for state in random_positions(CHESS, num_games=8, seed=2):
        start, moves, actions = chess_moves(state)
        if moves:
            board.push_uci(moves[-1])
        else:
            board = chess.Board(start.removeprefix("fen "))
        assert moves == [move.uci() for move in board.move_stack]
        assert {move.uci() for move in board.legal_moves} == set(actions)
        assert sorted(actions.values()) == state.legal_actions()
        assert board.board_fen() == str(state).split()[0]
        for move in board.legal_moves:
            seen["castling"] += board.is_castling(move)
            seen["en passant"] += board.is_en_passant(move)
            seen["promotion"] += move.promotion is not None
        seen["all"] += 1
    assert seen["all"] > 1_000 and min(seen.values()) > 0, seen


def test_every_chess_action_leads_where_its_move_leads() -> None:
    for number, state in enumerate(random_positions(CHESS, num_games=2, seed=5)):
        if number % 10 == 0:
            for move, action in chess_moves(state)[2].items():
                board = chess.Board(str(state))
                board.push_uci(move)
                assert board.board_fen() == str(state.child(action)).split()[0]


def test_breakthrough_moves_are_flipped() -> None:
    state = BREAKTHROUGH.new_initial_state()
    assert state.action_to_string(state.legal_actions()[0]) == "a7a6"
    assert min(breakthrough_moves(state)[2]) == "a2a3"
    state.apply_action(breakthrough_moves(state)[2]["a2a3"])
    state.apply_action(breakthrough_moves(state)[2]["h7g6"])
    assert breakthrough_moves(state)[1] == ["a2a3", "h7g6"]
    assert str(state).splitlines()[:3] == ["8bbbbbbbb", "7.bbbbbbb", "6b......."]


def test_go_moves_name_columns_without_i() -> None:
    game = pyspiel.load_game("go(board_size=19)")
    state = game.new_initial_state()
    assert [move_text(state, 0, action) for action in (0, 7, 8, 19, 360, 361)] == [
        "black a1",
        "black h1",
        "black j1",
        "black a2",
        "black t19",
        "black pass",
    ]
    assert move_text(state, 1, 18) == "white t1"


@pytest.mark.external
def test_fairy_stockfish_knows_the_same_breakthrough() -> None:
    engine = EngineProcess([find_program("fairy-stockfish", "test")])
    engine.send("setoption name UCI_Variant value breakthrough")
    for number, state in enumerate(random_positions(BREAKTHROUGH, num_games=6, seed=2)):
        if number % 3 == 0:
            start, moves, actions = breakthrough_moves(state)
            engine.send(f"position {start} moves {' '.join(moves)}")
            assert perft(engine) == set(actions)
    engine.close()


@pytest.mark.external
def test_stockfish_knows_the_same_chess() -> None:
    engine = EngineProcess([find_program("stockfish", "test")])
    for number, state in enumerate(random_positions(CHESS, num_games=6, seed=3)):
        if number % 10 == 0:
            start, moves, actions = chess_moves(state)
            engine.send(f"position {start} moves {' '.join(moves)}")
            assert perft(engine) == set(actions)
    engine.close()


def perft(engine: EngineProcess) -> set[str]:
    """The legal moves, as the engine counts them."""
    engine.send("go perft 1")
    moves: set[str] = set()
    while not (line := engine.read(time.monotonic() + 10, "perft")).startswith("Nodes searched"):
        move, colon, count = line.partition(": ")
        if colon and count == "1":
            moves.add(move)
    return moves
