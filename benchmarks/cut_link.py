"""Cuts the link between the two nodes of a Ray cluster while an agent is being trained on both. Linux, as root.

    python benchmarks/cut_link.py
    python benchmarks/cut_link.py --config cartpole_dqn --steps 40_000

Each node stands in a network namespace of its own; a pair of virtual interfaces joins them, and one end is taken down
when a third of the steps is done. The run has to end with all its steps; the worker that was cut off is made anew on
the node that is left. Prints how long it went without a step. Namespaces and processes are gone afterwards.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HEAD, OTHER = "triathlon-head", "triathlon-other"
ADDRESSES = {HEAD: "10.77.0.1", OTHER: "10.77.0.2"}
PORT = 6379
# A node is taken for dead after three looks, two seconds each, that it does not answer.
HEALTH = '{"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}'


def ip(*arguments: str) -> None:
    """Run `ip` with these arguments."""
    subprocess.run(["ip", *arguments], check=True)


def make_network(more: ExitStack) -> None:
    """Two namespaces, joined."""
    for name in ADDRESSES:
        ip("netns", "add", name)
        more.callback(ip, "netns", "delete", name)
        ip("-n", name, "link", "set", "lo", "up")
    ip("link", "add", "end0", "netns", HEAD, "type", "veth", "peer", "name", "end1", "netns", OTHER)
    for end, (name, address) in zip(("end0", "end1"), ADDRESSES.items(), strict=True):
        ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
        ip("-n", name, "link", "set", end, "up")


def begin(more: ExitStack, namespace: str, home: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in a namespace; it is ended with all its processes."""
    quiet = {"HOME": str(home), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    begun = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command], env=os.environ | quiet, start_new_session=True
    )

    def end() -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(begun.pid, number)
                begun.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    more.callback(end)
    return begun


def start_cluster(more: ExitStack, home: Path) -> None:
    """A head with room for both workers, and a node with room for one."""
    ray = str(Path(sys.executable).parent / "ray")
    address = f"{ADDRESSES[HEAD]}:{PORT}"
    small = ("--object-store-memory=200000000", "--block")
    head = ("--head", f"--port={PORT}", "--include-dashboard=false", f"--system-config={HEALTH}")
    for name, role in ((HEAD, (*head, "--num-cpus=2")), (OTHER, (f"--address={address}", "--num-cpus=1"))):
        place = (f"--node-ip-address={ADDRESSES[name]}", f"--temp-dir={home / name[-5:]}")
        begin(more, name, home, ray, "start", *role, *place, *small)
        time.sleep(20.0)


def steps_below(root: Path) -> tuple[int, dict[str, str]]:
    """How far the run below `root` is, if it has come to write anything, and what it wrote last of each metric."""
    last: dict[str, str] = {}
    for table in root.glob("*/cut/progress.csv"):
        for row in csv.DictReader(table.read_text().splitlines()):
            last |= {name: value for name, value in row.items() if value}  # a row of an evaluation has only its own
    return int(float(last.get("time/total_timesteps", 0))), last


def main() -> None:
    """Train, cut, and see what becomes of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="cartpole_ppo")
    parser.add_argument("--steps", type=int, default=80_000)
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("ip"):
        sys.exit("Network namespaces want root and the command ip.")
    with ExitStack() as more:
        home = Path(more.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        make_network(more)
        start_cluster(more, home)
        settings = {
            "total-steps": options.steps,
            "root": home / "runs",
            "name": "cut",
            "logging.period": 500,
            "evaluation.video": "false",
            "workers.kind": "ray",
            "workers.num": 2,
            "workers.envs-per-worker": 4,
            "workers.address": f"{ADDRESSES[HEAD]}:{PORT}",
        }
        arguments = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
        command = [sys.executable, "-m", "triathlon.scripts.main", "train", options.config, *arguments]
        run = begin(more, HEAD, home, *command)
        before, cut_at, longest, since = 0, 0.0, 0.0, time.monotonic()
        while run.poll() is None:
            time.sleep(0.1)
            done, _ = steps_below(home / "runs")
            if done > before:
                longest = max(longest, time.monotonic() - since) if cut_at else 0.0
                before, since = done, time.monotonic()
            if done >= options.steps // 3 and not cut_at:
                cut_at = time.monotonic()
                ip("-n", OTHER, "link", "set", "end1", "down")
                print(f"Cut after {done:,} steps.", flush=True)
        done, row = steps_below(home / "runs")
        survived = run.returncode == 0 and cut_at and float(row.get("workers/deaths", 0)) >= 1
        print(
            f"{done:,} steps; longest time without news after the cut: {longest:.1f} s; workers lost: "
            f"{row.get('workers/deaths', '?')}, alive: {row.get('workers/alive', '?')}"
        )
        sys.exit(0 if survived else 1)


if __name__ == "__main__":
    main()
