"""Whether a cluster has room for a trial is said before Ray Tune waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from triathlon.training.errors import RunError

pytest.importorskip("ray")

from triathlon.training.tuning.cluster import _clear, _own, refuse_too_small

SMALL, LARGE = {"CPU": 4.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 1.0, "memory": 1e9}
WORKER = {"CPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "bundles"),
    [
        ([SMALL], [{"CPU": 4.0}]),
        ([SMALL, LARGE], [{"CPU": 1.0, "GPU": 0.5}]),
        ([SMALL, SMALL], [{"CPU": 4.0}, WORKER, WORKER]),
        ([{"CPU": 1.0}, {"CPU": 3.0}, SMALL], [{"CPU": 1.0}, WORKER, WORKER, WORKER]),
        ([{"CPU": 1.3}], [{"CPU": 1.0}, *[{"CPU": 0.1}] * 3]),  # 0.3 / 0.1 is less than 3 to a computer
    ],
)
def test_a_trial_for_which_there_is_room(nodes: list[dict[str, float]], bundles: list[dict[str, float]]) -> None:
    refuse_too_small(nodes, bundles)


@pytest.mark.parametrize(
    ("nodes", "bundles", "said"),
    [
        (
            [SMALL, SMALL, LARGE],
            [{"CPU": 9.0}],
            "a trial needs 9 CPU, each on one node, but the nodes of the cluster have 4 CPU, 0 GPU; 8 CPU, 1 GPU",
        ),
        ([LARGE, LARGE], [{"CPU": 1, "GPU": 2.0}], "a trial needs 1 CPU, 2 GPU, each on one node"),
        # 9 CPUs in all, but only one worker on each node.
        (
            [{"CPU": 3.0}] * 3,
            [{"CPU": 1.0}, WORKER, WORKER, WORKER, WORKER],
            "a trial needs 1 CPU and 4 times 2 CPU for workers, each on one node",
        ),
        ([LARGE, SMALL], [{"CPU": 1.0, "GPU": 1.0}, *[{"CPU": 4.0}] * 3], "3 times 4 CPU for workers"),
    ],
)
def test_a_trial_that_could_never_start(
    nodes: list[dict[str, float]], bundles: list[dict[str, float]], said: str
) -> None:
    with pytest.raises(RunError) as refused:
        refuse_too_small(nodes, bundles)
    assert said in str(refused.value)


def test_only_what_is_a_studys_own_is_cleared_away(tmp_path: Path) -> None:
    """A study that was copied, or came from somebody else, may point to anything."""
    mine, theirs, foreign = (tmp_path / name for name in ("mine", "theirs", "foreign"))
    for folder in (mine, theirs, foreign):
        folder.mkdir()
    (foreign / "thesis.tex").write_text("all of it")
    (mine / ".ray").symlink_to(foreign)
    _clear(mine)
    assert (foreign / "thesis.tex").is_file() and not (mine / ".ray").is_symlink()
    _own(theirs, [{"CPU": 1.0}])
    sockets = (theirs / ".ray").resolve()
    (mine / ".ray").symlink_to(sockets)  # as `cp -a` of a study that runs has it
    _clear(mine)
    assert sockets.is_dir()
    _clear(theirs)
    assert not sockets.exists() and not (theirs / ".ray").is_symlink()
