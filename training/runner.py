"""The only loop: collect, update, log, evaluate, save."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from torch import Tensor

from triathlon.agents.agent import Metrics
from triathlon.agents.ranks import join
from triathlon.agents.registry import make_learner
from triathlon.agents.segment import Segment
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_envs
from triathlon.training import checkpoint, gpus
from triathlon.training.board.sides import make_sides
from triathlon.training.bottleneck import Bottleneck, Situation, situation
from triathlon.training.config import Experiment, dump
from triathlon.training.env_group import Episode
from triathlon.training.errors import RunError
from triathlon.training.evaluate import CHOOSING_SEED, evaluate
from triathlon.training.finite import refuse_weights_not_finite
from triathlon.training.judging import Result, check_film, evaluation_scores, judge, judged_by, rollout_scores
from triathlon.training.learners.follow import part_of
from triathlon.training.logger import Logger
from triathlon.training.machine import allow_tf32, pick_device, set_threads, start_with_one_thread
from triathlon.training.memory import announce_replay
from triathlon.training.periods import Periods
from triathlon.training.progress import Progress
from triathlon.training.restoring import better_best, load_checkpoint, refuse_other_run, restore_learner
from triathlon.training.schema import to_mapping
from triathlon.training.start_agent import start_agent
from triathlon.training.stopping import Wish, stoppable
from triathlon.training.stopwatch import REST, shares
from triathlon.training.task import make_task
from triathlon.training.workers.crew import WorkersLost
from triathlon.training.workers.make import make_collector, make_run_envs, refuse_unread_clips
from triathlon.training.workers.pool import WaitedInVain


class Run:
    """One training run in one folder. `train` plays it to its end; a run can be made from a checkpoint and go on."""

    on_report: Callable[[Run, dict[str, float]], None] | None = None  # told the scalars of each row and evaluation

    def __init__(self, experiment: Experiment, folder: Path, resume: bool = False) -> None:
        self.experiment, self.folder = experiment, folder
        seeds = np.random.SeedSequence(experiment.seed).spawn(3)
        self._env_seeds = np.random.default_rng(seeds[0])
        self.device = pick_device(experiment.device)
        allow_tf32(experiment.precision, self.device)
        self.ranks = join()
        self._mine = part_of(experiment, self.ranks)  # what this process plays of it: without others, all
        self.envs = make_run_envs(self._mine)
        self.eval_envs: VectorEnv[Any, Any, Any] | None = None
        with ExitStack() as made:  # closed if something goes wrong
            for envs in self.envs:
                made.callback(envs.close)
            self._set_up(seeds[1], resume, made)
            made.pop_all()

    def _set_up(self, learner_seed: np.random.SeedSequence, resume: bool, made: ExitStack) -> None:
        experiment = self.experiment
        self.task = make_task(self._mine, self.envs[0], self.device, learner_seed, self.ranks)
        start_with_one_thread()
        self.learner = make_learner(experiment.agent, experiment.backbone, self.task)
        check_film(experiment, self.learner.policy, self.task.observation_space)
        if experiment.judging_env != experiment.env:
            make_envs(experiment.judging_env, 1).close()  # a judge that is not there is missed now, not in hours
        set_threads(experiment.num_threads, self.learner.policy, self.task)
        announce_replay(self.learner, self.task)
        self.sides = make_sides(experiment, self.envs, self.learner.policy, say=self._say)
        self._progress: Progress | None = None
        self._wish = Wish()
        if self.ranks.is_first and (sentence := gpus.sentence(experiment.device, self.device)):
            self._say(sentence)
        for taken in start_agent(self.learner, experiment, resume):
            self._say(str(taken))
        self.collector = make_collector(
            self._mine,
            self.envs,
            self.learner,
            self._next_env_seed(),
            self.sides.advise,
            self._say,
            lambda: self._wish.to_stop and self.ranks.size == 1,  # others would wait for this process for ever
        )
        made.callback(self.collector.close)
        self.num_steps, self.best_score, self.seconds = 0, -np.inf, 0.0
        self._started, self._evaluated_at = time.perf_counter(), -1
        self.recent: deque[Episode] = deque(maxlen=100)
        if resume:
            self._load()
        self.logger = Logger(
            self.folder,
            experiment.logging,
            env_id=experiment.env.id,
            resume_step=self.num_steps,
            configuration=f"```yaml\n{dump(experiment)}```",
        )

    def train(self) -> Result:
        """Collect and learn until the step budget is spent or somebody asks for a stop; both end with a checkpoint."""
        experiment, learner = self.experiment, self.learner
        due = Periods(experiment, self.num_steps)
        first_step = self.num_steps
        if experiment.evaluation.is_reached(self.best_score) and first_step:
            self._say(
                f"An earlier evaluation reached the goal ({self.best_score:.1f}), so there is nothing to train: "
                "--evaluation.goal null, or a higher one, goes on."
            )
        stopwatch = self.collector.stopwatch
        stopwatch.restart()
        self._started = time.perf_counter() - self.seconds
        self._timed = stopwatch.seconds.copy()
        progress = Progress(experiment.total_steps, self.num_steps)
        with stoppable(patient=self.ranks.size > 1) as self._wish, progress, self._saved_if_an_env_breaks(first_step):
            self._progress = progress
            is_compiling = learner.step.compiles
            if is_compiling:
                progress.say("The first update compiles the gradient step; PyTorch keeps it for the next run.")
            while self.num_steps < experiment.total_steps and not self._is_over():
                self.sides.before_rollout(self.num_steps)
                try:
                    segment = self.collector.collect(learner.num_rows)
                except WaitedInVain:
                    break
                except WorkersLost as lost:
                    raise WorkersLost(f"{lost}; what was learned is in {self.save()}") from lost
                metrics = learner.update(segment)
                if is_compiling and learner.step.compile_seconds is not None:
                    is_compiling = False
                    progress.say(f"Compiled in {learner.step.compile_seconds:.0f} s.")
                stopwatch.lap("learning")
                self.num_steps += self.ranks.total(segment.num_steps)
                self._take_episodes()
                progress.update(self.num_steps, self.recent)
                stopwatch.lap(REST)
                if due.log.now(self.num_steps):
                    self.seconds = time.perf_counter() - self._started
                    self._log(segment, metrics)
                    stopwatch.lap("logging")
                if due.evaluate.now(self.num_steps):
                    self._evaluate()
                    stopwatch.lap("evaluation")
                if due.save.now(self.num_steps):
                    self.save()
                    stopwatch.lap("checkpoints")
            self.seconds = time.perf_counter() - self._started
            if due.evaluate.period and self._evaluated_at < self.num_steps and not self._wish.to_stop:
                self._evaluate()
                stopwatch.lap("evaluation")
            path = self.save()
            stopwatch.lap("checkpoints")
            self._progress = None
        bottleneck = Bottleneck(self.situation(), stopwatch.seconds.copy(), self.num_steps - first_step)
        return Result(self.num_steps, self.seconds, path, self._wish.to_stop, bottleneck)

    @contextmanager
    def _saved_if_an_env_breaks(self, first_step: int) -> Iterator[None]:
        """Inside, an error of an environment, an opponent or a judge costs the run, but not what was learned."""
        try:
            yield
        except EnvError as error:
            if self.num_steps == first_step:
                raise
            raise EnvError(f"{error}; what was learned is in {self.save(ends=True)}") from error

    def _is_over(self) -> bool:
        """Is the goal reached, or has somebody asked for a stop, of this process or of one that learns with it?"""
        is_at_goal = self.experiment.evaluation.is_reached(self.best_score)
        is_over = self.ranks.any(self._wish.to_stop or is_at_goal)
        if is_over:  # else it stays as it is: a signal may have set it since
            self._wish.to_stop = not is_at_goal
        return is_over

    def situation(self) -> Situation:
        """What was found of the machine, the network and the environments."""
        return situation(self.experiment, self.task, self.learner, self.envs[0])

    def close(self) -> None:
        """Close environments and files."""
        with ExitStack() as stack:  # all of them, whatever one of them raises
            for envs in self.envs:
                stack.callback(envs.close)
            if self.eval_envs is not None:
                stack.callback(self.eval_envs.close)
            stack.callback(self.logger.close)
            stack.callback(self.sides.close)
            stack.callback(self.collector.close)  # the last to be called back is called first

    def _say(self, sentence: str) -> None:
        """Tell whoever watches, without breaking the line that shows how far the training is."""
        if self._progress is None:
            sys.stderr.write(f"{sentence}\n")
        else:
            self._progress.say(sentence)

    # --- what is written down -----------------------------------------------------------------------------------------

    def _take_episodes(self) -> None:
        episodes = self.collector.take_episodes()
        if episodes:
            self.recent.extend(episodes)
            self.logger.episodes([e.episode_return for e in episodes], [e.length for e in episodes], self.num_steps)

    def _log(self, segment: Segment, metrics: Metrics) -> None:
        scalars = {"time/fps": self.num_steps / max(self.seconds, 1e-9), "time/time_elapsed": self.seconds}
        scalars |= rollout_scores(self.recent, self.experiment.env.id)
        for name, value in metrics.items():
            if isinstance(value, Tensor) and value.dim():
                self.logger.histogram(f"train/{name}", value.detach().cpu().numpy(), self.num_steps)
            else:
                tag = name if "/" in name else f"train/{name}"
                scalars[tag] = float(value)
        share = shares(self.collector.stopwatch.seconds, self._timed)
        self._timed = self.collector.stopwatch.seconds.copy()
        scalars |= {f"time/share_{phase}": share[phase] for phase in ("stepping", "acting", "learning")}
        scalars |= self.sides.metrics() | self.collector.metrics()
        self.logger.scalars(scalars, self.num_steps)
        self.logger.histogram("rollout/actions", segment.action[:-1].numpy(), self.num_steps)
        if self.on_report is not None:
            self.on_report(self, scalars)

    def _evaluate(self) -> None:
        config, self._evaluated_at = self.experiment.evaluation, self.num_steps
        if self.eval_envs is None:
            self.eval_envs = make_envs(self.experiment.judging_env, min(config.num_envs, config.num_episodes))
        played = evaluate(self.learner.policy, self.eval_envs, config.num_episodes, CHOOSING_SEED, config.deterministic)
        found = evaluation_scores(played, self.experiment.env.id) | self.sides.measure(self.learner.policy)
        self.logger.scalars(found, self.num_steps)
        # What is exact chooses better than a few games.
        score = -found["eval/exploitability"] if "eval/exploitability" in found else found["eval/mean_reward"]
        if score >= self.best_score:
            self.best_score = score
            self._save("best", with_experience=False)
        if config.is_reached(score):
            self._say(f"The evaluation after {self.num_steps:,} steps reached the goal: {score:.1f}.")
        if self.on_report is not None:
            self.on_report(self, found)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, ends: bool = False) -> Path:
        """Write the checkpoint that the run goes on from; returns its file.

        Where the run `ends` because an environment broke, the environments are not asked for anything any more.
        """
        return self._save("last", with_experience=self.experiment.checkpoint.replay, ends=ends)

    def _save(self, name: str, with_experience: bool, ends: bool = False) -> Path:
        path = self.folder / "checkpoints" / f"{name}.safetensors"
        refuse_weights_not_finite(self.learner.policy, self.num_steps)
        state: dict[str, Any] = {
            "learner": self.learner.state_dict(with_experience),
            "num_steps": self.num_steps,
            "env": self.experiment.env.id,
            "num_envs": self.task.num_envs,
            "num_processes": self.ranks.size,
            "best_score": self.best_score,
        }
        if name == "last":
            sides = self.sides.state_dict()  # before a restart, in which opponents may move first
            collector = None if ends else self.collector.state_dict()
            if collector is None:
                # The environments cannot tell their state: both this run and a resumed one begin anew.
                seed = self._next_env_seed()
                if not ends:
                    self.collector.restart(seed)
                collector = {"restart": seed}
            state |= {
                "collector": collector,
                "env_settings": to_mapping(self.experiment.env),
                "sides": sides,
                "evaluated_at": self._evaluated_at,
                "judged_by": judged_by(self.experiment),
                "seconds": time.perf_counter() - self._started,
                "env_seeds": self._env_seeds.bit_generator.state,
                "recent": [[e.episode_return, e.length] for e in self.recent],
            }
        checkpoint.save(path, state)
        return path

    def _load(self) -> None:
        path = self.folder / "checkpoints" / "last.safetensors"
        state = load_checkpoint(path, self.experiment)
        num_groups = None if self.experiment.workers.num else len(self.envs)
        refuse_other_run(state, path, self.ranks.size, self.task.num_envs, num_groups)
        restore_learner(self.learner, state, path)
        self.num_steps, self.best_score, self.seconds = state["num_steps"], state["best_score"], state["seconds"]
        self._started -= self.seconds
        self._env_seeds.bit_generator.state = state["env_seeds"]
        self._evaluated_at = state.get("evaluated_at", -1)
        if state.get("judged_by", judged_by(self.experiment)) != judged_by(self.experiment):
            self.best_score = -np.inf
            self._say("Scores are of other games than before: the best checkpoint is chosen anew.")
        elif (later := better_best(path.with_name("best.safetensors"), self.num_steps, self.best_score)) is not None:
            step, self.best_score = later
            self._say(f"The best checkpoint stays that of step {step:,} ({self.best_score:.1f}), from before the stop.")
        self.recent.extend(Episode(r, int(n)) for r, n in state["recent"])
        self.sides.load_state_dict(state["sides"])
        env_settings = to_mapping(self.experiment.env)
        if "restart" in state["collector"]:
            self.collector.restart(state["collector"]["restart"])
        elif state.get("env_settings", env_settings) != env_settings:
            self.collector.restart(self._next_env_seed())  # a state would bring the old settings back
        elif "workers" in state["collector"] and not self.experiment.workers.num:
            self.collector.restart(self._next_env_seed())  # who played before is not there: episodes begin anew
        else:
            self.collector.load_state_dict(state["collector"])

    def _next_env_seed(self) -> int:
        return int(self._env_seeds.integers(2**31))


def train(
    experiment: Experiment,
    folder: Path,
    resume: bool = False,
    on_start: Callable[[], None] | None = None,
    on_report: Callable[[Run, dict[str, float]], None] | None = None,
) -> Result:
    """Train in `folder`, from the start or from its last checkpoint, then judge the best policy.

    `on_start` is called when all is made and the checkpoint was found to fit the settings; `on_report` with the run and
    the scalars of every row of metrics and every evaluation, right after they were written down.

    Raises:
        SettingError, EnvError, RunError: the settings, the environment or a file are at fault; nothing is half-written.
    """
    if experiment.engine != "native":
        from triathlon.training.engines.start import train as train_elsewhere

        if on_report is not None:
            raise RunError(f"engine is {experiment.engine}, but only engine: native can be tuned while it trains")
        return train_elsewhere(experiment, folder, resume, on_start)
    refuse_unread_clips(experiment)
    run = Run(experiment, folder, resume)
    run.on_report = on_report
    try:
        if on_start is not None:
            on_start()
        result = run.train()
        if not result.interrupted:
            can_draw = "rgb_array" in (run.envs[0].metadata.get("render_modes") or ())
            judge(result, experiment, folder, run.learner, run.logger, can_draw)
        return result
    finally:
        run.close()
