"""A picture of a study: the metric of each trial over environment steps, and its score by each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triathlon.training import yaml_text
from triathlon.training.figures import can_draw, count_steps, new_figure, save_figure
from triathlon.training.tuning.distributions import Choice, Uniform
from triathlon.training.tuning.results import Outcome, best
from triathlon.training.tuning.study import Study

PER_ROW = 3  # panels side by side
GOOD, OTHER = "tab:orange", "tab:blue"


def draw(study: Study, found: Sequence[Outcome]) -> Path | None:
    """Write `study.png`, the best trial in another colour; None where matplotlib is not installed."""
    if not can_draw():
        return None
    names = list(study.space.params)
    num_rows = -(-(1 + len(names)) // PER_ROW)
    num_columns = min(PER_ROW, 1 + len(names))
    figure = new_figure(4.2 * num_columns, 3.4 * num_rows)
    panels = [figure.add_subplot(num_rows, num_columns, i + 1) for i in range(1 + len(names))]
    winner = best(found)
    for outcome in reversed(found):  # the best one lies on top
        is_best = outcome is winner
        steps, values = [r.num_steps for r in outcome.reports], [r.value for r in outcome.reports]
        panels[0].plot(
            steps, values, color=GOOD if is_best else OTHER, alpha=1.0 if is_best else 0.45, marker=".", linewidth=1.3
        )
    panels[0].set(xlabel="environment steps", ylabel=study.metric, title=f"{len(found)} trials")
    count_steps(panels[0])
    for name, panel in zip(names, panels[1:], strict=True):
        _scatter(study, name, found, winner, panel)
    for panel in panels:
        panel.grid(color="0.9")
    path = study.path / "study.png"
    save_figure(figure, path)
    return path


def _scatter(study: Study, name: str, found: Sequence[Outcome], winner: Outcome | None, panel: Any) -> None:
    """The score of each trial by one setting: filled where it finished, a ring where it did not."""
    distribution = study.space.params[name]
    places = {yaml_text.dump_line(value): i for i, value in enumerate(distribution.extremes())}
    for outcome in reversed(found):
        value = outcome.trial.settings.get(name)
        if math.isnan(outcome.score) or value is None:
            continue
        is_choice = isinstance(distribution, Choice)
        x = places.setdefault(yaml_text.dump_line(value), len(places)) if is_choice else value
        colour = GOOD if outcome is winner else OTHER
        face = colour if outcome.trial.status == "finished" else "none"
        panel.scatter([x], [outcome.score], s=36, edgecolors=colour, facecolors=face, zorder=3)
    if isinstance(distribution, Choice):
        panel.set_xticks(list(places.values()), list(places))
    elif isinstance(distribution, Uniform) and distribution.log:
        panel.set_xscale("log")
    panel.set(xlabel=name, title="last value (ring: stopped early)")


__all__ = ["draw"]
