"""The desk keeps its word: what pages name exists, packages are complete, the tree holds nothing of one machine."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from triathlon.agents.registry import learner_class
from triathlon.training import config

ROOT = Path(__file__).parent.parent
ROOMS = ("agents", "configs", "envs", "networks", "scripts", "training")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name != "supervised")
EXTRAS = (
    *("pygame", "Box2D", "mujoco", "minatar", "stable_baselines3", "ray", "ale_py", "lz4", "matplotlib", "pandas"),
    *(
        "pyspiel",
        "open_spiel",
        "choix",
        "rust_reversi",
        "sklearn",
        "tokenizers",
        "sacrebleu",
        "pysword",
        "mnist1d",
        "soundfile",
        "kaldi_native_fbank",
        "scipy",
        "optuna",
        "minari",
    ),
)
# Modules that are nothing without their extra, and that only its commands and settings import.
ADAPTERS = re.compile(r"triathlon\.training\.(engines\.(rllib|sb3)|tuning\.(schedulers|trial|tuner))")


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_make_commands_in_a_page_exist(page: Path) -> None:
    code = "\n".join(a or b for a, b in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", page.read_text(), re.DOTALL))
    named = {word for line in re.findall(r"^\s*make ((?:[a-z-]+ ?)+)", code, re.MULTILINE) for word in line.split()}
    assert named <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) ", listed, re.MULTILINE)) == make_targets()


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = {file.parent.relative_to(ROOT) for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    expected = {"triathlon." + ".".join(folder.parts) for folder in folders}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == expected


def test_everything_in_dev_is_pinned() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = [*PYPROJECT["project"]["dependencies"], *(r for extra in extras.values() for r in extra)]
    names = {canonical(re.match(r"[\w.-]+", r)[0]) for r in requirements} - {"triathlon"}  # type: ignore[index]
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert names <= {canonical(pin.partition("==")[0]) for pin in pins}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_valid_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    experiment = config.load(path)
    assert isinstance(experiment.agent, learner_class(experiment.agent.kind).Config)
    (tmp_path / "again.yaml").write_text(config.dump(experiment))
    assert config.load(tmp_path / "again.yaml") == experiment


def test_the_wheel_holds_all_rooms_and_configurations(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (*ROOMS, "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("triathlon-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [file for room in ROOMS for kind in ("*.py", "*.yaml") for file in (ROOT / room).rglob(kind)]
    expected = {f"triathlon/{file.relative_to(ROOT)}" for file in files}
    assert expected <= held
    assert not [name for name in held if "test" in name or not name.startswith("triathlon")]


def test_no_room_needs_an_extra_to_be_imported() -> None:
    files = [file.relative_to(ROOT).with_suffix("") for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    names = (f"triathlon.{'.'.join(file.parts)}".removesuffix(".__init__") for file in files)
    modules = sorted(name for name in names if not ADAPTERS.match(name))
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"  # None in sys.modules: import raises ModuleNotFoundError
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_command_starts_without_slow_imports() -> None:
    script = "import sys, triathlon.scripts.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pygame", "matplotlib", "pandas", "stable_baselines3", "ray", "scipy.stats"} & set(loaded)


def test_scripts_that_make_runs_exist() -> None:
    named = re.findall(r"[\w/]+\.py\b", (ROOT / "Makefile").read_text())
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    imported_as = {"pyyaml": "yaml", "pillow": "PIL"}
    declared = {re.match(r"[\w.-]+", r)[0] for r in PYPROJECT["project"]["dependencies"]}  # type: ignore[index]
    names = {imported_as.get(name, name.replace("-", "_")) for name in declared}
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    found = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert found - sys.stdlib_module_names - {"triathlon"} - set(EXTRAS) == names


def test_no_file_is_named_for_nothing() -> None:
    vague = re.compile(r"^(_?(utils?|common|helpers?|base|misc|manager|tools))\.py$")
    assert [path for path in tracked() if vague.match(path.name)] == []


def test_nothing_of_one_machine_and_no_secret_is_in_the_tree() -> None:
    home, root = re.escape(os.path.expanduser("~")), re.escape(str(ROOT))
    found = re.compile(
        rf"(?<![\w.]){root}(?!\w)|(?<![\w.]){home}/|/home/\w+/|/Users/\w+/"
        r"|BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bsk-[\w-]{30,}|://[^/\s:@]+:[^/\s@]+@"
    )
    hits = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            hits += [f"{path.relative_to(ROOT)}: {m[0]}" for m in found.finditer(text)]
    assert hits == []


def test_tables_of_settings_are_made_from_the_dataclasses() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        tables = importlib.import_module("settings_tables")
    finally:
        sys.path.pop(0)
    page = tables.on_page_markdown("before\n<!-- settings: triathlon.agents.ppo_config:PPOConfig -->\nafter")
    assert "| `gae_lambda` | `0.95` | number ≥ 0 and ≤ 1 | λ of generalised advantage estimation |" in page
    assert "| `target_kl` | `null` | number > 0 or null |" in page
    assert page.startswith("before\n|")
    assert page.endswith("|\nafter")
    assert "### `mlp`" in tables.on_page_markdown("<!-- backbones -->")
