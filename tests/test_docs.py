"""The README and docs/: commands name what exists, and the code of docs/python.md is run as it stands."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.scripts import compare, main, tune
from triathlon.training import config, schema
from triathlon.training.errors import RunError
from triathlon.training.supervised import config as supervised_config
from triathlon.training.tuning.space import Space
from triathlon.training.tuning.study import TuneConfig
from triathlon.training.yaml_text import parse

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Options of the commands themselves; all else that follows a configuration changes it.
OF_TRAIN = {"--resume", "--seeds"}
# Commands whose options are all of their own.
OF_RUNS = ("evaluate", "watch", "plot", "arena", "play", "record", "export-sb3")
# What a block leaves out of an experiment.
REST = {"env": {"id": "CartPole-v1"}, "agent": {"kind": "ppo"}, "total_steps": 1000}


class Parsed(Exception):
    """Options were understood."""


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `triathlon …` in a block or a line of a page, as a shell takes it apart."""
    for page in PAGES:
        text = "\n".join(blocks(page, "bash", "sh")).replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        lines += re.findall(r"`(triathlon [^`]+)`", page.read_text(encoding="utf-8"))
        for line in lines:
            if line.startswith("triathlon ") and "…" not in line and "RUN" not in line and "CONFIG" not in line:
                yield page.name, shlex.split(line, comments=True)[1:]


COMMANDS = list(commands())


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 60 and len(INLINE) > 8


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_a_command_is_one_that_a_reader_can_give(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    name, *rest = words
    assert name in main.COMMANDS
    if name in OF_RUNS and rest:
        parse_args = argparse.ArgumentParser.parse_args

        def parse_only(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
            parse_args(parser, arguments)  # exits where an option is not one
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        with pytest.raises(Parsed):
            importlib.import_module(f"triathlon.scripts.{name.replace('-', '_')}").main(rest)
    if not rest or rest[0].startswith("-") or rest[0] in ("latest", "experiment.yaml"):
        return
    if name in ("train", "doctor"):
        parser = argparse.ArgumentParser()
        for option in OF_TRAIN:
            parser.add_argument(option)
        _, settings = parser.parse_known_args(rest[1:])
        config.load(rest[0], settings)
    elif name == "supervised":
        supervised_config.load(rest[0], rest[1:])
    elif name == "compare":
        pytest.importorskip("stable_baselines3")
        pytest.importorskip("ray.rllib")
        compare.plan(*compare._parser().parse_known_args(rest))
    elif name == "tune":
        options, settings = tune._parser().parse_known_args(rest[1:])
        schema.build(TuneConfig, tune._given(options), {})
        Space.parse(config.read(rest[0]), settings, options.param).experiment({})


def inline() -> Iterator[tuple[str, str]]:
    """Every `part: { … }` of an experiment in a sentence or a table of a page, where nothing is left out."""
    parts = "|".join(field.name for field in dataclasses.fields(config.Experiment))
    for page in PAGES:
        for line in re.findall(rf"`((?:{parts}): ?\{{[^`]*\}})`", page.read_text(encoding="utf-8")):
            if "…" not in line and not re.search(r"my_\w+:", line):
                yield page.name, line


INLINE = list(inline())


@pytest.mark.parametrize(("page", "line"), INLINE, ids=[f"{page}: {line}" for page, line in INLINE])
def test_yaml_in_a_line_is_of_settings_that_there_are(page: str, line: str) -> None:
    """It stands alone; where an agent's kind is left out, the settings are those of one of them."""
    ((part, settings),) = parse(line, page).items()
    errors = []
    for kind in ("ppo", "dqn", "pqn"):
        rest: dict[str, Any] = REST | {"agent": {"kind": kind}}
        try:
            config.from_mapping(rest | {part: rest.get(part, {}) | settings})
            return
        except RunError as error:
            errors.append(str(error))
    pytest.fail("\n".join(errors))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_yaml_is_of_settings_that_there_are(page: Path) -> None:
    """Each block alone, or each line of it alone, is (part of) an experiment."""
    for block in blocks(page, "yaml"):
        try:
            found = [parse(block, page.name)]
        except RunError:  # a key twice: each line is an example of its own
            found = [parse(line, page.name) for line in block.splitlines() if line.strip()]
        for settings in found:
            if "task" in settings:
                supervised_config.from_mapping(settings)
            elif not re.search(r"my_\w+:", block):  # a class of one's own, which stands in another block
                config.from_mapping(REST | settings)


def test_the_python_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(REPOSITORY / "docs/python.md", "python")):
        exec(compile(block, f"python.md, block {number}", "exec"), names)
    assert names["result"].num_steps >= 20_000 and names["score"] > 50
    assert len(names["played"].returns) == 20
    assert names["metrics"]["n_updates"] == 48  # three rollouts of 1,024 steps, four epochs of four minibatches
