"""What a study found: its trials from best to worst, as a table, as files, and the best configuration."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triathlon.training import yaml_text
from triathlon.training.atomic_write import write_text
from triathlon.training.config import dump
from triathlon.training.tuning.study import Report, Study, Trial


@dataclass(frozen=True)
class Outcome:
    """A trial and how good it is."""

    trial: Trial
    reports: tuple[Report, ...]

    @property
    def score(self) -> float:
        """The metric as it was measured last; NaN if it never was."""
        return self.reports[-1].value if self.reports else math.nan

    @property
    def mean(self) -> float:
        """The mean over all reports, which is better the sooner a trial was good."""
        return float(np.mean([report.value for report in self.reports])) if self.reports else math.nan

    @property
    def num_steps(self) -> int:
        return self.reports[-1].num_steps if self.reports else 0

    @property
    def seconds(self) -> float:
        return self.reports[-1].seconds if self.reports else 0.0


def outcomes(study: Study) -> list[Outcome]:
    """All trials from best to worst.

    Those that finished come first, for those that were stopped early had lost already. Of equal scores, that is the
    better one which was good sooner.
    """
    sign = 1.0 if study.config.mode == "max" else -1.0
    found = [Outcome(trial, tuple(trial.reports())) for trial in study.trials()]

    def rank(outcome: Outcome) -> tuple[bool, bool, float, float]:
        if math.isnan(outcome.score):
            return True, True, 0.0, 0.0
        return False, outcome.trial.status != "finished", -sign * outcome.score, -sign * outcome.mean

    return sorted(found, key=rank)


def best(found: Sequence[Outcome]) -> Outcome | None:
    """The best trial, if the metric of one was measured at all."""
    return found[0] if found and not math.isnan(found[0].score) else None


def table(study: Study, found: Sequence[Outcome]) -> str:
    """The trials as lines of text."""
    names = list(study.space.params)
    rows = [["trial", "", "steps", study.metric, *names]]
    for outcome in found:
        score = "" if math.isnan(outcome.score) else f"{outcome.score:,.4g}"
        values = [_shown(outcome.trial.settings[name]) if name in outcome.trial.settings else "" for name in names]
        rows.append([outcome.trial.name, outcome.trial.status, f"{outcome.num_steps:,}", score, *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i == 1 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write(study: Study, found: Sequence[Outcome]) -> None:
    """Write `results.csv`, `results.json` and, if a trial was measured, `best.yaml` into the folder of the study."""
    names = list(study.space.params)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "status", "num_steps", "seconds", "score", "mean", *names])
    for o in found:
        values = [yaml_text.dump_line(o.trial.settings[name]) if name in o.trial.settings else "" for name in names]
        score = ["", ""] if math.isnan(o.score) else [f"{o.score!r}", f"{o.mean!r}"]
        writer.writerow([o.trial.name, o.trial.status, o.num_steps, f"{o.seconds:.1f}", *score, *values])
    write_text(study.path / "results.csv", text.getvalue())
    content = {
        "metric": study.metric,
        "mode": study.config.mode,
        "total_steps": study.total_steps,
        "trials": [
            {
                **{name: getattr(o.trial, name) for name in ("number", "status", "settings", "message")},
                "folder": str(o.trial.folder.relative_to(study.path)),
                "reports": [dataclasses.asdict(report) for report in o.reports],
            }
            for o in found
        ],
    }
    write_text(study.path / "results.json", json.dumps(content, indent=1) + "\n")
    if (winner := best(found)) is not None:
        _write_best(study, winner)


def best_path(study: Study) -> Path:
    """Where the best configuration is written."""
    return study.path / "best.yaml"


def _write_best(study: Study, winner: Outcome) -> None:
    trial = winner.trial
    # The name is that of the study's folder: the run that takes this configuration has a folder of its own.
    experiment = dataclasses.replace(study.space.experiment(trial.settings), name=None)
    found = ", ".join(f"{name} {_shown(value)}" for name, value in trial.settings.items())
    comment = (
        f"# Trial {trial.name} ({trial.status}): {study.metric} {winner.score:.6g} at {winner.num_steps:,} steps.\n"
    )
    write_text(best_path(study), f"{comment}# Looked for: {found}\n{dump(experiment)}")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else yaml_text.dump_line(value)


__all__ = ["Outcome", "best", "best_path", "outcomes", "table", "write"]
