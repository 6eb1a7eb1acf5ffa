"""`triathlon doctor` as a person sees it, and the summary at the end of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from triathlon.scripts.main import main

CONFIG = """
env: {id: CartPole-v1, num_envs: 2}
agent: {kind: ppo, num_steps: 16, batch_size: 32, num_epochs: 2}
backbone: {kind: mlp, hidden_sizes: [8]}
total_steps: 200
num_threads: 1
device: cpu
evaluation: {final_episodes: 0, video: false}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run commands in, with one configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def test_the_report_is_printed_and_nothing_is_left(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tiny.yaml", "--seconds", "0.05", "--env.num-envs", "3"]) == 0
    said = capsys.readouterr()
    assert os.listdir(here) == ["tiny.yaml"]
    lines = said.out.splitlines()
    assert "  Plays      CartPole-v1, 3 environments, the environment's own vector version" in lines
    assert any(re.match(r"  Device     cpu: \S", line) for line in lines)
    assert any(re.match(r"  CPU        \d+ cores?, 1 PyTorch thread; this CPU ", line) for line in lines)
    assert "  Precision  float32" in lines
    assert any(line.startswith("  Compile    off; a C++ compiler is ") for line in lines)
    phases = ("stepping", "acting", "learning", "the rest")
    rows = [next(line for line in lines if line.startswith(f"  {phase} ")) for phase in phases]
    percent = [float(re.search(r"([\d.]+)%", row)[1]) for row in rows]  # type: ignore[index]
    assert sum(percent) == pytest.approx(100.0, abs=0.21)
    assert len({row.index("%") for row in rows}) == 1  # columns
    assert not any(line.startswith("  transfer") for line in lines)
    rate = r"[\d.,]+"
    sentence = f"This configuration runs at {rate} steps/s; stepping alone {rate}, acting alone {rate}, learning alone"
    assert re.search(sentence, said.out)
    assert re.search(r"Reached of this machine's limit: \d+% of [\d.,]+ steps/s", said.out)
    binds = re.search(r"^Binds: (.+) \((\d+)% of the time\)$", said.out, re.MULTILINE)
    assert binds is not None and abs(int(binds[2]) - max(percent)) < 0.6
    assert len(re.findall(r"^Try:   \S", said.out, re.MULTILINE)) == 1
    assert said.err.splitlines()[:4] == [
        "measuring the run as it is …",
        "measuring stepping alone …",
        "measuring acting alone …",
        "measuring learning alone …",
    ]


def test_trials_can_be_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tiny.yaml", "--seconds", "0.05", "--trials", "0"]) == 0
    said = capsys.readouterr()
    assert "Tried:" not in said.out and "measuring with" not in said.err
    assert "\nTry:   " in said.out


def test_help(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    assert "--seconds S" in capsys.readouterr().out
    assert main(["doctor", "tiny.yaml", "--help"]) == 0
    assert "--env.num-envs" in capsys.readouterr().out
    assert main(["doctor"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("missing.yaml", "there is no configuration file 'missing.yaml'"),
        ("tiny.yaml --agent.gama 1", "agent.gama is not a setting"),
        ("tiny.yaml --env.id CartPoole-v1", "did you mean CartPole-v1"),
        ("tiny.yaml --seconds 0", "--seconds is 0 but should be above 0"),
        ("tiny.yaml --trials -1", "--trials is -1 but should be at least 0"),
        ("tiny.yaml stray", "'stray' is not understood"),
        ("tiny.yaml --engine sb3", "engine is sb3, but the doctor measures engine: native only"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str
) -> None:
    assert main(["doctor", *arguments.split(" ")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("triathlon: error: ") and sentence in said[0]
    assert os.listdir(here) == ["tiny.yaml"]


def test_a_run_ends_with_where_its_time_went(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (time,) = (i for i, line in enumerate(lines) if line.startswith("Time:   "))
    assert 97 <= sum(map(int, re.findall(r"(\d+)%", lines[time]))) <= 103  # rounded, and what is below ½ % left out
    longest = re.match(r"Time:   ([a-z ]+?) \d+%", lines[time])
    assert longest is not None and lines[time + 1].startswith(f"Binds:  {longest[1]}, ")
    assert lines[time + 2].startswith("Try:    ")
