"""`triathlon doctor CONFIG [--key value …]`: what limits the speed of a configuration on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triathlon.scripts.main import guarded, refuse_misplaced
from triathlon.training.errors import RunError

if TYPE_CHECKING:  # --help does not wait for PyTorch
    from triathlon.training.bottleneck import Bottleneck, Situation
    from triathlon.training.doctor import Diagnosis
    from triathlon.training.stopwatch import Phase

LONGEST = 600.0  # seconds of one measurement
WHAT: dict[Phase, str] = {
    "stepping": "the environments",
    "acting": "the policy",
    "transfer": "copies to and from the device",
    "learning": "the updates",
    "the rest": "writing rows down",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Taken off by hand, as `triathlon train` does: the value of a setting could stand where CONFIG should.
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    parser = _parser()
    options, settings = parser.parse_known_args(arguments)
    if name is None:
        if not options.help:
            refuse_misplaced(arguments, "doctor")
        parser.print_help(sys.stdout if options.help else sys.stderr)
        return 0 if options.help else 2
    from triathlon.training import config

    experiment = config.load(name, settings)
    if options.help:
        print(parser.format_help())
        print(config.help_text(experiment))
        return 0
    if not 0.0 < options.seconds <= LONGEST:
        raise RunError(f"--seconds is {options.seconds:g} but should be above 0 and at most {LONGEST:g}")
    if options.trials < 0:
        raise RunError(f"--trials is {options.trials} but should be at least 0")
    from triathlon.training.doctor import diagnose

    def show(stage: str) -> None:
        print(f"measuring {stage} …", file=sys.stderr, flush=True)

    print(report(name, diagnose(experiment, options.seconds, options.trials, show)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon doctor",
        usage="triathlon doctor CONFIG [--seconds S] [--trials N] [--path.to-setting value …]",
        description="Measures where the time of CONFIG goes on this machine, what each part reaches alone, and what "
        "changes that seem to help would gain. Nothing is written.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, and the settings of CONFIG")
    text = "how long each measurement takes at least (default: 3)"
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help=text)
    text = "how many changes are tried, 0 for none (default: 2)"
    parser.add_argument("--trials", type=int, default=2, metavar="N", help=text)
    return parser


def report(name: str, found: Diagnosis) -> str:
    """The whole report for a person."""
    parts = [_machine(name, found.bottleneck.situation, found.load), _table(found), _limits(found), _advice(found)]
    return "\n\n".join(parts)


def _machine(name: str, about: Situation, load: float) -> str:
    from triathlon.agents.gradient_step import has_compiler
    from triathlon.training.bottleneck import count, device_name

    env, agent = about.experiment.env, about.experiment.agent
    compiled = "on" if about.compiles else "off"
    compiled += " (auto)" if getattr(agent, "compile", False) == "auto" else ""
    compiler = "there" if has_compiler(about.device) else "missing"
    bfloat16 = f"this CPU {'computes' if about.cpu_has_bfloat16 else 'does not compute'} in bfloat16"
    stepping = {
        "atari": "ALE's threads",
        "own": "the environment's own vector version",
        "sync": "one after another",
        "process": "one process each",
    }
    rows = [
        ("Plays", f"{env.id}, {count(env.num_envs, 'environment')}, {stepping[about.stepping]}"),
        ("Learns", f"{agent.kind} on {about.experiment.backbone.kind}, {about.num_parameters:,} parameters"),
        ("Device", f"{about.device.type}: {device_name(about.device)}"),
        ("CPU", f"{count(about.num_cores, 'core')}, {count(about.num_threads, 'PyTorch thread')}; {bfloat16}"),
        ("Precision", str(about.precision).removeprefix("torch.")),
        ("Compile", f"{compiled}; {'a C++ compiler' if about.device.type == 'cpu' else 'Triton'} is {compiler}"),
    ]
    if load > 0.5 * about.num_cores:
        rows.append(("Busy", f"load {load:.1f} before the measurements: on an idle machine all figures are better"))
    return "\n".join([name, *(f"  {label:<10} {text}" for label, text in rows)])


def _table(found: Diagnosis) -> str:
    from triathlon.training.bottleneck import duration, rate
    from triathlon.training.stopwatch import shares

    spent: Bottleneck = found.bottleneck
    alone: dict[Phase, float] = {"stepping": found.stepping, "acting": found.acting, "learning": found.learning}
    share = shares(spent.seconds)
    lines = [f"  {'':<41} {'share':>7} {'a step':>10} {'steps/s alone':>14}"]
    for phase, what in WHAT.items():
        if phase == "transfer" and spent.situation.device.type != "cuda":
            continue
        reached = rate(alone[phase]) if phase in alone else ""
        row = f"  {phase:<10} {what:<30} {share[phase]:>7.1%} {duration(spent.a_step(phase)):>10} {reached:>14}"
        lines.append(row.rstrip())
    lines.append(f"  {'together':<41} {1.0:>7.1%} {duration(spent.a_step()):>10} {rate(found.rate):>14}")
    return "\n".join(lines)


def _limits(found: Diagnosis) -> str:
    from triathlon.training.bottleneck import rate

    one_by_one, overlapped = found.limit, found.overlapped_limit
    lines = [
        f"This configuration runs at {rate(found.rate)} steps/s; stepping alone {rate(found.stepping)}, "
        f"acting alone {rate(found.acting)}, learning alone {rate(found.learning)}.",
        f"Reached of this machine's limit: {found.rate / one_by_one:.0%} of {rate(one_by_one)} steps/s with nothing "
        "between the three,",
        f"{found.rate / overlapped:.0%} of {rate(overlapped)} steps/s were they to go on all at the same time.",
    ]
    if found.is_doubtful:
        lines.append("The parts were slower alone than together: something else kept the machine busy; measure again.")
    return "\n".join(lines)


def _advice(found: Diagnosis) -> str:
    from triathlon.training.bottleneck import rate
    from triathlon.training.stopwatch import shares

    spent, best = found.bottleneck, found.best

    lines = [f"Binds: {spent.binds} ({shares(spent.seconds)[spent.binds]:.0%} of the time)"]
    if not found.trials:
        lines.append(f"Try:   {spent.advice()}")
    elif best is not None:
        lines.append(f"Try:   {best.change}")
    else:
        lines.append("Try:   nothing; what was tried gains nothing")
    for trial in found.trials:
        if trial.rate is None:
            result = f"refused: {trial.refusal}"
        else:
            result = f"{rate(trial.rate)} steps/s instead of {rate(found.rate)}"
        lines.append(f"Tried: {trial.change.settings_text}: {result}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
