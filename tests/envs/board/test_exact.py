"""Exact measures agree with open_spiel's, with known values and with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyspiel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from triathlon.envs import EnvError
from triathlon.envs.board import exact
from triathlon.envs.board.exact import BoardPolicy, GameGraph, nash_conv, policy_of, uniform_policy
from triathlon.envs.board.players import make_player
from triathlon.envs.board.solver_positions import SolverPositions

TINY = [
    "mnk(m=3,n=2,k=2)",
    "hex(board_size=2)",
    "hex(num_cols=3,num_rows=2)",
    "nim(pile_sizes=1;2;2)",
    "clobber(rows=2,columns=4)",
]


def load(game: str) -> pyspiel.Game:
    return pyspiel.load_game(game)


def noisy_policy(seed: int, greedy: bool = False) -> BoardPolicy:
    """A policy that depends on the position alone; `greedy` always does the same there."""

    def policy(states: Sequence[pyspiel.State]) -> NDArray[np.float64]:
        probs = np.zeros((len(states), states[0].num_distinct_actions()))
        for row, state in zip(probs, states, strict=True):
            legal = state.legal_actions()
            rng = np.random.default_rng([seed, *str(state).encode()])
            row[legal] = np.eye(len(legal))[rng.integers(len(legal))] if greedy else rng.dirichlet(np.ones(len(legal)))
        return probs

    return policy


def histories(state: pyspiel.State) -> list[pyspiel.State]:
    """Every history in which somebody moves."""
    if state.is_terminal():
        return []
    return [state] + [found for action in state.legal_actions() for found in histories(state.child(action))]


@pytest.mark.parametrize(
    ("game", "num_positions", "value"),
    [
        ("tic_tac_toe", 4_520, 0),
        ("hex(board_size=3)", 4_520, 1),
        ("breakthrough(rows=4,columns=3)", 5_657, 1),
        ("breakthrough(rows=5,columns=3)", 33_041, 1),
        ("connect_four(rows=4,columns=4)", 134_289, 0),
    ],
)
def test_values_of_perfect_play(game: str, num_positions: int, value: float) -> None:
    graph = GameGraph(load(game))
    assert len(graph.states) == num_positions and graph.value == value


def test_the_best_response_to_uniform_play_of_tic_tac_toe() -> None:
    found = GameGraph(load("tic_tac_toe")).exploitability(uniform_policy)
    assert found.against_second == pytest.approx(191 / 192)
    assert found.mean == pytest.approx(0.9598296957671957)  # pyspiel.exploitability, in ten seconds


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(TINY), st.integers(0, 1_000), st.booleans())
def test_exploitability_is_open_spiels(game: str, seed: int, greedy: bool) -> None:
    loaded, policy = load(game), noisy_policy(seed, greedy)
    states = histories(loaded.new_initial_state())
    table = {
        state.information_state_string(): [(action, float(row[action])) for action in state.legal_actions()]
        for state, row in zip(states, policy(states), strict=True)
    }
    assert GameGraph(loaded).exploitability(policy).mean == pytest.approx(pyspiel.exploitability(loaded, table))


def loses(state: pyspiel.State, side: int, policy: BoardPolicy) -> bool:
    """Whether `side`, playing what `policy` may play, can be beaten from here: by walking the whole tree."""
    if state.is_terminal():
        return state.player_return(side) < 0
    probs = policy([state])[0]
    return any(
        loses(state.child(action), side, policy)
        for action in state.legal_actions()
        if state.current_player() != side or probs[action] > 0
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TINY), st.integers(0, 1_000), st.booleans())
def test_never_loses_is_what_the_whole_tree_says(game: str, seed: int, greedy: bool) -> None:
    loaded, policy = load(game), noisy_policy(seed, greedy)
    root = loaded.new_initial_state()
    expected = not loses(root, 0, policy), not loses(root, 1, policy)
    assert GameGraph(loaded).never_loses(policy) == expected


@pytest.mark.parametrize("game", ["tic_tac_toe", "hex(board_size=3)"])
def test_perfect_play_cannot_be_exploited(game: str) -> None:
    loaded = load(game)
    graph, policy = GameGraph(loaded), policy_of(make_player("perfect", loaded, np.random.default_rng(0)))
    found = graph.exploitability(policy)
    assert found.mean == 0 and found.against_first == -graph.value and found.against_second == graph.value
    assert found.mistakes == 0
    assert graph.never_loses(policy) == (True, graph.value <= 0)


@pytest.mark.parametrize("game", ["tic_tac_toe", "hex(board_size=2)", "nim(pile_sizes=1;2;2)"])
def test_mistakes_are_moves_that_give_the_result_away(game: str) -> None:
    graph, policy = GameGraph(load(game)), noisy_policy(3)
    wrong = []
    for state, row in zip(graph.states, policy(graph.states), strict=True):
        best = graph.best_actions(state)
        if len(best) < len(state.legal_actions()):
            wrong.append(1 - row[best].sum())
    assert graph.exploitability(policy).mistakes == pytest.approx(np.mean(wrong))
    assert 0.1 < np.mean(wrong) < 0.9


def test_kuhn_and_leduc_poker() -> None:
    assert nash_conv(load("kuhn_poker"), uniform_policy) == pytest.approx(11 / 12)
    assert nash_conv(load("leduc_poker"), uniform_policy) == pytest.approx(4.747222222)


def test_the_equilibrium_of_kuhn_poker() -> None:
    # Kuhn 1950 with alpha = 0: the chance of betting by card (jack, queen, king) and what was done before.
    bets = {"": (0, 0, 0), "b": (0, 1 / 3, 1), "p": (1 / 3, 0, 1), "pb": (0, 1 / 3, 1)}

    def equilibrium(states: Sequence[pyspiel.State]) -> NDArray[np.float64]:
        cards = [int(state.information_state_string()[0]) for state in states]
        bet = np.array([bets[s.information_state_string()[1:]][card] for s, card in zip(states, cards, strict=True)])
        return np.stack([1 - bet, bet], axis=1)

    assert nash_conv(load("kuhn_poker"), equilibrium) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("game", "sentence"),
    [
        ("backgammon", "needs a game with no chance"),
        ("kuhn_poker", "needs a game with no chance and nothing hidden"),
        ("connect_four", "too large to be solved: more than 1,000 positions"),
        *(
            (game, "needs a game with no rule on repeated positions")
            for game in ("go(board_size=2)", "oware(num_houses_per_player=2,num_seeds_per_house=1)", "antichess")
        ),
        *(
            (game, "needs a game with no rule on repeated positions")
            for game in ("cursor_go(board_size=2)", "crazyhouse", "shogi", "lines_of_action", "chess", "checkers")
        ),
        ("chinese_checkers", "what is legal depends on the moves before"),
    ],
)
def test_games_that_cannot_be_solved_are_refused(game: str, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        GameGraph(load(game), max_positions=1_000)


def test_an_end_that_depends_on_the_moves_before_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a game whose rule nobody wrote down: two passes end a game of go, and the board looks the same."""
    monkeypatch.setattr(exact, "REPETITION_RULES", ())
    with pytest.raises(EnvError, match="when it ends depends on the moves before"):
        GameGraph(load("go(board_size=2)"))


@pytest.mark.parametrize(
    ("game", "start", "to_and_fro", "ends"),
    [
        ("lines_of_action", ["c1-c3"], ["a2-c4", "e1-b4", "c4-a2", "b4-e1"], True),
        ("xiangqi", [], ["R(9,0)-(8,0)", "r(0,0)-(1,0)", "R(8,0)-(9,0)", "r(1,0)-(0,0)"], False),
    ],
)
def test_which_games_end_when_a_position_comes_again(
    game: str, start: list[str], to_and_fro: list[str], ends: bool
) -> None:
    """Those that do are listed in `REPETITION_RULES`; xiangqi goes on."""
    state = load(game).new_initial_state()
    for text in start + to_and_fro * (1 if ends else 20):
        state.apply_action(state.string_to_action(text))
    assert state.is_terminal() == ends == (game in exact.REPETITION_RULES)


def test_policies_of_the_wrong_kind_are_refused() -> None:
    graph = GameGraph(load("hex(board_size=2)"))
    with pytest.raises(EnvError, match=r"probabilities of shape \(\d+, 4\), found \(\d+, 3\)"):
        graph.exploitability(lambda states: np.zeros((len(states), 3)))
    with pytest.raises(EnvError, match=r"must sum to 1, found 0\.7500"):
        graph.exploitability(lambda states: 0.75 * uniform_policy(states))
    with pytest.raises(EnvError, match="is none of"):
        graph.best_actions(load("tic_tac_toe").new_initial_state())


def test_the_solvers_positions_of_connect_four() -> None:
    positions = SolverPositions.load()
    assert [positions.kinds.count(kind) for kind in ("random", "mixed")] == [250, 250]
    for state, outcome in zip(positions.states, positions.outcomes, strict=True):
        assert state.legal_actions() == np.flatnonzero(outcome > -2).tolist()
    shares = positions.outcome_preserving_share(uniform_policy)
    assert shares == pytest.approx({"random": 0.3430041, "mixed": 0.3447160})


def test_shares_of_a_solver_and_of_its_opposite() -> None:
    positions = SolverPositions.load()

    def by(outcomes: NDArray[np.int8]) -> BoardPolicy:
        return lambda states: np.eye(7)[outcomes.argmax(axis=1)]

    worst = np.where(positions.outcomes > -2, -positions.outcomes, -2).astype(np.int8)
    assert positions.outcome_preserving_share(by(positions.outcomes)) == {"random": 1.0, "mixed": 1.0}
    assert positions.outcome_preserving_share(by(worst)) == {"random": 0.0, "mixed": 0.0}


def test_the_solver_agrees_with_a_search_to_the_end() -> None:
    positions = SolverPositions.load()
    late = [i for i, state in enumerate(positions.states) if state.move_number() >= 32][:12]
    assert len(late) == 12
    for i in late:
        state, mover = positions.states[i], positions.states[i].current_player()
        for action in state.legal_actions():
            assert best(state.child(action), mover) == positions.outcomes[i, action]


def best(state: pyspiel.State, player: int) -> float:
    if state.is_terminal():
        return state.player_return(player)
    values = [best(state.child(action), player) for action in state.legal_actions()]
    return max(values) if state.current_player() == player else min(values)


def test_positions_of_another_board_are_refused() -> None:
    with pytest.raises(EnvError, match="6 rows and 7 columns, not of connect_four"):
        SolverPositions.load(load("connect_four(rows=4,columns=4)"))
