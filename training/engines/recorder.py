"""What a run writes while another library trains it: the same folder, by the same parts, as a run of our own.

The trained weights are copied into the network of our learner, whose policy is evaluated and saved.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from triathlon.agents.agent import Learner
from triathlon.agents.registry import Task, make_learner
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_envs
from triathlon.training import checkpoint
from triathlon.training.bottleneck import Bottleneck, situation
from triathlon.training.config import Experiment, dump
from triathlon.training.env_group import Episode
from triathlon.training.errors import RunError
from triathlon.training.evaluate import CHOOSING_SEED, evaluate
from triathlon.training.finite import refuse_weights_not_finite
from triathlon.training.judging import Result, check_film, evaluation_scores, judge, rollout_scores
from triathlon.training.logger import Logger
from triathlon.training.machine import allow_tf32, pick_device, set_threads, start_with_one_thread
from triathlon.training.periods import Periods
from triathlon.training.progress import Progress
from triathlon.training.restoring import load_checkpoint, refuse_other_num_envs, restore_learner
from triathlon.training.stopping import stoppable
from triathlon.training.stopwatch import Stopwatch
from triathlon.training.task import make_task


class Recorder:
    """The run folder of an engine. `learner` is ours and learns nothing; it holds the weights that are looked at.

    `env_seed` and `engine_seed` are what environments and the engine are to be seeded with. An engine calls `advance`
    as it goes and stops when that says False.
    """

    def __init__(self, experiment: Experiment, folder: Path, resume: bool = False) -> None:
        self.experiment, self.folder = experiment, folder
        seeds = np.random.SeedSequence(experiment.seed).spawn(3)
        self._env_seeds, self._engine_seeds = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[2])
        self.device = pick_device(experiment.device)
        allow_tf32(experiment.precision, self.device)
        self.eval_envs: VectorEnv[Any, Any, Any] = make_envs(
            experiment.judging_env, min(experiment.evaluation.num_envs, experiment.evaluation.num_episodes)
        )
        self.task: Task = make_task(experiment, self.eval_envs, self.device, seeds[1])
        start_with_one_thread()
        self.learner: Learner = make_learner(experiment.agent, experiment.backbone, self.task)
        check_film(experiment, self.learner.policy, self.task.observation_space)
        set_threads(experiment.num_threads, self.learner.policy, self.task)
        self.num_steps, self.best_score, self.seconds = 0, -np.inf, 0.0
        self.recent: deque[Episode] = deque(maxlen=100)
        self.engine_state: dict[str, Any] = {}  # what the engine said of itself when the run was saved
        if resume:
            self._load()
        self.env_seed, self.engine_seed = int(self._env_seeds.integers(2**31)), int(self._engine_seeds.integers(2**31))
        self.logger = Logger(
            folder,
            experiment.logging,
            env_id=experiment.env.id,
            resume_step=self.num_steps,
            configuration=f"```yaml\n{dump(experiment)}```",
        )
        self._evaluated_at = -1

    @property
    def network(self) -> Any:
        """The network of our learner."""
        return self.learner.policy.network

    def train(
        self,
        learn: Callable[[], None],
        take_weights: Callable[[], None],
        metrics: Callable[[], Mapping[str, float]],
        state: Callable[[], dict[str, Any]],
    ) -> Result:
        """Let the engine `learn`, which calls `advance` as it goes; then save.

        `take_weights()` brings the engine's weights into `learner`, `metrics()` are its numbers by tag, and `state()`
        is what it has to be given to go on.
        """
        self._take_weights, self._metrics, self._state = take_weights, metrics, state
        experiment = self.experiment
        self._due = Periods(experiment, self.num_steps)
        self._started = time.perf_counter() - self.seconds
        with stoppable() as self._wish, Progress(experiment.total_steps, self.num_steps) as self._progress:
            if self.num_steps < experiment.total_steps and not experiment.evaluation.is_reached(self.best_score):
                self._learn(learn)
            self.seconds = time.perf_counter() - self._started
            self._take_weights()
            if experiment.evaluation.period and self._evaluated_at < self.num_steps and not self._wish.to_stop:
                self._evaluate()
            path = self._save("last")
        found = situation(experiment, self.task, self.learner, self.eval_envs)
        # The engine's time is not taken apart, so nothing is said of what binds.
        bottleneck = Bottleneck(found, Stopwatch().seconds, 0)
        return Result(self.num_steps, self.seconds, path, self._wish.to_stop, bottleneck)

    def _learn(self, learn: Callable[[], None]) -> None:
        """Let the engine learn; what fails on the way leaves behind what was learned before."""
        first = self.num_steps
        try:
            learn()
        except EnvError as error:
            if self.num_steps == first:
                raise
            self._take_weights()
            raise EnvError(f"{error}; what was learned is in {self._save('last')}") from error
        except (ValueError, RuntimeError):  # so do distributions end whose parameters are no numbers any more
            self._take_weights()
            refuse_weights_not_finite(self.learner.policy, self.num_steps)
            raise

    def advance(self, num_steps: int, episodes: Sequence[Episode]) -> bool:
        """The run has done `num_steps` in all, and these episodes ended; False once the engine should stop."""
        self.num_steps = num_steps
        if episodes:
            self.recent.extend(episodes)
            self.logger.episodes([e.episode_return for e in episodes], [e.length for e in episodes], num_steps)
        self._progress.update(num_steps, self.recent)
        if self._due.log.now(num_steps):
            self.seconds = time.perf_counter() - self._started
            self._log()
        if self._due.evaluate.now(num_steps):
            self._take_weights()
            self._evaluate()
        if self._due.save.now(num_steps):
            self._take_weights()
            self._save("last")
        return not self._wish.to_stop and not self.experiment.evaluation.is_reached(self.best_score)

    @property
    def is_stopping(self) -> bool:
        """Has somebody asked for a stop?"""
        return self._wish.to_stop

    def judge(self, result: Result) -> None:
        """Play the final episodes and the video with the best policy."""
        can_draw = "rgb_array" in (self.eval_envs.metadata.get("render_modes") or ())
        judge(result, self.experiment, self.folder, self.learner, self.logger, can_draw)

    def close(self) -> None:
        """Close environments and files."""
        try:
            self.eval_envs.close()
        finally:
            self.logger.close()

    def _log(self) -> None:
        scalars = {"time/fps": self.num_steps / max(self.seconds, 1e-9), "time/time_elapsed": self.seconds}
        scalars |= rollout_scores(self.recent, self.experiment.env.id)
        self.logger.scalars(scalars | {tag: float(value) for tag, value in self._metrics().items()}, self.num_steps)

    def _evaluate(self) -> None:
        config, self._evaluated_at = self.experiment.evaluation, self.num_steps
        played = evaluate(self.learner.policy, self.eval_envs, config.num_episodes, CHOOSING_SEED, config.deterministic)
        found = evaluation_scores(played, self.experiment.env.id)
        self.logger.scalars(found, self.num_steps)
        score = found["eval/mean_reward"]
        if score >= self.best_score:
            self.best_score = score
            self._save("best")
        if config.is_reached(score):
            self._progress.say(f"The evaluation after {self.num_steps:,} steps reached the goal: {score:.1f}.")

    def _save(self, name: str) -> Path:
        path = self.folder / "checkpoints" / f"{name}.safetensors"
        refuse_weights_not_finite(self.learner.policy, self.num_steps)
        state: dict[str, Any] = {
            "learner": self.learner.state_dict(with_experience=False),
            "num_steps": self.num_steps,
            "env": self.experiment.env.id,
            "num_envs": self.task.num_envs,
        }
        if name == "last":
            state |= {
                "engine": self.experiment.engine,
                "engine_state": self._state(),
                "best_score": self.best_score,
                "seconds": self.seconds,
                "env_seeds": self._env_seeds.bit_generator.state,
                "engine_seeds": self._engine_seeds.bit_generator.state,
                "recent": [[e.episode_return, e.length] for e in self.recent],
            }
        checkpoint.save(path, state)
        return path

    def _load(self) -> None:
        path = self.folder / "checkpoints" / "last.safetensors"
        state = load_checkpoint(path, self.experiment)
        if state.get("engine", "native") != self.experiment.engine:
            raise RunError(
                f"engine is {self.experiment.engine} but {path} is of a run by {state.get('engine', 'native')}; "
                "a run goes on with the engine it had"
            )
        refuse_other_num_envs(state, self.task.num_envs, path)
        restore_learner(self.learner, state, path)
        self.num_steps, self.best_score, self.seconds = state["num_steps"], state["best_score"], state["seconds"]
        self.engine_state = state["engine_state"]
        self._env_seeds.bit_generator.state = state["env_seeds"]
        self._engine_seeds.bit_generator.state = state["engine_seeds"]
        self.recent.extend(Episode(r, int(n)) for r, n in state["recent"])


__all__ = ["Recorder"]
