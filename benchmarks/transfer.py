"""Does a start from elsewhere help? Agents from recorded frames, digits or a clone, and classifiers from an agent.

    python benchmarks/transfer.py                              every part, 5 seeds: some ten minutes of one core
    python benchmarks/transfer.py --parts catch --seeds 1 2    an agent at Catch only
    python benchmarks/transfer.py --out results.jsonl          goes on where this file ends

Parts, each from scratch and from what was learned before, with the same settings and seeds:

- catch: PPO at Catch for 20,000 steps (of the 60,000 that it wants), its CNN from scratch (`scratch`), from predicting
  the next frame of random play (`next`), from showing the same frame (`same`), or from reading digits (`digits`).
- cartpole: PPO at CartPole for 10,000 steps (of 80,000) from scratch (`scratch`), or from a clone of a recording of the
  whole training's agent with every fifth action at random: its backbone and policy head (`clone`) or its backbone
  (`backbone`).
- side, digits: where the ball is as seen from the paddle (3 classes), and which digit it is (10), by 20 labelled
  pictures a class, a tenth of which choose the checkpoint; the CNN from scratch (`scratch`) or from an agent that
  played Catch for 40,000 steps (`agent`).

For agents: `learning`, the mean return while learning, and `final`, that of 100 greedy episodes at the end. For
classifiers: `accuracy` on pictures that were not learned from. What is learned before is learned anew with each seed.
Intervals are 95 % percentile bootstraps over seeds; a difference is one of runs with the same seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triathlon.envs.make import make_envs
from triathlon.training import config
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import RunFolder, create
from triathlon.training.runner import Run, train
from triathlon.training.statistics import summarize
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import fit
from triathlon.training.supervised.played.recorder import record
from triathlon.training.yaml_text import dump

CNN = {"kind": "cnn", "features": 64}  # that of catch_ppo
QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
ARMS = {
    "catch": ("scratch", "next", "same", "digits"),
    "cartpole": ("scratch", "clone", "backbone"),
    "side": ("scratch", "agent"),
    "digits": ("scratch", "agent"),
}
STEPS = {"catch": 20_000, "cartpole": 10_000}
EACH, TESTED = 20, 200  # labelled pictures a class


def main() -> None:
    """Run what is missing, and print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="only these starts, and scratch")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, metavar="FILE", help="a line of JSON for each run")
    options = parser.parse_args()
    rows = (
        [json.loads(line) for line in options.out.read_text().splitlines()]
        if options.out and options.out.exists()
        else []
    )
    there = {(row["part"], row["arm"], row["seed"]) for row in rows}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            sources = Sources(Path(folder), seed)
            for part in options.parts:
                for arm in ARMS[part]:
                    wanted = not options.arms or arm in (*options.arms, "scratch")
                    if (part, arm, seed) in there or not wanted:
                        continue
                    run = agent_scores if part in STEPS else classifier_scores
                    row = {"part": part, "arm": arm, "seed": seed, **run(part, arm, sources)}
                    print(json.dumps(row), flush=True)
                    rows.append(row)
                    if options.out:
                        with options.out.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    print_table(rows)


class Sources:
    """What runs of one seed start from, each made when it is first asked for."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._made: dict[str, Path] = {}

    def __call__(self, name: str) -> Path:
        if name not in self._made:
            makers: dict[str, Callable[[], Path]] = {
                "next": lambda: self.frames("next"),
                "same": lambda: self.frames("same"),
                "digits": self.digits,
                "clone": self.clone,
                "agent": lambda: self.agent("catch_ppo", 40_000),
                "catch": lambda: self.recording("catch_ppo", 10_000),
            }
            self._made[name] = makers[name]()
        return self._made[name]

    def fitted(self, name: str, task: dict[str, Any], backbone: Any, settings: dict[str, Any]) -> Path:
        """The folder of a supervised run."""
        mapping = {**QUIET, "task": task, "backbone": backbone, "fit": settings, "seed": self.seed}
        folder = self.folder / name
        fit(from_mapping(mapping), folder)
        (folder / "config.yaml").write_text(dump(mapping))
        return folder

    def recording(self, name: str, num_steps: int, run: Path | None = None, epsilon: float = 0.0) -> Path:
        """Play written down: an agent's, or at random."""
        experiment = config.load(name)
        policy = None if run is None else load_policy(RunFolder(run).checkpoint(), RunFolder(run).experiment())
        envs = make_envs(experiment.env)
        found = record(policy, envs, num_steps, 2**31 + self.seed, experiment.env, epsilon=epsilon)
        envs.close()
        folder = self.folder / f"{name}-recording"
        found.save(folder)
        return folder

    def frames(self, target: str) -> Path:
        task = {"kind": "frame_prediction", "source": str(self("catch")), "target": target, "decoder_channels": 16}
        return self.fitted(target, task, CNN, {"num_epochs": 3, "batch_size": 64})

    def digits(self) -> Path:
        task = {"kind": "image_classification", "source": str(digit_files(self.folder / "all", None, 0))}
        return self.fitted("digits", task, CNN, {"num_epochs": 10, "batch_size": 64})

    def clone(self) -> Path:
        expert = self.agent("cartpole_ppo", 80_000)
        data = self.recording("cartpole_ppo", 5_000, expert, epsilon=0.2)
        task = {"kind": "behaviour_cloning", "source": str(data), "num_episodes": 0}
        return self.fitted("clone", task, {"kind": "mlp"}, {"num_epochs": 10, "batch_size": 64})

    def agent(self, name: str, num_steps: int) -> Path:
        return trained(name, num_steps, self.seed, self.folder)[1]


def trained(name: str, num_steps: int, seed: int, root: Path, *settings: str) -> tuple[dict[str, float], Path]:
    """The scores of a trained agent, and its run folder."""
    quiet = {"evaluation.video": "false", "evaluation.period": "null", "logging.tensorboard": "false"}
    quiet |= {"logging.csv": "false", "num-threads": "1", "device": "cpu", "root": str(root), "seed": str(seed)}
    quiet |= {"total-steps": str(num_steps), "logging.period": str(num_steps // 20)}
    experiment = config.load(
        name, [word for key, value in quiet.items() for word in (f"--{key}", value)] + list(settings)
    )
    folder = create(experiment, ["benchmarks/transfer.py"]).path
    curve: list[float] = []

    def note(run: Run, scalars: dict[str, float]) -> None:
        if "rollout/ep_rew_mean" in scalars:
            curve.append(scalars["rollout/ep_rew_mean"])

    result = train(experiment, folder, on_report=note)
    return {"learning": float(np.mean(curve)), "final": float(np.mean(result.returns))}, folder


def agent_scores(part: str, arm: str, sources: Sources) -> dict[str, float]:
    """An agent that starts as `arm` says."""
    start: list[str] = []
    if arm != "scratch":
        start = ["--init-from", str(sources("clone" if arm == "backbone" else arm))]
        start += ["--init-head", "false"] if arm == "backbone" else []
    return trained(f"{part}_ppo", STEPS[part], sources.seed, sources.folder / arm, *start)[0]


def classifier_scores(part: str, arm: str, sources: Sources) -> dict[str, float]:
    """A classifier of few labelled pictures that starts as `arm` says."""
    data = sources.folder / f"{part}-few"
    if not data.exists():
        digit_files(data, EACH, sources.seed) if part == "digits" else side_files(data, sources)
    mapping = {
        **QUIET,
        "task": {"kind": "image_classification", "source": str(data)},
        "backbone": CNN,
        "fit": {"num_epochs": 60, "batch_size": 50, "warmup_steps": 10, "evaluation_period": 20},
        "seed": sources.seed,
        "init_from": None if arm == "scratch" else str(sources(arm)),
    }
    result = fit(from_mapping(mapping), sources.folder / f"{part}-{arm}")
    assert result.test is not None
    return {"accuracy": result.test.metrics["accuracy"]}


def digit_files(folder: Path, each: int | None, seed: int) -> Path:
    """Digits as pictures of Catch's size; `each` of a class, or all, are learned from, and the rest are the test."""
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    small = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    pictures = np.stack([np.array(Image.fromarray(picture).resize((10, 10))) for picture in small])
    return idx_files(folder, pictures, target.astype(np.uint8), each, seed)


def side_files(folder: Path, sources: Sources) -> Path:
    """Frames of random play at Catch by where the ball is, seen from the paddle; each frame once."""
    with np.load(sources("catch") / "rows.npz") as file:
        frames = np.unique(file["obs"][..., 0], axis=0)
    frames = frames[frames[:, :-1].any((1, 2))]  # the ball is above the lowest row, in which the paddle is
    side = np.sign(frames[:, :-1].any(1).argmax(1) - frames[:, -1].argmax(1))
    return idx_files(folder, frames, (side + 1).astype(np.uint8), EACH, sources.seed)


def idx_files(
    folder: Path, pictures: NDArray[np.uint8], target: NDArray[np.uint8], each: int | None, seed: int
) -> Path:
    """The four IDX files that MNIST is published as."""
    order = np.random.default_rng(seed).permutation(len(target))
    rank = np.zeros(len(target), int)  # of each picture among those of its class
    for name in np.unique(target):
        own = order[target[order] == name]
        rank[own] = np.arange(len(own))
    few = EACH if each is None else each
    parts = {
        "train": rank[order] < (len(target) if each is None else few),
        "t10k": (rank[order] >= few) & (rank[order] < few + TESTED),
    }
    folder.mkdir(parents=True)
    for part, chosen in parts.items():
        for what, array in (("images-idx3", pictures[order[chosen]]), ("labels-idx1", target[order[chosen]])):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (folder / f"{part}-{what}-ubyte").write_bytes(header + array.tobytes())
    return folder


def print_table(rows: list[dict[str, Any]]) -> None:
    """Means over seeds with intervals, and differences to scratch."""
    rng = np.random.default_rng(0)
    for part, arms in ARMS.items():
        for measure in ("learning", "final", "accuracy"):
            scores = {
                a: {r["seed"]: r[measure] for r in rows if (r["part"], r["arm"]) == (part, a) and measure in r}
                for a in arms
            }
            for arm, of_seed in scores.items():
                if not of_seed:
                    continue
                found, words = summarize(list(of_seed.values()), rng), ""
                both = sorted(of_seed.keys() & scores["scratch"].keys())
                if arm != "scratch" and both:
                    more = summarize([of_seed[seed] - scores["scratch"][seed] for seed in both], rng)
                    words = "   against scratch {:+.3f} ({:+.3f} to {:+.3f})".format(more.mean, *more.mean_interval)
                spread = "{:.3f} ({:.3f} to {:.3f})".format(found.mean, *found.mean_interval)
                print(f"{part:<9} {measure:<9} {arm:<9} {spread:<28} {len(of_seed)} seeds{words}")


if __name__ == "__main__":
    main()
