"""Rollouts that workers play, in the place of a collector's.

T rows in time, B columns of the run, M columns of one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from triathlon.agents.agent import Learner
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError
from triathlon.training.config import Experiment
from triathlon.training.env_group import Episode
from triathlon.training.schema import to_mapping
from triathlon.training.stopwatch import REST, Stopwatch
from triathlon.training.workers import columns
from triathlon.training.workers.columns import Columns
from triathlon.training.workers.config import WorkersConfig
from triathlon.training.workers.crew import Crew, Seat, WorkersLost
from triathlon.training.workers.transport import Transport

STOP_SECONDS = 30.0  # that a run which is to stop waits for the rollout under way at most
ROWS = 16  # of a request, where the learner does not ask for a whole rollout: few enough that weights stay young


class WaitedInVain(Exception):
    """The run is to stop, and the workers have not given the rollout under way in time."""


class WorkerPool:
    """What a `Collector` is to the run, with N workers that play M columns each.

    `mode: sync`: workers play with the newest weights while the learner waits. What they give is the same wherever they
    are. The columns of a worker that is lost are unplayed (no row is valid) until another has taken its place.

    `mode: async`: workers play on while the learner learns, with the weights there were when they were last asked. A
    rollout is made of the workers that are ready, at least `min_ready`; one that is `max_lag` rollouts behind is waited
    for. A learner that keeps something of every column (a replay, returns to scale rewards by) gets all columns each
    time.
    """

    def __init__(
        self,
        experiment: Experiment,
        learner: Learner,
        transport: Transport,
        seed: int,
        say: Callable[[str], None],
        is_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        config = experiment.workers
        self._is_to_stop = is_to_stop
        self.policy, self.stopwatch, self._config, self._transport = learner.policy, Stopwatch(), config, transport
        self._rows = rows_of_a_request(experiment, learner)
        self._all_columns = config.mode == "sync" or keeps_columns(learner)
        self._min_ready = config.num if self._all_columns else config.min_ready or -(-config.num // 2)
        self._pin = self.policy.generator.device.type == "cuda"
        self._crew = Crew(config, transport, to_mapping(experiment), seed, say)
        self._num_updates, self._versions = 0, [0] * config.num  # updates so far, and when each was last asked
        self._rollout: Columns | None = None
        self._row, self._rollout_version = 0, 0
        self.worker_seconds = {"stepping": 0.0, "acting": 0.0}  # of all workers together, since the beginning
        self._episodes: list[Episode] = []
        self._lags: list[int] = []

    def collect(self, num_rows: int) -> Segment:
        """The next `num_rows` rows; each call is followed by one update of the learner.

        Raises:
            WorkersLost: too many workers were lost, now or while they were asked for their states.
            WaitedInVain: `is_to_stop`, and there is nothing to learn from; the run can be saved.
        """
        if self._crew.given_up is not None:
            raise self._crew.given_up
        self.stopwatch.lap(REST)
        if self._rollout is None or self._row >= self._rollout["is_first"].shape[0] - 1:
            self._next_rollout()
        assert self._rollout is not None
        segment = columns.to_segment(columns.part(self._rollout, self._row, num_rows))
        segment.lag = self._num_updates - self._rollout_version
        self._row += num_rows
        self._num_updates += 1
        self.stopwatch.lap(REST)
        return segment

    def _next_rollout(self) -> None:
        if self._config.mode == "sync":
            self._ask_idle()
        stop_at: float | None = None
        while not self._is_enough():
            if self._is_to_stop():
                stop_at = stop_at or time.monotonic() + STOP_SECONDS
                if self._is_deserted() or time.monotonic() >= stop_at:
                    raise WaitedInVain
            self._crew.attend()
            if self._config.mode == "async" or self._is_deserted():
                self._ask_idle()
        seats = [seat for seat in self._crew.seats if seat.answer is not None]
        self._account_waiting(seats)
        like = seats[0].answer["columns"]
        played = [
            seat.answer["columns"] if seat.answer is not None else columns.unplayed(like)
            for seat in self._crew.seats
            if seat.answer is not None or self._all_columns
        ]
        self._rollout, self._row = columns.join(played, self._pin), 0
        self._rollout_version = min(self._versions[seat.index] for seat in seats)
        self._lags += [self._num_updates - self._versions[seat.index] for seat in seats]
        for seat in seats:
            self._episodes += [Episode(float(score), int(length)) for score, length in seat.answer["episodes"]]
            seat.answer = None
        if self._config.mode == "async":
            self._ask_idle()

    def _ask_idle(self) -> None:
        """Have the workers play that have nothing to do, with the weights of now."""
        idle = [seat for seat in self._crew.seats if seat.is_idle and seat.answer is None]
        if not idle:
            return
        weights = self._crew.share(self.policy.weights().cpu().numpy())
        for seat in idle:
            self._versions[seat.index] = self._num_updates
            self._crew.ask(seat, "collect", self._rows, weights)

    def _is_enough(self) -> bool:
        """Is there a rollout in what the workers have given?"""
        playing = [seat for seat in self._crew.seats if seat.doing == "collect"]
        num_given = sum(seat.answer is not None for seat in self._crew.seats)
        if not num_given or (self._all_columns and playing):
            return False
        # Were they left out now, there would be another update before their rows are learned from.
        is_late = any(self._num_updates - self._versions[seat.index] >= self._config.max_lag for seat in playing)
        return not is_late and num_given >= min(self._min_ready, num_given + len(playing))

    def _is_deserted(self) -> bool:
        """Is there nothing to hand over, and nobody who plays? Then every worker was lost."""
        return not any(seat.answer is not None or seat.doing == "collect" for seat in self._crew.seats)

    def _account_waiting(self, seats: list[Seat]) -> None:
        """Waiting for workers counts as acting for as long as they did that, and for the rest as stepping."""
        spent = {phase: sum(seat.answer["seconds"][phase] for seat in seats) for phase in ("stepping", "acting")}
        for phase, seconds in spent.items():
            self.worker_seconds[phase] += seconds
        before = self.stopwatch.seconds["stepping"]
        self.stopwatch.lap("stepping")
        waited = self.stopwatch.seconds["stepping"] - before
        # Asynchronous workers acted longer than they were waited for.
        acting = min(spent["acting"] / len(seats), waited * spent["acting"] / max(1e-9, sum(spent.values())))
        self.stopwatch.seconds["stepping"] -= acting
        self.stopwatch.seconds["acting"] += acting

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since this was last asked."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def metrics(self) -> dict[str, float]:
        """How the workers fare, to be logged with the rest; staleness since this was last asked."""
        lags, self._lags = self._lags or [0], []
        counts = self._crew.counts
        return {
            "workers/alive": float(self._crew.num_alive),
            "workers/staleness": float(np.mean(lags)),
            "workers/staleness_max": float(max(lags)),
            **{f"workers/{name}": float(counts[name]) for name in ("restarts", "deaths", "hangs", "env_errors")},
        }

    def restart(self, seed: int) -> None:
        """Begin new episodes everywhere; what was played and not handed over is dropped.

        If too many workers are lost meanwhile, the next `collect` says so: the run may be saving.
        """
        self._crew.seed, self._rollout = seed, None
        with suppress(WorkersLost):
            while any(seat.doing == "collect" for seat in self._crew.seats):
                self._crew.attend()
            for seat in self._crew.seats:
                seat.answer = None
            self._crew.ask_all("restart", lambda seat: (seed,))

    def close(self) -> None:
        """End the workers."""
        self._crew.close()
        self._transport.close()

    def state_dict(self) -> dict[str, Any] | None:
        """All that is needed to go on to the bit in sync mode, or None if the environments cannot tell their state.

        In async mode, and while a worker is lost, a run that goes on begins with new episodes. If too many are lost
        meanwhile, the next `collect` says so: the checkpoint is written first.
        """
        sequence = np.random.SeedSequence([self._crew.seed, self._num_updates])
        anew = {"restart": int(sequence.generate_state(1, np.uint32)[0])}
        if self._config.mode == "async" or self._crew.given_up is not None:
            return anew
        try:
            states = self._crew.ask_all("state_dict")
        except WorkersLost:
            return anew
        if len(states) < len(self._crew.seats):
            return anew
        if None in states.values():
            return None
        left = None
        if self._rollout is not None and (rows := self._rollout["is_first"].shape[0] - 1 - self._row) > 0:
            left = columns.part(self._rollout, self._row, rows)
        counts = {"num_updates": self._num_updates, "rollout_version": self._rollout_version}
        return {
            "workers": [states[index] for index in sorted(states)],
            "rollout": left,
            "seed": self._crew.seed,
        } | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for as many workers of any kind; where there were others, episodes begin anew."""
        if len(state.get("workers", ())) != len(self._crew.seats):
            self.restart(self._crew.seed + 1)
            return
        self._crew.seed = state["seed"]
        self._num_updates, self._rollout_version = state["num_updates"], state["rollout_version"]
        self._rollout, self._row = state["rollout"], 0
        self._crew.ask_all("load_state_dict", lambda seat: (state["workers"][seat.index],))


def refuse_what_nothing_reads(experiment: Experiment, learner: Learner) -> None:
    """Raises SettingError if the learner gets the rows of all workers each time and settings say of how many."""
    if not keeps_columns(learner):
        return
    keeper = f"the replay of {experiment.agent.kind}" if hasattr(learner, "replay") else "agent.normalize_reward"
    for name in ("min_ready", "max_lag"):
        if (value := getattr(experiment.workers, name)) != getattr(WorkersConfig, name):
            raise SettingError(
                f"workers.{name} is {value}, but nothing reads it: {keeper} gets the rows of all workers each time"
            )


def rows_of_a_request(experiment: Experiment, learner: Learner) -> int:
    """Rows that a worker plays at a time, a multiple of what the learner wants.

    Raises:
        SettingError: `workers.rows` is given for a learner that learns from whole rollouts only.
    """
    config, num_rows = experiment.workers, learner.num_rows
    if hasattr(learner, "replay"):
        return -(-(config.rows or ROWS) // num_rows) * num_rows
    if config.rows is not None:
        raise SettingError(
            f"workers.rows is {config.rows}, but {experiment.agent.kind} has no replay: its workers play the "
            f"{num_rows} rows that it learns from at a time (agent.num_steps)"
        )
    return num_rows


def keeps_columns(learner: Learner) -> bool:
    """Does the learner keep something of every column from segment to segment?"""
    return hasattr(learner, "replay") or getattr(learner, "reward_scaler", None) is not None


__all__ = ["WaitedInVain", "WorkerPool", "keeps_columns", "refuse_what_nothing_reads", "rows_of_a_request"]
