"""Doing what was done in a recording (Pomerleau 1988, "ALVINN"). T rows, B columns, N played rows, A choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from triathlon.envs.make import EnvConfig
from triathlon.networks.backbone import State
from triathlon.networks.distributions import ActionDistribution
from triathlon.networks.policy_heads import StdKind
from triathlon.training import schema
from triathlon.training.supervised.drawing import confusion_picture
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import confusion
from triathlon.training.supervised.played.cloned_policy import ActionHead, ClonedPolicy, play, random_return
from triathlon.training.supervised.played.recorded_task import RecordedTask, RecordedTaskConfig
from triathlon.training.supervised.played.recording import Recording
from triathlon.training.supervised.played.rows import RecordedRows, RowBatch
from triathlon.training.supervised.task import Evaluation

MOST_NAMES = 32  # actions that a picture of confusions has room for


@dataclass(frozen=True)
class BehaviourCloningConfig(RecordedTaskConfig):
    """Settings of behaviour cloning."""

    kind: Annotated[str, "do what was done in a recording"] = "behaviour_cloning"
    best_share: Annotated[float, Gt(0), Le(1), "learn from this share of the episodes, those of highest return"] = 1.0
    std: Annotated[StdKind, "Box actions: deviation as a free parameter, or read from the features (state)"] = "free"
    num_episodes: Annotated[int, Ge(0), "episodes that are played after fitting; 0: none"] = 20
    deterministic: Annotated[bool, "play the likeliest action instead of drawing one"] = True
    env: Annotated[EnvConfig | None, "what is played after fitting; null: what was recorded"] = None


class BehaviourCloning(RecordedTask):
    """The likelihood of recorded actions under an agent's own policy head. Rewards are not learned from."""

    Config = BehaviourCloningConfig
    config: BehaviourCloningConfig

    def choose(self, recording: Recording) -> Recording:
        return best_episodes(recording, self.config.best_share)

    def facts_of(self, recording: Recording) -> dict[str, Any]:
        env, returns = self.config.env or recording.env, recording.returns()
        return super().facts_of(recording) | {
            "env": None if env is None else schema.to_mapping(env),
            "mean_return": float(np.mean(returns)) if returns else None,
        }

    def make_head(self, in_features: int) -> ActionHead:
        return ActionHead(self.action_space, in_features, self.config.std)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        assert isinstance(batch, RowBatch)
        distribution, state = _distribution(network, batch, state)
        return -_mean(distribution.log_prob(batch.target), batch.valid), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        assert isinstance(dataset, RecordedRows)
        log_probs, guesses, targets = [], [], []
        state: State | None = None
        for batch in dataset.in_order(batch_size):
            batch = batch.to(device)
            distribution, state = _distribution(network, batch, state)
            log_probs.append(distribution.log_prob(batch.target)[batch.valid].cpu())
            guesses.append(distribution.mode()[batch.valid].cpu())
            targets.append(batch.target[batch.valid].cpu())
        log_prob, guess, target = (torch.cat(parts).numpy() for parts in (log_probs, guesses, targets))
        metrics = {"loss": -float(log_prob.mean()), "log_likelihood": float(log_prob.mean())}
        found = Evaluation(metrics)
        if isinstance(self.action_space, spaces.Box):
            metrics["mean_absolute_error"] = float(np.abs(guess - target).mean())
            metrics["error_of_mean_action"] = float(np.abs(target - target.mean(0)).mean())
        else:
            metrics["accuracy"] = _same(guess, target)
            metrics["accuracy_of_commonest"] = _commonest(target)
        if isinstance(self.action_space, spaces.Discrete) and int(self.action_space.n) <= MOST_NAMES:
            start, num = int(self.action_space.start), int(self.action_space.n)
            table, names = confusion(target, guess, num), [str(start + i) for i in range(num)]
            found.pictures["confusion"] = confusion_picture(table, names)
        if self.data is not None and dataset is self.data.test:
            metrics |= self._play(network, device)
        return found

    def _play(self, network: Network, device: torch.device) -> dict[str, float]:
        """The mean return of the clone, of the data, and of random play."""
        found = {} if self.facts["mean_return"] is None else {"return_of_data": self.facts["mean_return"]}
        if not self.config.num_episodes or self.facts["env"] is None:
            return found
        env, both = schema.build(EnvConfig, self.facts["env"], {}), (self.space, self.action_space)
        policy = ClonedPolicy(network, self.action_space, torch.Generator(device))
        return {
            "return": play(policy, env, both, self.config.num_episodes, self.config.deterministic),
            **found,
            "return_of_random": random_return(env, both, self.config.num_episodes),
        }

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Folders of recordings: how likely what was done there is to this network."""
        for file, found in self.measured(network, files, device):
            yield f"{file}: {', '.join(f'{name} {value:.4f}' for name, value in found.metrics.items())}"


def best_episodes(recording: Recording, share: float) -> Recording:
    """The episodes of highest return (Chen et al. 2021, §5.1: "%BC").

    Those that the recording stopped in come last: what they would have earned is not known.
    """
    if share == 1.0:
        return recording
    episodes, over = recording.episodes(), recording.terminated | recording.truncated
    order = sorted(episodes, key=lambda rows: (not over[rows].any(), -float(recording.reward[rows].sum())))
    chosen = order[: max(1, round(share * len(episodes)))]
    return recording.part(np.concatenate([np.arange(rows.start, rows.stop) for rows in chosen]))


def _distribution(network: Network, batch: RowBatch, state: State | None) -> tuple[ActionDistribution, State]:
    features, state = network.backbone(batch.obs, state, batch.is_first)
    distribution: ActionDistribution = network.head(features)
    return distribution, state


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Over the rows that were played, `[T, B]`."""
    return (values * valid).sum() / valid.sum().clamp(min=1)


def _same(guess: NDArray[Any], target: NDArray[Any]) -> float:
    """The share of actions `[N, *action]` that agree in all their parts."""
    return float((guess == target).reshape(len(target), -1).all(-1).mean())


def _commonest(target: NDArray[Any]) -> float:
    """The accuracy of always doing what is done most often."""
    return float(np.unique(target, axis=0, return_counts=True)[1].max() / len(target))


__all__ = ["BehaviourCloning", "BehaviourCloningConfig", "best_episodes"]
