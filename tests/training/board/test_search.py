"""Searches over policies and values: worked out by hand, against forced wins, and side by side."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pyspiel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.envs.board.exact import uniform_policy
from triathlon.envs.board.players import make_player
from triathlon.envs.board.ply_limit import PlyLimit
from triathlon.envs.board.vector import BoardEnvs
from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training.board.arena import play_match
from triathlon.training.board.search import SearchConfig, SearchPlayer, SearchPolicy, search
from triathlon.training.board.search_rules import halving
from triathlon.training.board.search_tree import CHANCE, TERMINAL, Trees
from triathlon.training.errors import RunError
from triathlon.training.evaluate import evaluate


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Uniform:
    """Knows nothing: every move alike, every position even."""

    name = "uniform"

    def assess(self, states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
        return uniform_policy(states), np.zeros(len(states), np.float32)


class Arbitrary:
    """Believes what `arbitrary` says."""

    name = "arbitrary"

    def assess(self, states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
        return arbitrary(states)


def arbitrary(states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and values that depend on the position alone, and on all of it."""
    probs, values = uniform_policy(states), np.empty(len(states))
    for i, state in enumerate(states):
        draw = rng(zlib.crc32(state.history_str().encode()))
        probs[i] *= draw.random(probs.shape[1])
        values[i] = draw.uniform(-1, 1)
    return probs, values


def position(game: str, *actions: int) -> pyspiel.State:
    state = pyspiel.load_game(game).new_initial_state()
    for action in actions:
        state.apply_action(action)
    return state


def random_positions(game: str, count: int, seed: int, max_plies: int = 40) -> list[pyspiel.State]:
    """Positions in which somebody is to move."""
    draw, found = rng(seed), list[pyspiel.State]()
    while len(found) < count:
        state = pyspiel.load_game(game).new_initial_state()
        plies = int(draw.integers(max_plies))
        while not state.is_terminal() and (plies > 0 or state.is_chance_node()):
            state.apply_action(int(draw.choice(state.legal_actions())))
            plies -= 1
        if not state.is_terminal():
            found.append(state)
    return found


def table(
    moves: dict[str, tuple[dict[int, float], float]],
) -> Callable[[Sequence[pyspiel.State]], tuple[np.ndarray, np.ndarray]]:
    """Probabilities and values of tic-tac-toe positions by the moves that led there."""

    def assess(states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
        probs, values = np.zeros((len(states), 9)), np.zeros(len(states))
        for i, state in enumerate(states):
            prior, values[i] = moves[" ".join(map(str, state.history()))]
            for action, probability in prior.items():
                probs[i, action] = probability
        return probs, values

    return assess


def test_four_simulations_of_puct_by_hand() -> None:
    # c = 1 (log((N + c_base) / c_base) is below 0.0003), Q + c P sqrt(N) / (1 + n), untried: the mean so far.
    #   N  mean     move 0                       move 1                     move 2
    #   1   0       0 + .5             <- most   0 + .3                     0 + .2
    #   2  -.2      -.4 + .5 sqrt2/2 = -.05      -.2 + .3 sqrt2 = .22 <-    -.2 + .2 sqrt2 = .08
    #   3  -.4/3    -.4 + .5 sqrt3/2 = .03       0 + .3 sqrt3/2 = .26 <-    -.13 + .2 sqrt3 = .21
    #   4  -.1      -.4 + .5 = .1                0 + .3 2/3 = .2            -.1 + .2 2 = .3 <-
    assess = table(
        {
            "": ({0: 0.5, 1: 0.3, 2: 0.2}, 0.0),
            "0": ({1: 1.0}, 0.4),  # good for the second player, so -.4 for the first
            "1": ({3: 1.0}, 0.0),
            "1 3": ({0: 1.0}, 0.0),
            "2": ({0: 1.0}, 0.0),
        }
    )
    config = SearchConfig(simulations=4, c_puct=1.0, fpu_reduction=0.0)
    found = search([position("tic_tac_toe")], assess, config, [rng()])
    np.testing.assert_allclose(found.probs[0], [0.25, 0.5, 0.25, 0, 0, 0, 0, 0, 0])
    assert found.actions == [1]
    assert found.values[0] == pytest.approx(-0.4 / 5)  # four leaves and the root itself


def test_two_simulations_of_gumbel_by_hand() -> None:
    # Values -.4 and .1 of two equally likely moves; scale (c_visit + 1) c_scale / 2 = 2.55; log-odds 2.55 * .5 = 1.275.
    half = {0: 0.5, 1: 0.5}
    assess = table({"": (half, 0.2), "0": ({1: 1.0}, 0.4), "1": ({0: 1.0}, -0.1)})
    config = SearchConfig(kind="gumbel", simulations=2, num_considered=2, c_visit=50.0, c_scale=0.1)
    found = search([position("tic_tac_toe")], assess, config, [rng()])
    np.testing.assert_allclose(found.probs[0, :3], [0.2184, 0.7816, 0], atol=1e-4)
    assert found.actions == [1]
    assert found.values[0] == pytest.approx(0.7816 * 0.1 - 0.2184 * 0.4, abs=1e-4)


@pytest.mark.parametrize(
    ("num_considered", "num_simulations", "plan"),
    [
        (4, 8, [0, 0, 0, 0, 1, 1, 2, 2]),
        (1, 3, [0, 1, 2]),
        (2, 5, [0, 0, 1, 1, 2]),
        (4, 3, [0, 0, 0]),
        (16, 64, [0] * 16 + [1] * 8 + [2] * 8 + [3] * 4 + [4] * 4 + [5] * 4 + [6] * 4 + sorted([*range(7, 15)] * 2)),
    ],
)
def test_sequential_halving(num_considered: int, num_simulations: int, plan: list[int]) -> None:
    assert halving(num_considered, num_simulations) == plan


def wins(state: pyspiel.State, plies: int, player: int) -> bool:
    """Whether `player` can win within that many plies whatever the other side does."""
    if state.is_terminal():
        return state.player_return(player) > 0
    if plies == 0:
        return False
    below = (wins(state.child(action), plies - 1, player) for action in state.legal_actions())
    return any(below) if state.current_player() == player else all(below)


@pytest.mark.parametrize("kind", ["puct", "gumbel"])
@pytest.mark.parametrize(
    ("game", "plies", "simulations"),
    [("tic_tac_toe", 1, 16), ("tic_tac_toe", 3, 250), ("connect_four", 1, 16), ("connect_four", 3, 800)],
)
def test_every_forced_win_is_found_without_knowledge(game: str, plies: int, simulations: int, kind: str) -> None:
    tests: dict[str, pyspiel.State] = {}
    for state in random_positions(game, 400, plies):
        mover = state.current_player()
        if wins(state, plies, mover) and not (plies == 3 and wins(state, 1, mover)):
            tests[str(state)] = state
    positions = list(tests.values())[:40]
    assert len(positions) >= 15
    if kind == "gumbel":
        simulations *= 2  # halves of it go where the root has looked before
    found = search(positions, Uniform().assess, SearchConfig(kind=kind, simulations=simulations), [rng()] * 40)
    for state, action, value in zip(positions, found.actions, found.values, strict=True):
        assert wins(state.child(action), plies - 1, state.current_player()), str(state)
        assert value > 0


def test_perfect_play_does_not_beat_a_search_without_knowledge() -> None:
    game = pyspiel.load_game("tic_tac_toe")
    player = SearchPlayer(Uniform(), SearchConfig(simulations=2000), rng(1))
    result = play_match(player, make_player("perfect", game, rng(2)), game, 20, rng(3))
    assert result.tally().losses == 0 and result.tally().draws == 20


def test_a_proof_ends_the_search_and_an_unproven_one_goes_on() -> None:
    # x can win at 2. Proven: no simulation after that one; else all simulations are spent.
    state = position("tic_tac_toe", 0, 3, 1, 4)
    for prove, spent in ((True, 1), (False, 50)):
        trees = Trees([state], Uniform().assess, [rng()], 50, prove)
        for _ in range(50):
            trees.simulate(lambda roots: np.zeros(len(roots), np.intp), lambda nodes: np.zeros(len(nodes), np.intp))
        assert trees.visits[0].sum() == spent
    assert trees.states[1].player_return(0) == 1


def test_lost_and_drawn_results_are_carried_up() -> None:
    # One empty field left: x fills it and draws.
    drawn = position("tic_tac_toe", 0, 1, 2, 4, 3, 5, 7, 6)
    found = search([drawn], arbitrary, SearchConfig(simulations=1), [rng()])
    assert found.values[0] == 0 and found.actions == [8]
    # x threatens 2 and 7 at once; o cannot stop both.
    lost = position("tic_tac_toe", 0, 3, 4, 8, 1)  # o to move
    found = search([lost], Uniform().assess, SearchConfig(simulations=200), [rng()])
    assert found.values[0] == pytest.approx(-1) and found.actions[0] in lost.legal_actions()


def test_where_all_that_was_tried_loses_something_else_is_played() -> None:
    # o threatens to win at 6. The likeliest move, 8, does not stop it, and two simulations go there.
    assess = table({"0 4 5 2": ({8: 0.9, 6: 0.1}, 0.0), "0 4 5 2 8": ({6: 1.0}, 0.0)})
    config = SearchConfig(simulations=2)
    found = search([position("tic_tac_toe", 0, 4, 5, 2)], assess, config, [rng()])
    assert found.actions == [6] and found.probs[0, 8] == 0
    assert found.probs[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["puct", "gumbel"])
@pytest.mark.parametrize(
    "game", ["othello", "dots_and_boxes(num_rows=3,num_cols=3)", "checkers", "backgammon", "chess"]
)
def test_a_value_changes_its_sign_only_where_the_mover_changes(game: str, kind: str) -> None:
    """If every position is worth 0.6 to player 0, so is every search, whoever moves how often."""

    def assess(states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
        return arbitrary(states)[0], np.array([0.6 if state.current_player() == 0 else -0.6 for state in states])

    positions = random_positions(game, 8, 3, max_plies=9)
    found = search(positions, assess, SearchConfig(kind=kind, simulations=30), [rng(i) for i in range(8)])
    expected = [0.6 if state.current_player() == 0 else -0.6 for state in positions]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)


def test_a_side_that_moves_again_keeps_its_value() -> None:
    # Two boxes; three lines of the left one are drawn. Who draws the fourth (action 5) moves again.
    state = position("dots_and_boxes(num_rows=1,num_cols=2)", 0, 2, 4)
    assert state.legal_actions() == [1, 3, 5, 6]

    def likes_to_move(states: Sequence[pyspiel.State]) -> tuple[np.ndarray, np.ndarray]:
        return uniform_policy(states), np.full(len(states), 0.5)

    config = SearchConfig(simulations=4, prove=False, c_puct=100.0)  # every move once
    found = search([state], likes_to_move, config, [rng()])
    assert found.actions == [5]
    assert found.values[0] == pytest.approx((0.5 + 0.5 - 3 * 0.5) / 5)


def test_a_pass_is_searched_as_a_move() -> None:
    passing = next(
        state
        for seed in range(200)
        for state in random_positions("othello", 1, seed, max_plies=60)
        if state.legal_actions() == [64]
    )
    found = search([passing], arbitrary, SearchConfig(simulations=20), [rng()])
    assert found.actions == [64] and found.probs[0, 64] == 1


def test_dice_fall_as_often_as_they_should() -> None:
    state = random_positions("backgammon", 1, 5)[0]
    trees = Trees([state], Uniform().assess, [rng(7)], 3000)
    for _ in range(3000):
        trees.simulate(lambda roots: np.zeros(len(roots), np.intp), lambda nodes: np.zeros(len(nodes), np.intp))
    (node,) = trees.child[0, :1].tolist()
    assert trees.mover[node] == CHANCE
    expected = [probability for _, probability in trees.states[node].chance_outcomes()]
    shares = trees.visits[node, : len(expected)] / trees.visits[node].sum()
    np.testing.assert_allclose(shares, expected, atol=0.02)


@pytest.mark.parametrize("settings_", [{"kind": "puct", "noise_share": 0.25}, {"kind": "gumbel", "gumbel_scale": 1.0}])
@pytest.mark.parametrize("game", ["connect_four", "othello", "backgammon"])
def test_many_games_at_once_are_as_each_by_itself(game: str, settings_: dict[str, object]) -> None:
    positions = random_positions(game, 6, 11)
    config = SearchConfig(simulations=40, **settings_)
    together = search(positions, arbitrary, config, [rng(i) for i in range(6)])
    for i, state in enumerate(positions):
        alone = search([state], arbitrary, config, [rng(i)])
        assert alone.actions[0] == together.actions[i]
        np.testing.assert_array_equal(alone.probs[0], together.probs[i])
        assert alone.values[0] == pytest.approx(together.values[i], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    game=st.sampled_from(["tic_tac_toe", "connect_four", "othello", "breakthrough", "hex(board_size=4)", "backgammon"]),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["puct", "gumbel"]),
    simulations=st.integers(1, 40),
)
def test_only_legal_moves(game: str, seed: int, kind: str, simulations: int) -> None:
    positions = random_positions(game, 3, seed)
    found = search(positions, arbitrary, SearchConfig(kind=kind, simulations=simulations), [rng(i) for i in range(3)])
    for state, action, probs, value in zip(positions, found.actions, found.probs, found.values, strict=True):
        legal = state.legal_actions()
        assert action in legal and probs[action] > 0
        assert probs[legal].sum() == pytest.approx(1, abs=1e-5) and probs.sum() == pytest.approx(1, abs=1e-5)
        assert (probs >= 0).all() and abs(value) <= 1


def test_noise_explores_what_the_policy_would_not() -> None:
    sure = table({"": ({4: 1.0}, 0.0)} | {str(a): ({(a + 1) % 9: 1.0}, 0.0) for a in range(9)})
    without, noisy = (
        search(
            [position("tic_tac_toe")] * 20,
            sure,
            SearchConfig(simulations=1, noise_share=share),
            [rng(i) for i in range(20)],
        )
        for share in (0.0, 1.0)
    )
    assert set(without.actions) == {4} and len(set(noisy.actions)) > 3


@pytest.mark.parametrize("kind", ["puct", "gumbel"])
@pytest.mark.parametrize(("max_plies", "value"), [(None, 1), (7, 1), (6, 0), (3, 0)])
def test_a_game_that_lasts_too_long_is_a_draw(max_plies: int | None, value: float, kind: str) -> None:
    """x in the corner and o beside it: x forces a win with the seventh move of the game, not earlier."""
    config = SearchConfig(kind=kind, simulations=3000)
    found = search([position("tic_tac_toe", 0, 1)], Uniform().assess, config, [rng()], PlyLimit(max_plies))
    assert found.values[0] == pytest.approx(value, abs=0.2)
    assert wins(position("tic_tac_toe", 0, 1, found.actions[0]), 4, 0) or not value


def test_dice_are_no_plies() -> None:
    state = random_positions("backgammon", 1, 3)[0]
    played = sum(move.player >= 0 for move in state.full_history())
    assert 0 < played < len(state.history())
    trees = Trees([state], Uniform().assess, [rng()], 60, limit=PlyLimit(played + 2))
    for _ in range(60):
        trees.simulate(lambda roots: np.zeros(len(roots), np.intp), lambda nodes: np.zeros(len(nodes), np.intp))
    drawn = np.flatnonzero(trees.mover[: trees.num_nodes] == TERMINAL)
    assert len(drawn) > 5 and set(trees.num_plies[drawn].tolist()) == {played + 2}
    assert trees.settled[drawn].all() and not trees.worth[drawn].any()
    assert trees.num_plies[: trees.num_nodes].max() == played + 2


def test_a_search_plays_on_where_long_games_are_drawn(practise: Callable) -> None:
    board = {"opponent": "random", "max_plies": 7}
    practice = practise({"id": "board/chess", "num_envs": 2, "board": board}, "ppo", total_steps=10)
    envs = make_envs(practice.experiment.env, 3)
    try:
        policy = SearchPolicy(practice.learner.policy, envs, SearchConfig(simulations=5), rng())
        played = evaluate(policy, envs, 7, seed=5)
    finally:
        envs.close()
    assert len(played.returns) == 7 and max(played.lengths) <= 4


def test_hidden_information_is_refused() -> None:
    state = position("kuhn_poker", 0, 1)
    with pytest.raises(RunError, match="would see what is hidden"):
        search([state], arbitrary, SearchConfig(), [rng()])


def test_a_search_plays_the_games_of_an_environment(practise: Callable) -> None:
    """As the second player too, and in a game whose board and actions are turned for one of the sides."""
    board = {"parameters": {"rows": 5, "columns": 4}, "opponent": "random"}
    practice = practise({"id": "board/breakthrough", "num_envs": 2, "board": board}, "ppo", total_steps=10)
    envs = make_envs(practice.experiment.env, 20)
    try:
        assert isinstance(envs.unwrapped, BoardEnvs)
        policy = SearchPolicy(practice.learner.policy, envs, SearchConfig(simulations=100), rng())
        played = evaluate(policy, envs, 20, seed=5)
        drawn = evaluate(policy, envs, 20, seed=5, deterministic=False)
    finally:
        envs.close()
    assert sum(played.returns) >= 12  # against random, a hundred simulations win without having learnt anything
    assert len(drawn.returns) == 20


def test_a_search_is_for_board_games() -> None:
    envs = make_envs(EnvConfig("CartPole-v1"), 1)
    try:
        with pytest.raises(RunError, match="board games only"):
            SearchPolicy(None, envs, SearchConfig(), rng())
    finally:
        envs.close()


def test_a_player_repeats_itself_with_its_generator() -> None:
    positions = random_positions("backgammon", 4, 2)
    first, again, other = (
        SearchPlayer(Arbitrary(), SearchConfig(simulations=100), rng(seed)).improved(positions) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()
    assert SearchPlayer(Uniform(), SearchConfig(), rng()).name == "uniform+puct:64"
    assert first[0].shape == (4, 1352) and first[1].shape == (4,)
