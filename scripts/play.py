"""`triathlon play RUN`: a game against a trained agent, in the terminal. A actions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.planes import Planes
from triathlon.envs.board.starts import Match
from triathlon.scripts.board_run import (
    BoardRun,
    add_search_options,
    add_symmetries_option,
    open_board_run,
    search_config,
)
from triathlon.scripts.main import guarded
from triathlon.scripts.terminal import HELP, Console, HumanPlayer, Leave, TakeBack, board_text, hides, move_name
from triathlon.training.atomic_write import write_text
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search import SearchPlayer
from triathlon.training.errors import RunError

if TYPE_CHECKING:
    import pyspiel

NUM_SHOWN = 5  # moves of which probabilities are shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Play as the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.seed is not None and options.seed < 0:
        raise RunError(f"--seed is {options.seed} but should be at least 0")
    if options.transcript is not None and options.transcript.is_dir():
        raise RunError(f"--transcript is {options.transcript}, a folder, but should be a file")
    run = open_board_run(options.run, options.checkpoint)
    config = search_config(options.search, options.search_kind, run.experiment)
    rng = np.random.default_rng(options.seed)
    agent = run.player("the agent", deterministic=not options.stochastic, symmetric=options.symmetries)
    agent.policy.generator.manual_seed(int(rng.integers(2**31)))
    player: AgentPlayer | SearchPlayer = agent
    if config is not None:
        player = SearchPlayer(agent, config, rng, agent.name, deterministic=not options.stochastic)
    console = Console()
    table = _Table(run, player, console, rng, options.show_probabilities)
    try:
        table.play(person_first=not options.second)
    except Leave:
        console.say("The game was left unfinished.")
    finally:
        if options.transcript is not None:
            write_text(options.transcript, "\n".join(console.lines) + "\n")
    if options.transcript is not None:
        print(f"Transcript: {options.transcript}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="triathlon play", description="Play a board game against a trained agent.")
    parser.add_argument("run", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--first", action="store_true", help="you move first (the default)")
    side.add_argument("--second", action="store_true", help="the agent moves first")
    add_search_options(parser)
    add_symmetries_option(parser)
    text = "say before each of your moves, and of each of the agent's, what the agent thinks"
    parser.add_argument("--show-probabilities", action="store_true", help=text)
    parser.add_argument("--stochastic", action="store_true", help="the agent draws moves instead of playing the best")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    parser.add_argument("--seed", type=int, metavar="S", help="of dice and of drawn moves (default: always another)")
    parser.add_argument("--transcript", type=Path, metavar="FILE", help="write the game into this text file")
    return parser


class _Table:
    """One game between a person and an agent."""

    def __init__(
        self,
        run: BoardRun,
        agent: AgentPlayer | SearchPlayer,
        console: Console,
        rng: np.random.Generator,
        show_probabilities: bool,
    ) -> None:
        self._run, self._agent, self._console, self._rng = run, agent, console, rng
        self._planes, self._shows = Planes(run.game), show_probabilities
        self._person = HumanPlayer(console, self._thoughts)

    def play(self, person_first: bool) -> None:
        """To the end; raises Leave if the person does not want to."""
        match = Match(self._run.game.new_initial_state())
        match.settle(self._rng)
        seat = match.first if person_first else 1 - match.first
        self._console.say(HELP)
        while not match.state.is_terminal():
            if match.state.current_player() != seat:
                self._agent_moves(match)
                continue
            self._console.say("\n" + board_text(match.state, self._planes, seat))
            if self._shows:
                self._console.say(self._thoughts(match.state))
            try:
                match.play(self._person.choose([match.state])[0], self._rng)
            except TakeBack:
                match = self._taken_back(match, seat)
        self._console.say("\n" + board_text(match.state, self._planes, seat))
        result = match.state.player_return(seat)
        self._console.say("You win." if result > 0 else "You lose." if result < 0 else "A draw.")

    def _agent_moves(self, match: Match) -> None:
        is_hidden = hides(match.state)  # what the person may know of the move stands in the next position
        if self._shows and not is_hidden:
            self._console.say(self._thoughts(match.state))
        action = self._agent.choose([match.state])[0]
        plays = "moves" if is_hidden else f"plays {move_name(match.state, action)}"
        self._console.say(f"{self._agent.name.capitalize()} {plays}.")
        match.play(action, self._rng)

    def _taken_back(self, match: Match, seat: int) -> Match:
        """The game before the person's last move; dice that were thrown before it stay."""
        history = match.state.full_history()
        own = [ply for ply, move in enumerate(history) if move.player == seat]
        if not own:
            self._console.say("There is nothing to take back.")
            return match
        earlier = Match(self._run.game.new_initial_state())
        for move in history[: own[-1]]:
            earlier.apply(move.action)
        return earlier

    def _thoughts(self, state: pyspiel.State) -> str:
        """The likeliest moves, and the expected result for whoever is to move if the agent's values tell it."""
        if isinstance(self._agent, SearchPlayer):
            probs, values = self._agent.improved([state])
        else:
            probs, values = self._agent.assess([state])
        best = _likeliest(probs[0], state.legal_actions())
        moves = ", ".join(f"{move_name(state, action)} {probs[0, action]:.0%}" for action in best)
        if not self._run.knows_values:
            return f"The agent would play {moves}."
        expected = round(float(values[0]), 2) + 0.0  # no "-0.00"
        return f"The agent would play {moves}; it expects a result of {expected:+.2f} for the side to move."


def _likeliest(probs: NDArray[np.float32], legal: Sequence[int]) -> list[int]:
    return sorted(legal, key=lambda action: -probs[action])[:NUM_SHOWN]


if __name__ == "__main__":
    sys.exit(guarded(main))
