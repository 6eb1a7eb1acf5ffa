"""The commands that a person runs, from a configuration to a film, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from triathlon.scripts.main import main
from triathlon.training import checkpoint

CONFIG = """
env: {id: CartPole-v1, num_envs: 2}
agent: {kind: ppo, num_steps: 16, batch_size: 32, num_epochs: 1}
backbone: {kind: mlp, hidden_sizes: [8]}
total_steps: 200
num_threads: 1
logging: {period: 50}
evaluation: {period: 100, num_episodes: 2, final_episodes: 4}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run commands in, with one configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be looked at but not changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(CONFIG)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["train", "tiny.yaml"]) == 0
    finally:
        os.chdir(before)
    (run,) = folder.glob("runs/CartPole-v1/*")
    return run


@pytest.fixture
def run(finished: Path, here: Path) -> Path:
    """A copy of the finished run."""
    copy = here / "runs" / "CartPole-v1" / "mine"
    shutil.copytree(finished, copy)
    return copy.relative_to(here)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence of a command that fails as it should."""
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("triathlon: error: ")]) == 1
    return lines[-1].removeprefix("triathlon: error: ")


def test_train_leaves_all_that_is_promised(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--seed", "5", "--agent.learning-rate", "2e-3"]) == 0
    said = capsys.readouterr().out
    (folder,) = here.glob("runs/CartPole-v1/ppo-mlp-seed5-*")
    names = {path.name.split(".tfevents")[0] for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        *("config.yaml", "command.txt", "versions.json", "git.json", "score.json", "monitor.csv", "progress.csv"),
        *("last.safetensors", "best.safetensors", "final.mp4", "events.out"),
    }
    score = json.loads((folder / "score.json").read_text())
    assert len(score["returns"]) == 4
    assert f"Score:  {score['mean']:.1f} (95 % interval" in said
    for line in (
        "Video:  runs/CartPole-v1/ppo-mlp",
        "Curves: tensorboard --logdir runs/",
        "triathlon train --resume runs/",
    ):
        assert line in said
    assert (folder / "command.txt").read_text() == "triathlon train tiny.yaml --seed 5 --agent.learning-rate 2e-3\n"


def test_the_configuration_that_was_written_repeats_the_run(finished: Path, here: Path) -> None:
    torch.manual_seed(123)  # what was drawn before must not matter
    assert main(["train", str(finished / "config.yaml"), "--evaluation.video", "false"]) == 0
    (again,) = here.glob("runs/CartPole-v1/*")
    first, second = (checkpoint.load(folder / "checkpoints" / "last.safetensors") for folder in (finished, again))
    assert first["num_steps"] == second["num_steps"]
    assert flat(first["learner"]).equal(flat(second["learner"]))
    assert json.loads((finished / "score.json").read_text()) == json.loads((again / "score.json").read_text())


def test_going_on_from_a_finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = checkpoint.load(run / "checkpoints" / "last.safetensors")["num_steps"]
    assert main(["train", "--resume", str(run), "--total-steps", "400"]) == 0
    assert checkpoint.load(run / "checkpoints" / "last.safetensors")["num_steps"] >= 400 > before
    assert "total_steps: 400" in (run / "config.yaml").read_text()
    assert len((run / "command.txt").read_text().splitlines()) == 2
    assert main(["train", "--resume", "latest", "--help"]) == 0
    assert re.search(r"--total-steps +400 ", capsys.readouterr().out)


def test_seeds_are_trained_one_after_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--seeds", "2", "--evaluation.video", "false", "--total-steps", "64"]) == 0
    scores = {
        path.parent.name.split("-")[2]: json.loads(path.read_text())["mean"]
        for path in here.glob("runs/*/*/score.json")
    }
    assert set(scores) == {"seed1", "seed2"}
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("2 seeds: "))
    assert line.startswith(f"2 seeds: {sum(scores.values()) / 2:.1f} (95 % interval")
    assert line.endswith(f"(each: {scores['seed1']:.1f}, {scores['seed2']:.1f})")


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--episodes", "4", "--out", "a.json"]) == 0
    said = capsys.readouterr().out
    found, trained = (json.loads(Path(path).read_text()) for path in ("a.json", run / "score.json"))
    assert found == trained  # the same policy on the same fresh episodes
    assert re.search(rf"mean return +{found['mean']:.2f} +95 % interval", said)
    assert main(["evaluate", "latest", "--episodes", "4", "--seed", "9", "--checkpoint", "last", "--stochastic"]) == 0
    assert "last checkpoint, actions drawn, 4 episodes" in capsys.readouterr().out


def test_a_run_that_was_scored_drawing_its_actions_is_evaluated_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("  deterministic: true", "  deterministic: false"))
    assert main(["evaluate", str(run), "--episodes", "4", "--out", "a.json"]) == 0
    assert "checkpoint, actions drawn, 4 episodes" in capsys.readouterr().out
    assert json.loads(Path("a.json").read_text())["deterministic"] is False
    assert main(["evaluate", str(run), "--episodes", "4", "--no-stochastic"]) == 0
    assert "drawn" not in capsys.readouterr().out


def test_watch_films(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run), "--out", "film.mp4"]) == 0
    steps = float(re.search(r"Return: ([\d.]+)", capsys.readouterr().out).group(1))
    frames, _ = count_frames_and_secs("film.mp4")
    assert frames == steps + 1  # CartPole pays 1 a step
    assert main(["watch", "latest", "--out", "film.gif", "--episodes", "2"]) == 0
    assert capsys.readouterr().out.count(",") == 1
    assert Image.open(here / "film.gif").n_frames > steps


def test_watch_says_when_there_is_no_screen(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "film it with --out film.mp4" in refusal(capsys, "watch", str(run))


def test_help(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main([]) == 0
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("triathlon train CONFIG") == 2
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--resume RUN" in out
    assert re.search(r"\n  cartpole_ppo +CartPole-v1 by PPO.*\n(.*\n)*  ppo_pong +Pong by PPO\n", out)
    assert main(["train", "tiny.yaml", "--help", "--seed", "77"]) == 0
    assert re.search(r"--seed +77 +all random numbers", capsys.readouterr().out)
    assert main(["train"]) == 2
    assert not (here / "runs").exists()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_does_not_wait_for_pytorch(words: list[str]) -> None:
    code = f"import sys; from triathlon.scripts.main import main; main({words}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


WRONG = [
    (
        "train tiny.yaml --agent.learnin-rate 1",
        "agent.learnin_rate is not a setting of agent of kind 'ppo' (did you mean",
    ),
    ("train tiny.yaml --agent.gamma high", "agent.gamma is 'high' but should be a number"),
    ("train tiny.yaml --env.id CartPoole-v1", "did you mean CartPole-v1"),
    ("train tiny.yaml --env.id nowhere:Env", "nowhere"),
    ("train tiny.yaml --agent.kind dqn --env.id Pendulum-v1", "Box"),
    ("train tiny.yaml --backbone.kind cnn", "cnn"),
    ("train tiny.yaml --root tiny.yaml", "root: "),
    ("train tiny.yaml --seeds 0", "--seeds is 0"),
    ("train tiny.yaml --resume latest", "not both"),
    ("train tiny.yaml stray", "'stray' is not understood"),
    ("train --seeds 3 tiny.yaml", "the configuration comes first: triathlon train CONFIG --seeds 3 tiny.yaml"),
    ("doctor --seconds 1 tiny.yaml", "the configuration comes first: triathlon doctor CONFIG --seconds 1"),
    ("supervised --seed 3", "the configuration comes first: triathlon supervised CONFIG --seed 3"),
    ("train missing.yaml", "there is no configuration file 'missing.yaml'"),
    ("train --resume latest", "there is no run below"),
    ("train --resume nowhere", "there is no run folder 'nowhere'"),
    ("evaluate .", "is not the folder of a run"),
    ("evaluate latest --episodes 0", "--episodes is 0"),
    ("watch latest --seed -1", "--seed is -1"),
    ("tran tiny.yaml", "there is no command 'tran'; is it train?"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_what_is_wrong_is_said_in_a_sentence_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert message in refusal(capsys, *arguments.split(" "))
    assert os.listdir(here) == ["tiny.yaml"]


def test_a_run_that_cannot_go_on_keeps_what_it_has(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another process may be training in it, or only its checkpoint is lost."""
    shutil.rmtree(run / "checkpoints")
    for table in ("monitor.csv", "progress.csv"):
        (run / table).unlink()
    before = sorted(path.name for path in run.iterdir())
    assert main(["train", "--resume", str(run), "--total-steps", "300"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir() if path.name in before) == before


@pytest.mark.parametrize(("setting", "value"), [("seed", "7"), ("name", "other"), ("root", "elsewhere")])
def test_a_run_goes_on_as_what_it_began(
    run: Path, capsys: pytest.CaptureFixture[str], setting: str, value: str
) -> None:
    before = (run / "config.yaml").read_text()
    assert main(["train", "--resume", str(run), "--total-steps", "300", f"--{setting}", value]) == 2
    assert f"goes on with the {setting} that it began with" in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--num_envs", "4"), "num_envs is not a setting of the configuration (did you mean 'env.num_envs'?)"),
        (("--learning-rate", "1e-3"), "(did you mean 'agent.learning_rate'?)"),
        (("--name", "''"), "name is '' but should be a word that is not empty"),
        (("--backbone.hidden_sizes", "64"), "backbone.hidden_sizes is 64 but should be a list"),
    ],
)
def test_what_a_newcomer_writes_is_answered_with_the_right_name(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], sentence: str
) -> None:
    assert main(["train", "tiny.yaml", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_damaged_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    for command in (["evaluate", str(run), "--checkpoint", "last"], ["train", "--resume", str(run)]):
        assert "last.safetensors is not a checkpoint, or is damaged or cut short" in refusal(capsys, *command)
    assert run.is_dir()


def test_a_checkpoint_of_another_environment(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("CartPole-v1", "Acrobot-v1"))
    assert "is a checkpoint of CartPole-v1, not of Acrobot-v1" in refusal(capsys, "evaluate", str(run))


def test_an_environment_that_breaks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my_broken_env.py").write_text(
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Broken(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        raise RuntimeError('the motor is hot')\n"
    )
    said = refusal(capsys, "train", "tiny.yaml", "--env.id", "my_broken_env:Broken")
    assert "my_broken_env:Broken" in said
    assert "RuntimeError: the motor is hot" in said
    assert not (here / "runs").exists()


BLIND = """
from gymnasium.envs.classic_control import CartPoleEnv
class Undrawn(CartPoleEnv):
    metadata = {"render_modes": []}
class Unlucky(CartPoleEnv):
    def render(self):
        raise RuntimeError("the paint has dried")
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my_blind_env:Undrawn", "my_blind_env:Undrawn cannot draw itself (it has no render mode rgb_array)"),
        ("my_blind_env:Unlucky", "the paint has dried"),
    ],
)
def test_a_film_that_cannot_be_made_does_not_cost_the_score(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    (here / "my_blind_env.py").write_text(BLIND)
    assert main(["train", "tiny.yaml", "--env.id", name]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^Video:  none: .*{re.escape(reason)}$", said, re.MULTILINE)
    assert "Score:  " in said
    assert "Curves: " in said
    (score,) = here.glob("runs/*/*/score.json")
    assert len(json.loads(score.read_text())["returns"]) == 4
    assert not list(here.glob("runs/*/*/videos/*"))


def test_a_reader_that_has_left_is_no_fault(here: Path) -> None:
    command = [sys.executable, "-m", "triathlon.scripts.main", "train", "tiny.yaml", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from triathlon.scripts import main as module

    def fault() -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        module.guarded(fault)


def test_ctrl_c_saves_and_says_how_to_go_on(here: Path) -> None:
    script = Path(sys.modules["triathlon.scripts.main"].__file__ or "").with_name("train.py")
    command = [sys.executable, str(script), "tiny.yaml", "--total-steps", "100_000_000", "--evaluation.period", "null"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        folder = here / process.stdout.readline().removeprefix("Training in ").strip()
        table = folder / "progress.csv"
        while not table.exists() or len(table.read_text().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.wait() == 130
    resume = re.search(r"Go on with: triathlon (train --resume \S+)", said)
    assert resume is not None
    steps = checkpoint.load(folder / "checkpoints" / "last.safetensors")["num_steps"]
    assert main([*resume.group(1).split(), "--total-steps", str(steps + 50), "--evaluation.video", "false"]) == 0
    assert checkpoint.load(folder / "checkpoints" / "last.safetensors")["num_steps"] >= steps + 50


def flat(state: object) -> torch.Tensor:
    """All numbers of a nested state in one row."""
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        return torch.cat([flat(item) for item in state] or [torch.zeros(0, dtype=torch.float64)])
    is_number = isinstance(state, (int, float, torch.Tensor)) or hasattr(state, "dtype")
    return torch.as_tensor(state).double().ravel() if is_number else torch.zeros(0, dtype=torch.float64)
