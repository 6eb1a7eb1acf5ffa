"""`triathlon COMMAND …`: finds the command, and says in one sentence what a person has to change when it cannot run."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

COMMANDS = {
    "train": "train an agent: triathlon train CONFIG [--key value …]",
    "supervised": "learn from examples, such as pictures or texts: triathlon supervised CONFIG [--key value …]",
    "predict": "say what a supervised run makes of your own files: triathlon predict RUN FILE…",
    "record": "write down what an agent sees and does, to be learned from: triathlon record RUN --out FOLDER",
    "evaluate": "score a trained agent: triathlon evaluate RUN",
    "doctor": "say what limits the speed of a configuration here: triathlon doctor CONFIG [--key value …]",
    "plot": "draw the learning curves of runs: triathlon plot RUN… [--out curves.png]",
    "compare": "train by several engines and draw their curves: triathlon compare CONFIG --engines native,rllib,sb3",
    "tune": "look for good settings: triathlon tune CONFIG --param agent.learning_rate='loguniform(1e-5, 1e-2)'",
    "arena": "matches of trained agents at a board game: triathlon arena RUN… --opponent mcts:1000",
    "play": "play a board game against a trained agent: triathlon play RUN",
    "import-sb3": "a model of Stable-Baselines3 as a run: triathlon import-sb3 MODEL.zip --env.id ID",
    "export-sb3": "the policy of a run for Stable-Baselines3: triathlon export-sb3 RUN MODEL.zip",
    "watch": "see a trained agent play, in a window or a file: triathlon watch RUN [--out film.mp4]",
}
# What a shell says of a command that was ended by Ctrl-C, and of one whose reader has left.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("triathlon COMMAND …\n")
        print("\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items()))
        print("\nMore of each with --help.")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5) or list(COMMANDS)
        print(f"triathlon: error: there is no command '{name}'; is it {' or '.join(near)}?", file=sys.stderr)
        return 2
    return guarded(lambda: importlib.import_module(f"triathlon.scripts.{name.replace('-', '_')}").main(rest))


def refuse_misplaced(arguments: Sequence[str], command: str) -> None:
    """Raises RunError where arguments, but no configuration before them, were given to a command."""
    if arguments:
        from triathlon.training.errors import RunError

        raise RunError(f"the configuration comes first: triathlon {command} CONFIG {shlex.join(arguments)}")


def guarded(command: Callable[[], int]) -> int:
    """Run a command; an error that a person can mend becomes one sentence and exit code 2."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `triathlon … | head` (environments and ffmpeg say it otherwise when they lose a process)
        # What is still buffered would be written, and fail, once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except ValueError as error:
        # Imported only now, as the command is: `triathlon --help` should not wait for PyTorch.
        from triathlon.envs.errors import EnvError
        from triathlon.networks.errors import SettingError
        from triathlon.training.errors import RunError

        if not isinstance(error, (SettingError, EnvError, RunError)):
            raise
        print(f"triathlon: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntriathlon: stopped", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
