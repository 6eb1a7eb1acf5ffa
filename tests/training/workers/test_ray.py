"""Workers on a real Ray cluster of two nodes: the same as local ones to the bit, and what happens when a node goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.free_ports import free_ports
from triathlon.training.errors import RunError
from triathlon.training.runner import train
from triathlon.training.schema import to_mapping
from triathlon.training.workers.ray_cluster import RayTransport
from triathlon.training.workers.worker import RolloutWorker

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.cluster  # one cluster serves them all

LOCAL, RAY = {"kind": "local", "num": 2}, {"kind": "ray", "num": 2}


def node_settings() -> dict[str, Any]:
    """A small store, no dashboard, and ports for the agents, for whose choice of one Ray waits 15 s and no longer.

    A node whose agent cannot listen goes.
    """
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return {"include_dashboard": False, "object_store_memory": 100 * 2**20} | ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that holds no workers, and the nodes that tests add. Its token is written into a home of its own."""
    before = os.environ.copy()
    os.environ |= {"HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "180"}
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "no_monitor": True, **node_settings()})
    yield made
    made.shutdown()
    os.environ.clear()
    os.environ |= before


@pytest.fixture
def node(cluster: Any) -> Iterator[Any]:
    """Makes a node for so many workers."""
    nodes = []

    def add(num_cpus: int = 2) -> Any:
        nodes.append(cluster.add_node(num_cpus=num_cpus, **node_settings()))
        return nodes[-1]

    yield add
    for made in nodes:
        if made in cluster.list_all_nodes():
            cluster.remove_node(made)


@pytest.mark.parametrize(("agent", "backbone"), [("ppo", "lstm"), ("dqn", "mlp")])
def test_actors_give_what_local_workers_give(
    tmp_path: Path, experiment, learned, curve, cluster, node, monkeypatch, workers_of_mine, agent: str, backbone: str
) -> None:
    node()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    for name, workers in (("local", LOCAL), ("ray", RAY)):
        result = train(experiment(agent, backbone, workers), tmp_path / name)
        assert result.num_steps >= 600
    assert not ray.is_initialized()  # the run has left the cluster
    assert curve(tmp_path / "local") == curve(tmp_path / "ray")
    assert learned(tmp_path / "local").equal(learned(tmp_path / "ray"))


@pytest.mark.parametrize("agent", ["learning ppo", "learning dqn"])
def test_a_run_survives_killed_stopped_and_raising_actors_and_a_lost_node(
    tmp_path: Path, experiment, chaos, curve, logged, cluster, node, workers_of_mine, capsys, agent: str
) -> None:
    """One node with a worker goes while the run is under way; the other has room for its successor."""
    workers = RAY | {"address": cluster.address, "hang_seconds": 8.0, "backoff_seconds": 0.1}
    goes, _ = node(1), node(2)
    env = chaos("SIGKILL", "SIGSTOP", "raise")
    folder = tmp_path / "run"

    def remove() -> None:
        while len(list((tmp_path / "done").iterdir())) < 3:
            time.sleep(0.1)
        cluster.remove_node(goes, allow_graceful=False)

    remover = threading.Thread(target=remove, daemon=True)
    remover.start()
    result = train(experiment(agent, "wide", workers, env=env, total_steps=40_000), folder)
    remover.join()
    assert result.num_steps >= 40_000
    last = [float(score) for score, _ in curve(folder)[-20:]]
    assert sum(last) / len(last) > 40  # random play: 22
    found = {name: logged(folder, f"workers/{name}")[-1] for name in ("deaths", "hangs", "env_errors", "restarts")}
    assert found["hangs"] >= 1
    assert found["env_errors"] == 1
    assert found["deaths"] >= 1
    said = capsys.readouterr().err
    assert said.count('raise RuntimeError("the pole is broken")') == 1


def test_an_answer_is_there_before_it_is_fetched_from_its_node(experiment, cluster, node, workers_of_mine) -> None:
    """Or a worker on another node would be taken for hung whenever nobody listened for `hang_seconds`."""
    node(1)
    settings = experiment(workers={"kind": "ray", "num": 1, "address": cluster.address})
    transport = RayTransport(settings.workers, 1)
    worker = transport.make()
    try:
        worker.ask("start", to_mapping(settings), 0, 0)
        transport.wait([worker], 120.0)
        assert worker.reply() is not None
        same = RolloutWorker(to_mapping(settings), 0, 0)
        worker.ask("collect", 5_000, same.policy.weights().numpy())  # more than Ray sends with the news that it is done
        same.close()
        assert ray.wait([worker.under_way], timeout=120.0, fetch_local=False)[0]
        answer = worker.reply()
        assert answer is not None and len(answer["value"]["columns"]["is_first"]) == 5_001
    finally:
        worker.kill()
        transport.close()


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, experiment) -> None:
    with pytest.raises(RunError, match=r"there is no Ray cluster at 127.0.0.1:1 \(workers.address or RAY_ADDRESS\)"):
        train(experiment(workers=RAY | {"address": "127.0.0.1:1"}), tmp_path)


def test_a_cluster_without_room_is_said_so(tmp_path: Path, experiment, cluster) -> None:
    workers = RAY | {"address": cluster.address, "start_seconds": 3.0}
    with pytest.raises(RunError, match=r"worker \d did not start within 3 s \(workers.start_seconds\); a Ray cluster"):
        train(experiment(workers=workers), tmp_path)


def test_a_run_starts_a_cluster_of_its_own_and_ends_it(
    tmp_path: Path, experiment, curve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    train(experiment(workers=RAY, total_steps=200), tmp_path / "run")
    assert curve(tmp_path / "run")
    gone = psutil.wait_procs([p for p in psutil.Process().children(recursive=True) if p.pid not in before], timeout=10)
    assert not gone[1]
