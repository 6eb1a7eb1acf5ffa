"""Growth from 1 to 64 rollout workers: on paper, and by simulation with an environment of known cost.

    python benchmarks/workers_growth.py                                   steps per second of both modes
    python benchmarks/workers_growth.py --out docs/pictures/workers.png   and a picture

Workers answer after the time that their environments would take; the pool and the learner (PPO on CartPole) are real.
From some number of workers on the learner binds, and more gain nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workers import cartpole_experiment, pool_of, replace_workers

from triathlon.training.workers.transport import Remote


class Actor:
    """A worker on paper: gives the same columns each time, as long after it was asked as playing them would take."""

    def __init__(self, columns: dict[str, Any], seconds: float) -> None:
        self.due, self._columns, self._seconds = float("inf"), columns, seconds
        self._answer: dict[str, Any] = {}

    def ask(self, request: str, *arguments: Any) -> None:
        plays = request == "collect"
        played = {"columns": self._columns, "episodes": [], "seconds": {"stepping": self._seconds, "acting": 0.0}}
        self.due, self._answer = time.perf_counter() + plays * self._seconds, {"value": played if plays else {}}

    def reply(self) -> dict[str, Any] | None:
        if time.perf_counter() < self.due:
            return None
        self.due = float("inf")
        return self._answer

    def kill(self) -> None: ...


class Stage:
    """A transport that makes such workers."""

    def __init__(self, columns: dict[str, Any], seconds: float) -> None:
        self._columns, self._seconds = columns, seconds

    def make(self) -> Actor:
        return Actor(self._columns, self._seconds)

    def share(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return weights

    def wait(self, remotes: Sequence[Remote], seconds: float) -> None:
        due = min(remote.due for remote in remotes if isinstance(remote, Actor))
        time.sleep(min(seconds, max(0.0, due - time.perf_counter())))

    def close(self) -> None: ...


STEP_SECONDS = 1e-3  # of the stub environment, times environments of a worker
COUNTS = (1, 2, 4, 8, 16, 32, 64)


def growth(seconds: float, out: Path | None) -> None:
    """Steps per second with 1 to 64 workers in both modes, beside what the two times add up to."""
    found: dict[str, list[float]] = {"sync": [], "async": []}
    paper: dict[str, list[float]] = {"sync": [], "async": []}
    for num in COUNTS:
        for mode, values in found.items():
            rate, learning, waiting = grown(num, mode, seconds)
            values.append(rate)
            steps = 128 * 4 * num
            both = (waiting + learning * steps, max(waiting, learning * steps))
            paper[mode].append(steps / both[mode == "async"])
        print(f"{num:3} workers: {found['sync'][-1]:9,.0f} steps/s in step, {found['async'][-1]:9,.0f} not")
    limit = 1 / learning
    binds = 128 * STEP_SECONDS * 4 / (128 * 4 * learning)
    print(f"the learner takes {limit:,.0f} steps/s and binds from {binds:.0f} workers on")
    if out is not None:
        draw(found, paper, limit, binds, out)


def grown(num: int, mode: str, seconds: float) -> tuple[float, float, float]:
    """Steps per second; seconds that the learner takes for a step; seconds that a worker takes for a request."""
    from triathlon.training.workers import columns
    from triathlon.training.workers.pool import WorkerPool

    workers = {"kind": "process", "num": num, "mode": mode}
    experiment = cartpole_experiment(4 * num, workers=workers)
    with ExitStack() as more:
        collector, learner = pool_of(cartpole_experiment(4), more)
        played = columns.of_segment(collector.collect(128))
        _, learner = pool_of(replace_workers(experiment, {}), more)
        pool = WorkerPool(experiment, learner, Stage(played, 128 * 4 * STEP_SECONDS), 1, print)
        learner.update(pool.collect(128))
        learned, started, steps = 0.0, time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            segment = pool.collect(128)
            before = time.perf_counter()
            learner.update(segment)
            learned += time.perf_counter() - before
            steps += segment.num_steps
        return steps / (time.perf_counter() - started), learned / steps, 128 * 4 * STEP_SECONDS


def draw(found: dict[str, list[float]], paper: dict[str, list[float]], limit: float, binds: float, out: Path) -> None:
    """Both modes over the number of workers, and the learner's limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for mode, colour in (("sync", "tab:blue"), ("async", "tab:orange")):
        axes.plot(COUNTS, found[mode], "o-", color=colour, label=f"{mode}, simulated")
        axes.plot(COUNTS, paper[mode], "--", color=colour, label=f"{mode}, on paper")
    axes.axhline(limit, color="grey", linewidth=1)
    axes.annotate("the learner's limit", (1, limit), xytext=(0, 4), textcoords="offset points", color="grey")
    axes.axvline(binds, color="grey", linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="workers (4 environments of 1 ms each)", ylabel="steps a second")
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.legend()
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    print(f"drawn in {out}")


def main() -> None:
    """Measure, and draw if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--out", type=Path, help="picture")
    options = parser.parse_args()
    growth(options.seconds, options.out)


if __name__ == "__main__":
    main()
