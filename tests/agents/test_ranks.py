"""Two processes that learn together get the weights of one that has all their samples. T rows, B columns, N samples.

This file is also what the processes run: `python test_ranks.py FILE` learns as one of them and writes its weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.agents.ranks import ALONE, Ranks, join, own_gpu
from triathlon.agents.registry import make_learner
from triathlon.agents.sample import Sample
from triathlon.agents.segment import Segment
from triathlon.envs import make_envs
from triathlon.networks.errors import SettingError
from triathlon.training.collector import Collector
from triathlon.training.config import from_mapping
from triathlon.training.task import make_task

MLP = {"kind": "mlp", "hidden_sizes": [16]}
LSTM = {"kind": "lstm", "encoder": MLP, "hidden_size": 8}
NUM_ENVS = 4
PPO = {
    "kind": "ppo",
    "num_steps": 16,
    "num_epochs": 3,
    "batch_size": 64,  # all rows: the processes deal out minibatches by lots of their own
    "learning_rate": 1e-2,
    "ent_coef": 0.01,
    "normalize_obs": True,
    "normalize_reward": True,
}
DQN = {"kind": "dqn", "learning_starts": 24, "batch_size": 8, "buffer_size": 400, "train_period": 16, "gamma": 0.9}
DQN |= {"learning_rate": 1e-2, "normalize_obs": True, "gradient_steps": 2, "target_period": 40}


def learner_of(agent: dict[str, Any], backbone: Any, ranks: Ranks, num_envs: int = 0) -> tuple[Any, Any]:
    """A learner with its part of four environments, and these. Episodes are cut off after 7 steps."""
    num_envs = num_envs or NUM_ENVS // ranks.size
    env = {"id": "CartPole-v1", "num_envs": num_envs, "max_episode_steps": 7}
    experiment = from_mapping({"env": env, "agent": agent, "backbone": backbone, "total_steps": 1000})
    envs = make_envs(experiment.env)
    task = make_task(experiment, envs, torch.device("cpu"), np.random.SeedSequence(3))
    return make_learner(experiment.agent, experiment.backbone, replace(task, ranks=ranks)), envs


def segments(agent: dict[str, Any], backbone: Any, num: int) -> list[Segment]:
    """What four environments gave a learner that learns nothing."""
    learner, envs = learner_of(agent, backbone, ALONE)
    collector = Collector(envs, learner.policy, 5, learner.state_period)
    return [collector.collect(16) for _ in range(num)]


def columns(segment: Segment, part: slice) -> Segment:
    """Some columns of it, in memory of their own."""
    chosen = segment.map(lambda x: x[:, part].clone())
    return replace(chosen, state=tuple(s[:, part].clone() for s in segment.state))


def ppo(ranks: Ranks, backbone: Any = MLP, split: int = 2, lag: int = 0, **settings: Any) -> dict[str, Any]:
    """Three updates; `split` columns are the first process', the others the second's."""
    agent = PPO | settings
    part = slice(None) if ranks.size == 1 else (slice(split), slice(split, None))[ranks.rank]
    num_envs = len(range(NUM_ENVS)[part])
    learner, _ = learner_of(agent, backbone, ranks, num_envs)
    for segment in segments(agent, backbone, 3):
        metrics = learner.update(replace(columns(segment, part), lag=lag))
    return reported(learner, metrics)


def dqn(ranks: Ranks, backbone: Any = MLP, **settings: Any) -> dict[str, Any]:
    """Three updates on samples of one replay, of which each process has a half."""
    agent = DQN | settings
    learner, _ = learner_of(agent, backbone, ranks)
    keeper, envs = learner_of(agent, backbone, ALONE)
    collector = Collector(envs, keeper.policy, 5, keeper.state_period)
    for _ in range(6):
        keeper.replay.add(collector.collect(16))
    metrics = {}
    for _ in range(3):
        drawn = keeper.replay.sample(8)
        drawn = replace(drawn, weights=torch.linspace(0.2, 1.0, 8))
        metrics = learner._learn(drawn if ranks.size == 1 else half(drawn, slice(4 * ranks.rank, 4 * ranks.rank + 4)))
    return reported(learner, {"loss": metrics["loss"], "grad_norm": metrics["grad_norm"]})


def half(drawn: Sample, part: slice) -> Sample:
    several = {name: getattr(drawn, name)[:, part] for name in ("returns", "discount", "bootstrap", "mask")}
    state = tuple(s[part] for s in drawn.state)
    segment = columns(drawn.segment, part)
    return Sample(segment=segment, state=state, weights=drawn.weights[part], index=drawn.index[part], **several)


def uneven(ranks: Ranks, agent: dict[str, Any]) -> dict[str, Any]:
    """Each process by itself, as in a run; the second's environments play nothing in every other segment."""
    learner, envs = learner_of(agent, MLP, ranks)
    collector = Collector(envs, learner.policy, 10 + ranks.rank, learner.state_period)
    played = 0
    for number in range(9):
        segment = collector.collect(learner.num_rows)
        if ranks.rank == 1 and number % 2 == 0:
            segment = replace(segment, is_first=torch.ones_like(segment.is_first))
        played += segment.num_steps
        learner.update(segment)
    return reported(learner, {"n_updates": learner._num_updates, "n_steps": learner._num_steps, "played": played})


def reported(learner: Any, metrics: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: np.float64(float(value)) for name, value in metrics.items()}
    return numbers | {"weights": learner.policy.weights().numpy()}


JOINED: dict[str, Callable[[Ranks], dict[str, Any]]] = {
    "ppo": ppo,
    "ppo with a memory": lambda ranks: ppo(ranks, LSTM, segment_length=4),
    "ppo behind": lambda ranks: ppo(ranks, lag=1, vtrace="always", learning_rate=0.05),
    "ppo with unequal parts": lambda ranks: ppo(ranks, split=3),
    "ppo in parts": lambda ranks: ppo(ranks, accumulate=3),
    "ppo that stops early": lambda ranks: ppo(ranks, target_kl=1e-4, num_epochs=10),
    "dqn": lambda ranks: dqn(ranks, double=True, n_step=2),
    "dqn with a memory": lambda ranks: dqn(ranks, LSTM, segment_length=4, burn_in=2),
    "dqn with quantiles": lambda ranks: dqn(ranks, head={"kind": "qr", "noisy": True}),
    "dqn in parts": lambda ranks: dqn(ranks, accumulate=3),
}
UNEVEN = {
    "ppo": PPO | {"batch_size": 24},
    "dqn": DQN | {"prioritized": True, "initial_priority": "td_error", "epsilon_alpha": 3.0},
}


def main(path: str) -> None:
    """All of it as one process of several."""
    torch.set_num_threads(1)
    ranks = join()
    found: dict[str, Any] = {}
    for name, scenario in JOINED.items():
        found |= {f"{name}/{key}": value for key, value in scenario(ranks).items()}
    for name, agent in UNEVEN.items():
        found |= {f"uneven {name}/{key}": value for key, value in uneven(ranks, agent).items()}
    np.savez(path, **found)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    from tests.free_ports import free_ports  # the processes that are started find no tests

    (port,) = free_ports(1)
    started = []
    for rank in range(2):
        variables = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, __file__, str(folder / f"{rank}.npz")]
        started.append(subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


@pytest.mark.parametrize("name", JOINED)
def test_two_processes_learn_what_one_does(processes: list[dict[str, Any]], name: str) -> None:
    alone = JOINED[name](ALONE)
    assert alone["grad_norm"] > 1e-3
    for found in processes:
        for key, value in alone.items():
            assert found[f"{name}/{key}"] == pytest.approx(value, rel=2e-4, abs=2e-5), key
    assert np.array_equal(processes[0][f"{name}/weights"], processes[1][f"{name}/weights"])


@pytest.mark.parametrize("name", UNEVEN)
def test_processes_with_unequal_experience_agree(processes: list[dict[str, Any]], name: str) -> None:
    first, second = ({key: x[f"uneven {name}/{key}"] for key in ("weights", "n_updates", "n_steps")} for x in processes)
    assert np.array_equal(first["weights"], second["weights"])
    assert first["n_updates"] == second["n_updates"] > 5
    played = [int(x[f"uneven {name}/played"]) for x in processes]
    assert played[1] < 0.7 * played[0]
    assert first["n_steps"] == second["n_steps"] == sum(played)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(SettingError, match=r"agent\.batch_size is 7, which 2 processes cannot share evenly"):
        learner_of(DQN | {"batch_size": 7}, MLP, Ranks(0, 2))
    with pytest.raises(SettingError, match="pqn learns in one process, and there are 2"):
        learner_of({"kind": "pqn"}, MLP, Ranks(0, 2))


def test_each_process_draws_its_own_and_begins_with_the_same_weights() -> None:
    seed = np.random.SeedSequence(7).spawn(1)[0]
    states = [Ranks(rank, 3).seed(seed).generate_state(2).tolist() for rank in range(3)]
    assert states[0] == seed.generate_state(2).tolist()
    assert len({tuple(state) for state in states}) == 3
    learners = [learner_of(DQN | {"epsilon_alpha": 7.0}, MLP, Ranks(rank, 2))[0] for rank in range(2)]
    assert learners[0].policy.weights().equal(learners[1].policy.weights())
    assert not learners[0].policy.generator.get_state().equal(learners[1].policy.generator.get_state())
    epsilons = [learner.policy._epsilons(2).tolist()[0] for learner in learners]
    assert epsilons[0] + epsilons[1] == pytest.approx(learners[0].policy.epsilons().tolist())


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert own_gpu(1, 2) == 1
    with pytest.raises(SettingError, match=r"more processes .* than the 2 GPUs of this machine"):
        own_gpu(2, 2)


def test_alone_where_nobody_started_others() -> None:
    assert join({}) is ALONE
    assert ALONE.gather(3, 4.5) == [[3], [4.5]]
    assert ALONE.sum(torch.tensor(2.0)).item() == 2.0


if __name__ == "__main__":
    main(sys.argv[1])
