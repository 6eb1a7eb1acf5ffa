"""`triathlon compare`: real runs side by side, scored, drawn, and not run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from triathlon.networks.errors import SettingError
from triathlon.scripts.compare import _wait_for
from triathlon.scripts.main import INTERRUPTED, main
from triathlon.training import checkpoint
from triathlon.training.curves import Curve
from triathlon.training.engines.comparison import Compared, band, table
from triathlon.training.errors import RunError

SETTINGS = {
    "--total-steps": "96",
    "--agent.num-steps": "8",
    "--agent.batch-size": "16",
    "--env.num-envs": "2",
    "--logging.period": "32",
    "--evaluation.final-episodes": "3",
    "--num-threads": "1",
    "--device": "cpu",
}


def test_bands_are_over_what_all_curves_have() -> None:
    first = Curve("", np.array([0.0, 10.0]), np.array([0.0, 10.0]))
    second = Curve("", np.array([5.0, 20.0]), np.array([1.0, 16.0]))
    x, (mean, low, high) = band([first, second])
    assert x[0] == 5.0 and x[-1] == 10.0
    assert (mean[0], low[0], high[0]) == (3.0, 1.0, 5.0)
    assert (mean[-1], low[-1], high[-1]) == (8.0, 6.0, 10.0)


def test_the_table_has_a_row_for_each_engine() -> None:
    runs = [
        Compared("native", (), (500.0, 480.0), (6000.0, 7000.0), (9.0, 10.0)),
        Compared("rllib", (), (470.25,), (812.0,), (101.0,)),
    ]
    head, native, rllib = table(runs).splitlines()
    assert head.split() == ["engine", "score", "lowest", "to", "highest", "steps/s", "CPU", "s", "seeds"]
    assert native.split() == ["native", "490.0", "480.0", "to", "500.0", "6,500", "10", "2"]
    assert rllib.split() == ["rllib", "470.2", "470.2", "to", "470.2", "812", "101", "1"]


def test_runs_are_compared_and_not_run_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("matplotlib")
    out = tmp_path / "both.png"
    settings = [part for pair in SETTINGS.items() for part in pair]
    command = ["compare", "cartpole_ppo", "--engines", "native,sb3", "--seeds", "1", "--out", str(out)]
    command += ["--root", str(tmp_path / "runs"), *settings]
    assert main(command) == 0
    first = capfd.readouterr().out
    assert first.count("Training in") == 2 and first.rstrip().endswith(f"Picture: {out}")
    with Image.open(out) as picture:
        assert picture.width > picture.height > 300
    found = json.loads(out.with_suffix(".json").read_text())
    assert set(found) == {"native", "sb3"}
    for engine, numbers in found.items():
        (run,) = map(Path, numbers["runs"])
        assert run.name == f"compare-cartpole_ppo-{engine}-seed1"
        (mean,) = numbers["scores"]
        assert mean == np.mean(json.loads((run / "score.json").read_text())["returns"])
        assert numbers["steps_per_second"][0] > 1 and numbers["cpu_seconds"][0] > 0.5
    assert main(command) == 0
    again = capfd.readouterr().out
    assert "Training in" not in again and again in first
    (tmp_path / "runs/CartPole-v1/compare-cartpole_ppo-native-seed1/score.json").unlink()
    assert main(command) == 0
    assert capfd.readouterr().out.count("Training in") == 1
    assert main([*command, "--agent.gamma", "0.5"]) == 2
    assert "is a run with other settings" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--engines", "native,sb4"], r"there is no engine 'sb4' \(did you mean 'sb3'\?\)"),
        (["--engines", "sb3,sb3"], "names an engine twice"),
        (["--evaluation.final-episodes", "0"], "final_episodes is 0, but scores are compared"),
        (["--logging.csv", "false"], "logging.csv is false, but learning curves are compared"),
        (["--total-steps", "100", "--logging.period", "101"], "logging.period is 101 and total_steps 100, but"),
        (["--seeds", "0"], "--seeds is 0 but should be at least 1"),
        (["--engines", "native,rllib"], "agent.anneal_clip is true, which engine: rllib has no counterpart for"),
    ],
)
def test_wrong_comparisons_are_refused_before_anything_runs(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    from triathlon.scripts.compare import main as compare

    if "rllib" in arguments[-1]:
        pytest.importorskip("ray")
    with pytest.raises(RunError, match=sentence):
        compare(["cartpole_ppo", "--root", str(tmp_path / "runs"), *arguments])
    assert not (tmp_path / "runs").exists()


ODD = "{{id: 'tests.training.engines.odd_envs:OddEnv', num_envs: 2, kwargs: {{action: {}}}}}"


@pytest.mark.parametrize(
    ("engine", "env", "agent", "sentence"),
    [
        ("sb3", "{id: CartPole-v1}", "{kind: ppo, batch_size: 1}", "agent.batch_size is 1, of which engine: sb3"),
        ("sb3", "{id: CartPole-v1}", "{kind: dqn, train_period: 12}", "agent.train_period is 12 with env.num_envs 8"),
        ("sb3", "{id: triathlon/ProbeMask-v0}", "{kind: ppo}", "masks of legal actions, which engine: sb3"),
        ("rllib", "{id: triathlon/ProbeMask-v0}", "{kind: ppo}", "masks of legal actions, which engine: rllib"),
        ("rllib", ODD.format("multi-binary"), "{kind: ppo}", "the actions are MultiBinary, for which RLlib's PPO"),
        ("rllib", "{id: CartPole-v1}", "{kind: dqn, n_step: 2}", "agent.n_step is 2, but RLlib's DQN looks ahead"),
        ("rllib", "{id: CartPole-v1}", "{kind: dqn, target_period: 5, tau: 0.5}", "agent.target_period"),
    ],
)
def test_what_an_engine_refuses_later_is_refused_before_another_trains(
    engine: str, env: str, agent: str, sentence: str, tmp_path: Path
) -> None:
    from triathlon.scripts.compare import main as compare

    pytest.importorskip({"sb3": "stable_baselines3", "rllib": "ray"}[engine])
    text = f"env: {env}\nagent: {agent}\ntotal_steps: 90000\ndevice: cpu\nroot: {tmp_path}/runs\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises((RunError, SettingError), match=sentence):
        compare([str(tmp_path / "mine.yaml"), "--engines", f"native,{engine}", "--out", str(tmp_path / "out.png")])
    assert not (tmp_path / "runs").exists()


def test_a_memory_is_refused_before_another_engine_trains(tmp_path: Path) -> None:
    from triathlon.scripts.compare import main as compare

    pytest.importorskip("stable_baselines3")
    command = ["cartpole_ppo", "--engines", "native,sb3", "--root", str(tmp_path / "runs")]
    with pytest.raises(RunError, match=r"backbone\.kind is lstm, which has a memory"):
        compare([*command, "--backbone.kind", "lstm"])
    assert not (tmp_path / "runs").exists()


def test_asking_engines_loads_none_of_their_libraries(tmp_path: Path) -> None:
    """A comparison stays in memory for as long as its runs take."""
    code = (
        "import sys; from triathlon.scripts.compare import _parser, plan; "
        "plan(_parser().parse_args(['cartpole_ppo']), ['--agent.anneal-clip', 'false', '--root', sys.argv[1]]); "
        "print(sorted({'ray', 'stable_baselines3'} & set(sys.modules)))"
    )
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("ray")
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_evaluations_that_only_training_alone_has_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may have a goal or saliency: neither is for comparisons, and neither is refused."""
    from triathlon.scripts.compare import _parser, plan

    monkeypatch.chdir(tmp_path)
    evaluation = "{period: 10, goal: 475, saliency: true}"
    (tmp_path / "mine.yaml").write_text(
        f"env: {{id: CartPole-v1}}\nagent: {{kind: ppo}}\ntotal_steps: 90000\nevaluation: {evaluation}\n"
    )
    base, _ = plan(_parser().parse_args(["mine.yaml", "--engines", "native", "--seeds", "1"]), [])
    assert base.evaluation.period is base.evaluation.goal is None and not base.evaluation.saliency


def test_a_trainer_that_was_too_young_to_hear_of_a_stop_is_stopped_all_the_same() -> None:
    """SIGTERM ends Python where it still imports."""
    before = signal.getsignal(signal.SIGTERM)

    def strike() -> None:
        while signal.getsignal(signal.SIGTERM) == before:  # nobody would survive it yet
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=strike, daemon=True).start()
    assert _wait_for(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])) == INTERRUPTED
    assert _wait_for(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_comparison_that_is_stopped_stops_its_trainer_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("matplotlib")
    settings = [part for pair in (SETTINGS | {"--total-steps": "10000000"}).items() for part in pair]
    command = [sys.executable, "-m", "triathlon.scripts.main", "compare", "cartpole_ppo", "--engines", "native"]
    command += ["--seeds", "1", "--root", str(tmp_path), "--out", str(tmp_path / "out.png"), *settings]
    folder = tmp_path / "CartPole-v1" / "compare-cartpole_ppo-native-seed1"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as comparing:
        while not (table := folder / "progress.csv").is_file() or table.read_text().count("\n") < 3:
            assert comparing.poll() is None
            time.sleep(0.1)
        (trainer,) = psutil.Process(comparing.pid).children()
        comparing.send_signal(number)
        said, _ = comparing.communicate(timeout=60)
    assert comparing.returncode == INTERRUPTED, said
    assert "Stopped; the same command goes on." in said
    assert not trainer.is_running()
    steps = [float(row.split(",")[0]) for row in (folder / "progress.csv").read_text().splitlines()[1:]]
    assert checkpoint.load(folder / "checkpoints" / "last.safetensors")["num_steps"] >= max(steps)
