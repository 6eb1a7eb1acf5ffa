"""Players choose legally, by name, and as their descriptions say."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyspiel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.envs import EnvError
from triathlon.envs.board.exact import GameGraph
from triathlon.envs.board.player import Player, PlayerError, choose_all
from triathlon.envs.board.players import make_player
from triathlon.envs.board.players.reversi import COUNTS, ReversiPlayer

TIC_TAC_TOE = pyspiel.load_game("tic_tac_toe")
CONNECT_FOUR = pyspiel.load_game("connect_four")
OTHELLO = pyspiel.load_game("othello")
GRAPH = GameGraph(TIC_TAC_TOE)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def after(game: pyspiel.Game, *actions: int) -> pyspiel.State:
    state = game.new_initial_state()
    for action in actions:
        state.apply_action(action)
    return state


def random_states(game: pyspiel.Game, seed: int, num_games: int = 1) -> list[pyspiel.State]:
    """Every position of random games in which somebody is to move."""
    generator, states = rng(seed), []
    for _ in range(num_games):
        state = game.new_initial_state()
        while not state.is_terminal():
            if state.is_player_node():
                states.append(state.clone())
            state.apply_action(int(generator.choice(state.legal_actions())))
    return states


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("random", "kuhn_poker"),
        ("random", "chess"),
        ("greedy", "backgammon"),
        ("greedy", "othello"),
        ("mcts:5", "backgammon"),
        ("mcts:5", "breakthrough"),
        ("minimax:2", "hex(board_size=5)"),
        ("perfect", "tic_tac_toe"),
        ("rust-reversi:2", "othello"),
        ("rust-reversi:2:squares", "othello"),
    ],
)
def test_every_player_chooses_legally(name: str, game: str) -> None:
    loaded = pyspiel.load_game(game)
    states = random_states(loaded, seed=1)[:60]
    player = make_player(name, loaded, rng())
    actions = player.choose(states)
    player.close()
    assert isinstance(player, Player) and player.name == name
    assert all(action in state.legal_actions() for action, state in zip(actions, states, strict=True))


@pytest.mark.parametrize(
    ("name", "game", "sentence"),
    [
        ("mtcs:100", "chess", "unknown player 'mtcs:100'; did you mean mcts?; players are random, greedy, mcts:1000"),
        ("mcts", "chess", "player 'mcts': its simulations must be a whole number from 1 to 10000000, as in mcts:1000"),
        ("mcts:0", "chess", "whole number from 1"),
        ("mcts:many", "chess", "whole number from 1"),
        ("mcts:10", "kuhn_poker", "it would see the other side's cards; random can"),
        ("greedy", "leduc_poker", "it would see the other side's cards; random can"),
        ("greedy:2", "chess", "player greedy takes no '2'"),
        ("minimax:3", "backgammon", "it searches games without chance; mcts:1000 can"),
        ("perfect", "backgammon", "needs a game with no chance"),
        ("rust-reversi:3", "chess", "rust-reversi:3 plays othello, not chess()"),
        ("rust-reversi:3:corners", "othello", "it counts discs, mobility, squares, as in rust-reversi:3:squares"),
        ("stockfish:21", "chess", "skill level must be a whole number from 0 to 20, as in stockfish:0"),
        ("stockfish:-1", "chess", "whole number from 0 to 20"),
        ("fairy-stockfish:-21", "chess", "whole number from -20 to 20"),
        ("stockfish:0:0", "chess", "its milliseconds a move must be a whole number from 1"),
        ("stockfish:0", "othello", "plays chess and breakthrough on 8×8, not othello()"),
        ("stockfish:0", "chess(chess960=true)", "plays chess and breakthrough on 8×8"),
        ("fairy-stockfish:0", "breakthrough(rows=6,columns=6)", "plays chess and breakthrough on 8×8"),
        ("gnugo:11", "go", "level must be a whole number from 1 to 10"),
        ("gnugo:1", "chess", "plays go without handicap, not chess()"),
        ("gnugo:1", "go(handicap=2)", "plays go without handicap"),
        ("uci:", "chess", "a command must follow, as in uci:/path/to/engine"),
        ("gtp:'unfinished", "go", "the command cannot be read: No closing quotation"),
        ("uci:/nowhere/engine", "chess", "needs the program /nowhere/engine, which is neither on the PATH nor in"),
    ],
)
def test_a_bad_name_or_the_wrong_game_is_one_sentence(name: str, game: str, sentence: str) -> None:
    with pytest.raises(EnvError) as caught:
        make_player(name, pyspiel.load_game(game), rng())
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rust_reversi", None)
    with pytest.raises(EnvError, match=r'rust-reversi:3 needs rust-reversi.*pip install "triathlon\[engines\]"'):
        make_player("rust-reversi:3", OTHELLO, rng())


def test_random_chooses_every_legal_action_equally_often() -> None:
    state = after(TIC_TAC_TOE, 4, 0)
    counts = Counter(make_player("random", TIC_TAC_TOE, rng()).choose([state] * 7_000))
    assert sorted(counts) == [1, 2, 3, 5, 6, 7, 8]
    assert all(abs(count - 1_000) < 150 for count in counts.values())  # five standard deviations


@pytest.mark.parametrize("name", ["greedy", "mcts:200", "minimax:3"])
def test_it_wins_at_once_and_stops_a_win(name: str) -> None:
    player = make_player(name, TIC_TAC_TOE, rng())
    # x x .         x x .
    # o o .         . o .
    # . . . x wins, . . . o must block, both at 2
    assert player.choose([after(TIC_TAC_TOE, 0, 3, 1, 4)] * 20) == [2] * 20
    assert player.choose([after(TIC_TAC_TOE, 0, 4, 1)] * 20) == [2] * 20


def test_greedy_is_random_where_nothing_is_at_stake() -> None:
    chosen = make_player("greedy", CONNECT_FOUR, rng()).choose([CONNECT_FOUR.new_initial_state()] * 300)
    assert set(chosen) == set(range(7))


def test_greedy_never_misses_a_win_nor_gives_one_away() -> None:
    player, given_away, threatened = make_player("greedy", CONNECT_FOUR, rng()), 0, 0
    for state in random_states(CONNECT_FOUR, seed=2, num_games=40):
        mover = state.current_player()
        children = {action: state.child(action) for action in state.legal_actions()}
        wins = {action for action, child in children.items() if child.is_terminal() and child.player_return(mover) > 0}
        safe = {action for action, child in children.items() if not _wins_next(child)}
        (action,) = player.choose([state])
        assert action in (wins or safe or children)
        given_away += not wins and not safe
        threatened += not wins and 0 < len(safe) < len(children)
    assert given_away > 0 and threatened > 20


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_minimax_plays_small_games_exactly_and_wins_soon_or_loses_late(seed: int, ply: int) -> None:
    states = random_states(TIC_TAC_TOE, seed)
    state = states[min(ply, len(states) - 1)]
    (action,) = make_player("minimax:9", TIC_TAC_TOE, rng(seed)).choose([state])
    assert action in GRAPH.best_actions(state)
    mover, legal = state.current_player(), state.legal_actions()
    ends = {action: _end(state.child(action), mover) for action in legal}
    assert ends[action] == max(ends.values())


def test_minimax_draws_among_equal_moves() -> None:
    chosen = [make_player("minimax:9", TIC_TAC_TOE, rng(s)).choose([after(TIC_TAC_TOE, 0, 4)])[0] for s in range(40)]
    assert set(chosen) == set(GRAPH.best_actions(after(TIC_TAC_TOE, 0, 4)))


def test_searches_repeat_themselves_by_their_generator() -> None:
    states = random_states(CONNECT_FOUR, seed=3)
    first, again, other = (make_player("mcts:30", CONNECT_FOUR, rng(seed)).choose(states) for seed in (1, 1, 2))
    assert first == again != other


def test_rust_reversi_sees_the_board_that_we_see() -> None:
    player = ReversiPlayer(OTHELLO, depth=1)
    passes = 0
    for state in random_states(OTHELLO, seed=0, num_games=20):
        board = player._board(state)
        passes += state.legal_actions() == [64]
        assert (sorted(board.get_legal_moves_vec()) or [64]) == state.legal_actions()
        assert board.player_piece_num() == _discs(state, state.current_player())
        assert board.opponent_piece_num() == _discs(state, 1 - state.current_player())
    assert passes > 0


def test_rust_reversi_looks_a_ply_further_than_its_depth() -> None:
    player, checked = make_player("rust-reversi:1", OTHELLO, rng()), 0
    for state in random_states(OTHELLO, seed=4, num_games=3):
        mover = state.current_player()
        children = {action: state.child(action) for action in state.legal_actions()}
        if state.move_number() >= 45:  # near the end it counts wins, not discs
            continue
        if all(child.current_player() == 1 - mover and child.legal_actions() != [64] for child in children.values()):
            worst = {
                action: min(_lead(child.child(reply), mover) for reply in child.legal_actions())
                for action, child in children.items()
            }
            checked += len(children) > 1
            assert worst[player.choose([state])[0]] == max(worst.values())
    assert checked > 50


def test_what_rust_reversi_counts_changes_its_play() -> None:
    states = random_states(OTHELLO, seed=5)
    played = {counts: tuple(ReversiPlayer(OTHELLO, 3, counts).choose(states)) for counts in COUNTS}
    assert len(set(played.values())) == 3


class FailsInTheCorner:
    """Plays the first square, cannot go on where it is taken, and after two plies names a square that is none."""

    name = "corner"

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        chosen: list[int] = []
        for index, state in enumerate(states):
            if 0 not in state.legal_actions():
                raise PlayerError("corner is stuck", index, chosen)
            chosen.append(99 if state.move_number() == 2 else 0)
        return chosen

    def close(self) -> None:
        pass


def test_a_failure_ends_one_game_and_the_others_are_asked_again() -> None:
    stuck, fine, wrong = after(TIC_TAC_TOE, 0), after(TIC_TAC_TOE, 5), after(TIC_TAC_TOE, 5, 6)
    answers = choose_all(FailsInTheCorner(), [fine, stuck, fine, wrong, stuck, fine])
    assert [answer if isinstance(answer, int) else str(answer) for answer in answers] == [
        0,
        "corner is stuck",
        0,
        "corner chose action 99, which is not legal at ply 2",
        "corner is stuck",
        0,
    ]


def _wins_next(state: pyspiel.State) -> bool:
    """Whether whoever is to move can win by that move."""
    if state.is_terminal():
        return False
    mover = state.current_player()
    return any(state.child(action).returns()[mover] > 0 for action in state.legal_actions())


def _end(state: pyspiel.State, player: int) -> tuple[float, int]:
    """The result of perfect play for `player`, and how good its time is: wins soon, losses late."""
    if state.is_terminal():
        result = state.returns()[player]
        return result, -int(result) * state.move_number()
    ends = [_end(state.child(action), player) for action in state.legal_actions()]
    return max(ends) if state.current_player() == player else min(ends)


def _lead(state: pyspiel.State, player: int) -> int:
    return _discs(state, player) - _discs(state, 1 - player)


def _discs(state: pyspiel.State, player: int) -> int:
    return sum(line.count("xo"[player]) for line in str(state).splitlines()[2:10])
