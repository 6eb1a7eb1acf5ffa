"""What is in deploy/ can be read by what reads it, and asks Triathlon for nothing that it does not know."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.free_ports import free_ports
from triathlon.scripts.main import COMMANDS, main
from triathlon.training import checkpoint, config

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRIPTS = sorted([*DEPLOY.glob("*.sh"), *DEPLOY.glob("*.sbatch")])
# Of the environment that the tests run in, also where it is not active.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
MANIFESTS = sorted(DEPLOY.glob("*.yaml"))
TINY = """
env: {id: CartPole-v1, num_envs: 2}
agent: {kind: ppo, num_steps: 16, batch_size: 32, num_epochs: 1}
backbone: {kind: mlp, hidden_sizes: [8]}
total_steps: 200
num_threads: 1
logging: {period: 50}
evaluation: {final_episodes: 2, video: false}
"""


def commands(text: str) -> list[list[str]]:
    """Every `triathlon …` in a text, as words; lines that end with a backslash are joined."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("# ")[0]
        if match := re.search(r"(?:(?<![\w/])triathlon|-m triathlon\.scripts\.main) +(train|tune|evaluate)\b.*", words):
            found.append(shlex.split(match[0].removeprefix("-m triathlon.scripts.main").removeprefix("triathlon")))
    return found


def filled(word: str) -> str:
    """A word of a script with its variables filled in as whoever starts it would."""
    given = {"CONFIG": "cartpole_ppo", "NAME": "mine", "ROOT": "runs", "HEAD": "node1", "WORKERS": "31"}
    return re.sub(r"\$(\w+)", lambda variable: given[variable[1]], word)


def test_there_is_something_for_each_sort_of_cluster() -> None:
    assert {path.name for path in SCRIPTS} == {"slurm.sbatch", "ray_job.sh", "torchrun.sh"}
    assert {path.name for path in MANIFESTS} == {"kuberay_job.yaml"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True).stderr == ""
    assert script.read_text(encoding="utf-8").startswith("#!/bin/bash\n")


@pytest.mark.parametrize("file", [*SCRIPTS, *MANIFESTS], ids=lambda path: path.name)
def test_every_command_is_one_that_triathlon_takes(file: Path) -> None:
    found = commands(file.read_text(encoding="utf-8"))
    assert found
    for command, *words in found:
        assert command in COMMANDS
        name, *rest = [filled(word) for word in words if word not in ("$@", "&")]
        assert rest[rest.index("--resume") + 1] == "auto"  # started again, it goes on
        del rest[rest.index("--resume") : rest.index("--resume") + 2]
        experiment = config.load(name, rest)
        assert experiment.name is not None  # without one there is nothing to go on with


def test_the_manifest_is_a_ray_job() -> None:
    (manifest,) = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in MANIFESTS]
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    folders = [{mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} for pod in pods]
    ((command, *words),) = commands(spec["entrypoint"])
    assert command == "train" and "ray" in words
    # Checkpoints lie where the pod that comes after this one finds them.
    root = words[words.index("--root") + 1]
    assert any(root.startswith(folder) for folder in folders[0])
    num_workers = int(words[words.index("--workers.num") + 1])
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert num_workers <= group["replicas"] * cpus


# --- the one entry point ----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


AUTO = ["train", "tiny.yaml", "--name", "mine", "--resume", "auto"]


def num_steps(folder: Path) -> int:
    return int(checkpoint.load(folder / "checkpoints" / "last.safetensors")["num_steps"])


def logged(folder: Path) -> list[int]:
    """The environment steps of the rows of metrics (rows that hold a score only are left out)."""
    with open(folder / "progress.csv", encoding="utf-8", newline="") as file:
        return [int(float(row["time/total_timesteps"])) for row in csv.DictReader(file) if row["time/fps"]]


def test_resume_auto_starts_goes_on_and_stays_finished(here: Path) -> None:
    folder = here / "runs" / "CartPole-v1" / "mine"
    assert main(AUTO) == 0
    assert num_steps(folder) == pytest.approx(200, abs=32)
    first = num_steps(folder)
    assert main(AUTO) == 0  # it is finished, and stays so
    assert num_steps(folder) == first
    assert main([*AUTO, "--total-steps", "400"]) == 0
    assert num_steps(folder) == pytest.approx(400, abs=32)
    assert config.load(folder / "config.yaml").total_steps == 400
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    steps = logged(folder)
    assert steps == sorted(set(steps)) and steps[0] < 100 and steps[-1] > 300


def test_resume_auto_begins_anew_where_nothing_was_saved(here: Path) -> None:
    folder = here / "runs" / "CartPole-v1" / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("total_steps: [")
    (folder / "monitor.csv").write_text("of a run that was killed")
    assert main(AUTO) == 0
    assert num_steps(folder) == pytest.approx(200, abs=32)
    assert "killed" not in (folder / "monitor.csv").read_text()


def test_resume_auto_touches_no_folder_that_is_not_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "runs" / "CartPole-v1" / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    assert main(AUTO) == 2
    assert "there is a run" in capsys.readouterr().err
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_resume_auto_wants_a_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--resume", "auto"]) == 2
    assert "give --name" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_terminated_and_started_again_it_finishes(here: Path) -> None:
    """What SLURM, Kubernetes and `ray job stop` do: SIGTERM, and later the same command again."""
    command = [
        sys.executable,
        "-m",
        "triathlon.scripts.main",
        *AUTO,
        "--total-steps",
        "30000",
        "--logging.period",
        "500",
    ]
    folder = here / "runs" / "CartPole-v1" / "mine"
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (folder / "progress.csv").is_file() or len((folder / "progress.csv").read_text().splitlines()) < 3:
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130 and "Stopped. Go on with" in said
    stopped_at = num_steps(folder)
    assert 500 <= stopped_at < 30_000
    assert main([*AUTO, "--total-steps", str(stopped_at + 300)]) == 0
    assert num_steps(folder) == pytest.approx(stopped_at + 300, abs=32)


# --- a job of SLURM ---------------------------------------------------------------------------------------------------

SRUN = """#!/bin/bash
echo "srun $*" >> log
while [[ $1 == --* ]]; do shift; done
[[ $1 == ray ]] || exec "$@"
trap 'sleep 0.5; echo saved >> log; exit 130' TERM
echo $$ > pid
while [[ ! -e end ]]; do sleep 0.05; done
exit 3
"""
PKILL = """#!/bin/bash
kill -TERM "$(cat pid)"
"""
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; else echo "scontrol $*" >> log; fi
"""


@pytest.mark.parametrize("is_told", [True, False])
def test_a_slurm_job_that_is_told_to_end_saves_and_queues_itself_again(tmp_path: Path, is_told: bool) -> None:
    """With commands that stand in for SLURM's: the script's own order is what is looked at."""
    for name, text in (("srun", SRUN), ("pkill", PKILL), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_ID": "7"}
    environment = os.environ | given | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(DEPLOY / "slurm.sbatch"), "cartpole_ppo", "mine", "/shared/runs", "--seed", "3"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as job:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().strip() != "")
        if is_told:
            job.send_signal(signal.SIGTERM)
        else:
            (tmp_path / "end").touch()
        code = job.wait(timeout=60)
    started, *then = (tmp_path / "log").read_text().splitlines()
    assert "--num-cpus 4 -- triathlon train cartpole_ppo --name mine --root /shared/runs --resume auto" in started
    assert "--workers.num 7" in started and started.endswith("--workers.address node1:6379 --seed 3")
    if not is_told:
        assert code == 3 and then == []
        return
    assert code == 0
    told, *then = then
    pattern = told.partition("pkill -TERM -f ")[2]
    assert "--nodelist=node1" in told and re.search(
        pattern, "/venv/bin/triathlon train cartpole_ppo --name mine --root"
    )
    assert not re.search(pattern, "/venv/bin/triathlon train cartpole_ppo --name mine2 --root")
    assert then == ["saved", "scontrol requeue 7"]


# --- a job of a Ray cluster -------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool], seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@contextmanager
def ray_head(environment: dict[str, str]) -> Iterator[str]:
    """A cluster of one machine with a job server, whose address is given."""
    port, dashboard = free_ports(2)
    folder = tempfile.mkdtemp(prefix="head-", dir="/tmp")  # a socket's path is at most 107 characters long
    command = ["ray", "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard}"]
    command += ["--object-store-memory=200000000"]
    log = open(Path(folder) / "head.log", "w")  # noqa: SIM115 (the head writes to it)
    head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, process_group=0)
    address = f"http://127.0.0.1:{dashboard}"

    def is_up() -> bool:
        assert head.poll() is None, (Path(folder) / "head.log").read_text()
        try:
            return bool(urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    try:
        wait_for(is_up)
        yield address
    finally:
        head.terminate()  # with --block it takes its processes along
        try:
            head.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("ray", path=PATH) is None, reason="there is no command of Ray")
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_ray_job_ended_halfway_and_submitted_again(here: Path, how: str) -> None:
    """The unchanged training command, with workers on the cluster: what was learned before the end is gone on with."""
    psutil = pytest.importorskip("psutil")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **{"HOME": str(here), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        "PATH": PATH,
    }
    folder = here / "runs" / "CartPole-v1" / "mine"
    last = folder / "checkpoints" / "last.safetensors"
    settings = ["--workers.num", "1", "--workers.envs-per-worker", "2", "--total-steps", "4000"]
    settings += ["--checkpoint.period", "500"]
    with ray_head(environment) as address:
        environment["RAY_API_SERVER_ADDRESS"] = address
        submit = [str(DEPLOY / "ray_job.sh"), str(here / "tiny.yaml"), "mine", str(here / "runs"), *settings]

        def submitted() -> str:
            while True:
                submitting = subprocess.run(submit, env=environment, capture_output=True, text=True)
                if found := re.search(r"raysubmit_\w+", submitting.stdout):
                    return found[0]
                # The server answers before the agent that starts jobs is there.
                assert "agent" in submitting.stdout + submitting.stderr, submitting.stdout + submitting.stderr

        def status(job: str) -> str:
            with urllib.request.urlopen(f"{address}/api/jobs/{job}", timeout=30) as answer:
                return str(json.loads(answer.read())["status"])

        first = submitted()
        wait_for(lambda: last.is_file() and num_steps(folder) >= 1000)
        if how == "stop":
            subprocess.run(["ray", "job", "stop", first], env=environment, capture_output=True, check=True)
        else:
            (run,) = [
                process
                for process in psutil.process_iter(["cmdline"])
                if "train" in (words := process.info["cmdline"] or [])
                and str(here / "runs") in words
                and "python" in words[0]
            ]
            run.kill()
        wait_for(lambda: status(first) in ("FAILED", "STOPPED"))
        before = num_steps(folder)
        assert 1000 <= before < 4000
        second = submitted()
        wait_for(lambda: status(second) == "SUCCEEDED")
    assert num_steps(folder) == pytest.approx(4000, abs=64)
    assert (folder / "score.json").is_file()
    assert (folder / "command.txt").read_text().count("--resume auto") == 2
    steps = logged(folder)
    assert steps == sorted(set(steps)) and steps[0] < 1000 and steps[-1] > 3500
