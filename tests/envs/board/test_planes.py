"""What the planes mean, against the printed position, and that a turned board is the same game."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyspiel")

from triathlon.envs import EnvError
from triathlon.envs.board import Planes, load_game

seeds, plies = st.integers(0, 2**32 - 1), st.integers(0, 60)


def position(game: Any, seed: int, num_plies: int) -> Any:
    """A position after random moves; the last one before the end of a shorter game."""
    rng, state = np.random.default_rng(seed), game.new_initial_state()
    for _ in range(num_plies):
        child = state.child(int(rng.choice(state.legal_actions())))
        if child.is_terminal():
            break
        state = child
    while state.is_chance_node():
        state.apply_action(int(rng.choice([outcome for outcome, _ in state.chance_outcomes()])))
    return state


def see(planes: Planes, state: Any, player: int | None = None) -> np.ndarray:
    return planes.see([state], np.array([state.current_player() if player is None else player]))[0]


def legal(planes: Planes, state: Any) -> np.ndarray:
    return planes.legal([state], np.array([state.current_player()]))[0]


def in_game(planes: Planes, state: Any, action: int) -> int:
    return int(planes.to_game(np.array([action]), np.array([state.current_player()]))[0])


@dataclass
class Printed:
    """How open_spiel prints a board: the lines, a letter for each plane of a player's pieces, which way up."""

    name: str
    pieces: tuple[str, str]  # of players 0 and 1
    line: str = r"^([^\s]+)$"
    rows_up: bool = False  # the last line is the first row of the planes
    turn: str = "none"  # for player 1
    parameters: Any = None

    def board(self, state: Any) -> np.ndarray:
        lines = re.findall(self.line, str(state), re.MULTILINE)
        board = np.array([list(line.replace(" ", "")) for line in lines])
        return board[::-1] if self.rows_up else board


PLAIN_HEX = {"board_size": 4, "plain_obs_tensor": True}
PRINTED = [
    Printed("tic_tac_toe", ("x", "o")),
    Printed("mnk", ("x", "o"), parameters={"m": 4, "n": 3}),
    Printed("connect_four", ("x", "o"), rows_up=True),
    Printed("connect_four", ("x", "o"), rows_up=True, parameters={"egocentric_obs_tensor": True, "columns": 5}),
    Printed("gomoku", ("b", "w"), r"^([bw.]+)$", parameters={"size": 5, "connect": 4}),
    Printed("othello", ("x", "o"), r"^\d (.+) \d$"),
    Printed("clobber", ("o", "x"), r"^\d([xo.]+)$"),
    Printed("lines_of_action", ("x", "o"), r"^\d([xo.]+)$", rows_up=True),
    Printed("go", ("X", "O"), r"^ \d ([XO+]+)$", rows_up=True, parameters={"board_size": 5, "komi": 3.5}),
    Printed("amazons", ("X", "O"), parameters={"board_size": 6}),
    Printed("breakthrough", ("b", "w"), r"^\d([bw.]+)$", turn="ranks", parameters={"rows": 5, "columns": 3}),
    Printed("breakthrough", ("b", "w"), r"^\d([bw.]+)$", turn="ranks"),
    Printed("checkers", ("o8", "+*"), r"^\d([o8+*.]+)$", turn="half"),
    Printed("hex", ("x", "o"), r"^ *([xo. ]+?) *$", turn="transpose", parameters=PLAIN_HEX),
    Printed("hex", ("x", "o"), r"^ *([xo. ]+?) *$", turn="transpose", parameters=PLAIN_HEX | {"swap": True}),
    Printed("chess", ("kqrbnp", "KQRBNP"), turn="fen"),
    Printed("antichess", ("kqrbnp", "KQRBNP"), turn="fen"),
]


@pytest.mark.parametrize("printed", PRINTED, ids=lambda printed: f"{printed.name}-{printed.parameters}")
@settings(max_examples=25, deadline=None)
@given(seed=seeds, num_plies=plies)
def test_own_pieces_first_then_the_opponents(printed: Printed, seed: int, num_plies: int) -> None:
    game = load_game(printed.name, printed.parameters)
    planes, state = Planes(game), position(game, seed, num_plies)
    mover = state.current_player()
    if printed.turn == "fen":
        ranks = re.sub(r"\d", lambda digit: "." * int(digit[0]), str(state).split()[0]).split("/")
        board = np.array([list(rank) for rank in (ranks if mover == 0 else ranks[::-1])])
    else:
        board = printed.board(state)
        turned = {"none": board, "ranks": board[::-1], "half": board[::-1, ::-1], "transpose": board.T}
        board = turned[printed.turn] if mover == 1 else board
    seen = see(planes, state)
    pieces = printed.pieces[mover] + printed.pieces[1 - mover]
    assert len(seen) >= len(pieces)
    assert seen.shape[1:] == board.shape
    for plane, piece in zip(seen, pieces, strict=False):
        assert (plane == (board == piece)).all()


@pytest.mark.parametrize("name", ["tic_tac_toe", "mnk", "gomoku", "y", "havannah", "hex", "clobber", "pentago"])
@settings(max_examples=15, deadline=None)
@given(seed=seeds, num_plies=plies)
def test_a_move_adds_to_the_own_pieces(name: str, seed: int, num_plies: int) -> None:
    """Actions are cells, but for pentago's (cell and rotation) and clobber's (a piece moves on to another)."""
    game = load_game(name)
    planes, state = Planes(game), position(game, seed, num_plies)
    mover, before, mask = state.current_player(), see(planes, state), legal(planes, state)
    action = int(np.random.default_rng(seed).choice(np.flatnonzero(mask)))
    state.apply_action(in_game(planes, state, action))
    after, kinds = see(planes, state, mover), 4 if name == "hex" else 1
    added = after[:kinds].sum(0) - before[:kinds].sum(0).astype(int)
    lost = before[kinds : 2 * kinds].sum() - after[kinds : 2 * kinds].sum(dtype=int)
    assert lost == (name == "clobber")
    assert added.sum() == (name != "clobber")
    if name not in ("clobber", "pentago"):
        assert np.flatnonzero(added).tolist() == [action]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, num_plies=plies)
def test_mens_morris_counts(seed: int, num_plies: int) -> None:
    game = load_game("nine_mens_morris")
    planes, state = Planes(game), position(game, seed, num_plies)
    board, seen = str(state).partition("Current player")[0], see(planes, state)
    letters = "WB" if state.current_player() == 0 else "BW"
    assert [int(plane.sum()) for plane in seen[:2]] == [board.count(letter) for letter in letters]
    assert seen[:3].sum() == 24


@dataclass
class Moves:
    """What an action does to the own pieces of whoever moves: where from, and in which direction."""

    name: str
    shape: tuple[int, ...]  # of an action: row, column, direction, whether it takes
    directions: tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    "moves",
    [
        Moves("breakthrough", (8, 8, 6, 2), ((1, -1), (1, 0), (1, 1))),  # always down the rows
        Moves("checkers", (8, 8, 4, 2), ((-1, -1), (-1, 1), (1, 1), (1, -1))),
    ],
    ids=lambda moves: moves.name,
)
@settings(max_examples=40, deadline=None)
@given(seed=seeds, num_plies=st.integers(0, 90))
def test_an_action_does_the_same_for_both_players(moves: Moves, seed: int, num_plies: int) -> None:
    game = load_game(moves.name)
    planes, state = Planes(game), position(game, seed, num_plies)
    mover, actions = state.current_player(), np.flatnonzero(legal(planes, state))
    assert len(actions) == len(state.legal_actions())
    kinds = 1 if moves.name == "breakthrough" else 2
    own, other = see(planes, state)[:kinds].sum(0), see(planes, state)[kinds : 2 * kinds].sum(0)
    for action in actions:
        row, column, direction, takes = (int(i) for i in np.unravel_index(action, moves.shape))
        length = 2 if takes and moves.name == "checkers" else 1
        down, right = (length * step for step in moves.directions[direction])
        after = see(planes, state.child(in_game(planes, state, int(action))), mover)
        assert own[row, column] == 1 and own[row + down, column + right] == 0
        moved = own.copy()
        moved[row, column], moved[row + down, column + right] = 0, 1
        assert (after[:kinds].sum(0) == moved).all()
        assert other.sum() - after[kinds : 2 * kinds].sum() == takes


@settings(max_examples=40, deadline=None)
@given(seed=seeds, num_plies=plies, name=st.sampled_from(["chess", "antichess"]))
def test_a_mirrored_chess_position_is_the_same(seed: int, num_plies: int, name: str) -> None:
    game = load_game(name)
    planes = Planes(game)
    state = game.new_initial_state(str(position(game, seed, num_plies)))
    other = game.new_initial_state(mirrored(str(state)))
    assert {state.current_player(), other.current_player()} == {0, 1}
    rng = np.random.default_rng(seed)
    for _ in range(6):
        assert (see(planes, state) == see(planes, other)).all()
        mask = legal(planes, state)
        assert (mask == legal(planes, other)).all()
        action = int(rng.choice(np.flatnonzero(mask)))
        for each in (state, other):
            each.apply_action(in_game(planes, each, action))
        assert state.is_terminal() == other.is_terminal()
        if state.is_terminal():
            assert state.returns() == other.returns()[::-1]
            break


def mirrored(fen: str) -> str:
    """The same position with colours exchanged (ranks turned, capitals for small letters)."""
    board, turn, castling, en_passant, *counts = fen.split()
    board = "/".join(board.split("/")[::-1]).swapcase()
    castling = "".join(sorted(castling.swapcase())) if castling != "-" else "-"
    en_passant = en_passant if en_passant == "-" else en_passant[0] + str(9 - int(en_passant[1]))
    return " ".join([board, "b" if turn == "w" else "w", castling, en_passant, *counts])


def test_chess_castling_counts_and_repetitions() -> None:
    game = load_game("chess")
    planes = Planes(game)
    fen = "r3k2r/8/8/8/8/8/8/R3K2R {} {} - 7 9"
    for turn, rights in (("w", "KQkq"), ("b", "kqKQ")):  # the side to move's own come first
        for kept in rights:
            state = game.new_initial_state(fen.format(turn, kept))
            queens_side = {"K": 1, "Q": 0}[kept.upper()]
            wanted = np.zeros(4)
            wanted[queens_side + 2 * (rights.index(kept) > 1)] = 1
            assert (see(planes, state)[15:, 0, 0] == wanted).all()
            assert see(planes, state)[14, 0, 0] == pytest.approx(7 / 101)
    state = game.new_initial_state()
    for move in ("Nf3", "Nf6", "Ng1", "Ng8"):
        assert see(planes, state)[13].max() == 0
        state.apply_action(state.string_to_action(move))
    assert (see(planes, state)[13] == 0.5).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_plies=st.integers(0, 40))
def test_go_with_colours_exchanged_is_the_same(seed: int, num_plies: int) -> None:
    """A first pass exchanges the colours; only the last plane (White, who has komi, is to move) tells."""
    game = load_game("go", {"board_size": 5, "max_game_length": 100})
    planes, rng = Planes(game), np.random.default_rng(seed)
    state, other = game.new_initial_state(), game.new_initial_state()
    other.apply_action(25)
    for _ in range(num_plies):
        mask = legal(planes, state)
        assert (mask == legal(planes, other)).all()
        assert mask[25]
        assert (see(planes, state)[:3] == see(planes, other)[:3]).all()
        assert (see(planes, state)[3] == state.current_player()).all()
        assert (see(planes, other)[3] == other.current_player()).all()
        action = int(rng.choice(np.flatnonzero(mask[:25]))) if mask[:25].any() else 25
        state.apply_action(action)
        other.apply_action(action)
        if state.is_terminal() or other.is_terminal():
            break


@pytest.mark.parametrize("plain", [False, True])
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_own_hex_stones_join_the_first_row_to_the_last(plain: bool, seed: int) -> None:
    game = load_game("hex", {"board_size": 4, "plain_obs_tensor": plain})
    planes, rng, state = Planes(game), np.random.default_rng(seed), game.new_initial_state()
    kinds = 1 if plain else 4
    while True:
        mover = state.current_player()
        mask, seen = legal(planes, state), see(planes, state)
        assert (mask.reshape(4, 4) == (seen[-1] == 1)).all()  # the empty cells, in the mover's own names
        assert (seen.sum(0) == 1).all()
        action = int(rng.choice(np.flatnonzero(mask)))
        state.apply_action(in_game(planes, state, action))
        after = see(planes, state, mover)
        own, other = after[:kinds].sum(0), after[kinds : 2 * kinds].sum(0)
        assert own.reshape(-1)[action] == 1
        assert joins(own) == state.is_terminal()
        assert not joins(other.T)
        if state.is_terminal():
            assert state.returns()[mover] == 1
            return
        if not plain:
            for view in (after, see(planes, state)):
                own = view[:4].sum(0)
                assert ((view[1] == 1) == joined(own, 3)).all()
                assert ((view[2] == 1) == joined(own, 0)).all()


def joined(stones: np.ndarray, row: int) -> np.ndarray:
    """Which stones are joined to a row by stones."""
    found = np.zeros(stones.shape, bool)
    waiting = deque((row, column) for column in range(stones.shape[1]) if stones[row, column])
    while waiting:
        r, c = waiting.popleft()
        if 0 <= r < len(stones) and 0 <= c < len(stones[0]) and stones[r, c] and not found[r, c]:
            found[r, c] = True
            waiting += [(r, c - 1), (r, c + 1), (r - 1, c), (r + 1, c), (r - 1, c + 1), (r + 1, c - 1)]
    return found


def joins(stones: np.ndarray) -> bool:
    return bool(joined(stones, 0)[-1].any())


@settings(max_examples=40, deadline=None)
@given(seed=seeds, num_plies=plies)
def test_backgammon_points_are_the_movers(seed: int, num_plies: int) -> None:
    """The points that moves are named after hold own checkers; index 0 is the 24-point, the last four are 20 to 1."""
    game = load_game("backgammon")
    planes, state = Planes(game), position(game, seed, num_plies)
    if state.is_terminal():
        return
    seen = see(planes, state)
    occupied = (seen[:192].reshape(2, 24, 4) > 0).any(2)
    own, other = occupied[0], occupied[1]
    assert not (own & other).any()
    for action in state.legal_actions():
        for start in re.findall(r"(?:^| )(\d+)/", state.action_to_string(action).partition(" - ")[2]):
            landed = re.search(rf"/{start}\b", state.action_to_string(action))
            assert own[24 - int(start)] or landed
    if num_plies == 0:
        assert np.flatnonzero(own).tolist() == [0, 11, 16, 18]
        assert np.flatnonzero(other).tolist() == [5, 7, 12, 23]
    assert seen[194] == 1  # it is the mover's turn
    assert set(seen[-2:]) <= {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(("name", "num_pits"), [("mancala", 6), ("oware", 6)])
@settings(max_examples=30, deadline=None)
@given(seed=seeds, num_plies=plies)
def test_pits_are_the_movers(name: str, num_pits: int, seed: int, num_plies: int) -> None:
    game = load_game(name)
    planes, state = Planes(game), position(game, seed, num_plies)
    mover, seen, first = state.current_player(), see(planes, state), int(name == "mancala")
    actions = np.flatnonzero(legal(planes, state)) - first
    lines = [[int(number) for number in re.findall(r"\d+", line)] for line in str(state).splitlines()]
    if name == "mancala":  # player 0's pits run to the right below, player 1's to the left above
        pits, stores = (lines[2], lines[0][::-1]), (lines[1][1], lines[1][0])
        assert seen.tolist() == [*pits[mover], stores[mover], *pits[1 - mover], stores[1 - mover]]
        assert actions.tolist() == np.flatnonzero(seen[:num_pits]).tolist()
    else:
        pits, scores = (lines[3], lines[2][::-1]), (lines[5][1], lines[0][1])
        wanted = [*pits[mover], *pits[1 - mover], scores[mover], scores[1 - mover]]
        assert (seen * 48).round().astype(int).tolist() == wanted
        assert set(actions) <= set(np.flatnonzero(seen[:num_pits]))


def test_a_hex_board_that_is_not_square_is_refused() -> None:
    with pytest.raises(EnvError, match=r"board/hex: .* set parameters.board_size, found 3 rows and 4 columns"):
        Planes(load_game("hex", {"num_rows": 3, "num_cols": 4}))


def test_dots_and_boxes_by_owner() -> None:
    game = load_game("dots_and_boxes", {"num_rows": 1, "num_cols": 1})
    planes, state = Planes(game), game.new_initial_state()
    for action in (0, 1, 2):
        state.apply_action(action)
    state.apply_action(3)  # player 1 closes the box and the game is over
    for player, owned in ((0, (2, 3)), (1, (3, 2))):
        seen = see(planes, state, player).reshape(3, -1)
        assert tuple(seen[:2].sum(1)) == owned


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "liars_dice", "dark_hex"])
def test_hidden_information_stays_hidden(name: str) -> None:
    """What is seen is the information state of the side to move, and no more than who that is."""
    game = load_game(name)
    planes = Planes(game)
    for seed in range(10):
        state = position(game, seed, seed % 4)
        if not state.is_terminal():
            wanted = state.information_state_tensor(state.current_player())
            assert np.allclose(see(planes, state)[: len(wanted)], wanted)
            if len(planes.space.shape) and planes.space.shape[0] > len(wanted):
                assert see(planes, state)[-1] == state.current_player()


@pytest.mark.parametrize("name", ["breakthrough", "checkers", "hex", "mancala", "connect_four"])
def test_actions_there_and_back(name: str) -> None:
    planes = Planes(load_game(name))
    actions = np.arange(planes.num_actions)
    for player in (0, 1):
        players = np.full(planes.num_actions, player)
        assert (planes.from_game(planes.to_game(actions, players), players) == actions).all()
