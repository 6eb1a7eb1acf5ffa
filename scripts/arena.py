"""`triathlon arena RUN…`: how strong trained agents are at a board game, against each other and against others."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from triathlon.envs.board.exact import policy_of
from triathlon.envs.board.games import parameters_of
from triathlon.envs.board.player import Player
from triathlon.envs.board.players import make_player
from triathlon.envs.board.solver_positions import SolverPositions
from triathlon.scripts.board_run import (
    BoardRun,
    add_search_options,
    add_symmetries_option,
    open_board_run,
    search_config,
)
from triathlon.scripts.main import guarded
from triathlon.training.atomic_write import write_text
from triathlon.training.board.arena import Crosstable, GameRecord, MatchResult, play_match
from triathlon.training.board.crosstable_picture import draw_crosstable
from triathlon.training.board.search import SearchPlayer
from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run

if TYPE_CHECKING:
    import pyspiel

ANCHOR = "random"

# What is drawn by the seed, and by one of these, so that no two things draw the same numbers. Openings draw by the seed
# alone, opponents by the seed and their place among the players, which is never 0.
SEARCHES, AGENTS, RATINGS = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Play as the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    _check(options)
    out = _out(options.out, options.run)
    runs = [open_board_run(run, options.checkpoint) for run in options.run]
    game = _game(runs)
    positions = SolverPositions.load(game) if options.positions else None
    with ExitStack() as stack:
        players = _players(options, runs, game)
        for player in players:
            stack.enter_context(closing(player))
        if len(players) < 2 and positions is None:
            raise RunError("there is nobody to play against: give --opponent, a second RUN, or a second --search")
        found: dict[str, Any] = {"game": str(game).removesuffix("()"), "players": [player.name for player in players]}
        found["runs"] = {str(run.folder.path): run.checkpoint for run in runs}
        settings = ("games", "openings", "opening_plies", "seed", "stochastic", "search_kind", "symmetries")
        found["settings"] = {name: getattr(options, name) for name in settings}
        print(
            f"{found['game']}, {' against '.join(found['players']) if len(players) == 2 else f'{len(players)} players'}"
        )
        if positions is not None:
            found["outcome_preserving"] = _measure(positions, players, options.positions)
            write_text(out, json.dumps(found) + "\n")
        if len(players) > 1:
            table = _play(players, game, options, out, found)
            _report(table, found, out, options)
    print(f"Results: {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon arena",
        description="Matches at a board game, sides swapped; more than two players: each meets each.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    text = "a player by name, such as random, mcts:1000 or stockfish:0; may be given more than once"
    parser.add_argument("--opponent", action="append", default=[], metavar="NAME", help=text)
    parser.add_argument("--games", type=int, default=200, metavar="N", help="of each match (default: 200)")
    text = "how games begin (default: random, each opening played from both sides)"
    parser.add_argument("--openings", choices=["random", "none"], default="random", help=text)
    parser.add_argument("--opening-plies", type=int, default=4, metavar="N", help="random moves (default: 4)")
    add_search_options(parser, several=True)
    add_symmetries_option(parser)
    parser.add_argument("--stochastic", action="store_true", help="draw moves instead of playing the best one")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    text = "connect four: share of moves that keep the outcome, on positions of random play, of mixed play, or both"
    parser.add_argument("--positions", choices=["random", "mixed", "both"], help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of openings, dice and players (default: 0)")
    text = "write every game into this JSON file, and a picture beside it (default: RUN/arena/TIME.json)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.games < 2 or options.games % 2:
        raise RunError(f"--games is {options.games} but should be even and at least 2, so that sides are swapped")
    for name in ("opening_plies", "seed"):
        if getattr(options, name) < 0:
            raise RunError(f"--{name.replace('_', '-')} is {getattr(options, name)} but should be at least 0")
    if twice := sorted({name for name in options.opponent if options.opponent.count(name) > 1}):
        raise RunError(f"--opponent {twice[0]} is given more than once")


def _out(out: Path | None, runs: Sequence[str]) -> Path:
    """The JSON file to write; raises RunError before anything is played if it cannot be one."""
    if out is None:
        return open_run(runs[0]).path / "arena" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    if out.suffix != ".json" or out.is_dir():
        raise RunError(f"--out is {out} but should be a file that ends with .json")
    return out


def _game(runs: Sequence[BoardRun]) -> pyspiel.Game:
    """The one game of all runs."""
    first = runs[0]
    for run in runs[1:]:
        # The text of a game names only the parameters that a run spelled out.
        if _kind(run.game) != _kind(first.game):
            raise RunError(
                f"runs of different games cannot meet: {first.folder.path} is of {first.game}, "
                f"{run.folder.path} of {run.game}"
            )
    return first.game


def _kind(game: pyspiel.Game) -> tuple[str, dict[str, Any]]:
    """Which game it is, by its name and all of its parameters."""
    return game.get_type().short_name, parameters_of(game)


def _players(options: argparse.Namespace, runs: Sequence[BoardRun], game: pyspiel.Game) -> list[Player]:
    players: list[Player] = []
    searches = options.search or [0]
    if twice := sorted({n for n in searches if searches.count(n) > 1}):
        raise RunError(f"--search {twice[0]} is given more than once")
    for index, (name, run) in enumerate(zip(_names(runs), runs, strict=True)):
        name = f"{name}+symmetric" if options.symmetries else name
        agent = run.player(name, deterministic=not options.stochastic, symmetric=options.symmetries)
        seed = np.random.SeedSequence([options.seed, index, AGENTS]).generate_state(1)[0]
        agent.policy.generator.manual_seed(int(seed))
        for num_simulations in searches:
            config = search_config(num_simulations, options.search_kind, run.experiment)
            rng = np.random.default_rng([options.seed, len(players), SEARCHES])
            deterministic = not options.stochastic
            players.append(agent if config is None else SearchPlayer(agent, config, rng, deterministic=deterministic))
    for name in options.opponent:
        players.append(make_player(name, game, np.random.default_rng([options.seed, len(players)])))
    return players


def _names(runs: Sequence[BoardRun]) -> list[str]:
    """The runs' folders' names; numbered where runs have the same one."""
    names = [run.folder.path.resolve().name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)]


def _measure(positions: SolverPositions, players: Sequence[Player], kinds: str) -> dict[str, dict[str, float]]:
    """Each player's share of moves that keep the outcome, by kind of position."""
    found = {}
    print("Share of moves that keep the outcome, where moves differ:")
    for player in tqdm(players, desc="positions", unit=" players", leave=False):
        shares = positions.outcome_preserving_share(policy_of(player))
        found[player.name] = {kind: share for kind, share in shares.items() if kinds in (kind, "both")}
    for name, shares in found.items():
        print(f"  {name}: " + ", ".join(f"{share:.3f} ({kind} play)" for kind, share in shares.items()))
    return found


def _play(
    players: Sequence[Player], game: pyspiel.Game, options: argparse.Namespace, out: Path, found: dict[str, Any]
) -> Crosstable:
    """All matches; what has been played so far is on the disk after each."""
    pairs = list(combinations(range(len(players)), 2))
    rng = np.random.default_rng(options.seed)
    matches: dict[tuple[int, int], MatchResult] = {}
    with tqdm(total=len(pairs) * options.games, unit=" games", leave=False) as bar:

        def count(record: GameRecord) -> None:
            bar.update(1)

        for i, j in pairs:
            bar.set_description(f"{players[i].name} – {players[j].name}")
            matches[i, j] = match = play_match(
                players[i],
                players[j],
                game,
                options.games,
                rng,
                options.openings,
                options.opening_plies,
                on_game=count,
            )
            found.setdefault("matches", []).append(_as_json(match))
            write_text(out, json.dumps(found) + "\n")
            bar.write(_summary(match), file=sys.stdout)
    return Crosstable([player.name for player in players], matches)


def _summary(match: MatchResult) -> str:
    lines = [str(match)]
    num_different = len({game.history for game in match.games})
    if num_different < len(match.games):
        lines.append(f"  only {num_different} of {len(match.games)} games differ")
    return "\n".join(lines)


def _report(table: Crosstable, found: dict[str, Any], out: Path, options: argparse.Namespace) -> None:
    """The table, the ratings and the picture."""
    if len(table.names) > 2:
        print(table)
    anchor = ANCHOR if ANCHOR in table.names else (options.opponent or table.names)[0]
    ratings = table.ratings(np.random.default_rng([options.seed, 0, RATINGS]), anchor)
    print(f"Elo, {anchor} = 0 (95 % interval):")
    for rating in sorted(ratings, key=lambda rating: -rating.elo):
        if rating.name != anchor:
            print(f"  {rating}")
    found["elo"] = {"anchor": anchor, "ratings": [asdict(rating) for rating in ratings]}
    write_text(out, json.dumps(found) + "\n")
    title = f"{found['game']}, {options.games} games a match"
    # Of two players, ratings say no more than their score.
    draw_crosstable(out.with_suffix(".png"), table, title, ratings if len(ratings) > 2 else None)
    print(f"Picture: {out.with_suffix('.png')}")


def _as_json(match: MatchResult) -> dict[str, Any]:
    tally = match.tally()
    return {
        "a": match.a,
        "b": match.b,
        "wins": tally.wins,
        "draws": tally.draws,
        "losses": tally.losses,
        "score": tally.score,
        "interval": tally.interval(),
        "forfeits": len(match.errors),
        "games": [asdict(game) for game in match.games],
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
