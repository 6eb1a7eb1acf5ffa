"""Where examples come from, as far as pictures, texts, sounds and signals have it in common."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Lt

from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Indices, parts

NUM_FOLDS = 5

T = TypeVar("T")


@dataclass(frozen=True)
class PartsConfig:
    """How examples are dealt out that do not come in parts."""

    fold: Annotated[int, Ge(0), Lt(NUM_FOLDS), "which fifth tests, of data without a test part (cross-validation)"] = 0
    validation_share: Annotated[
        float, Gt(0), Lt(1), "share of what could be learned from that chooses the checkpoint, without such a part"
    ] = 0.1

    def refuse(self, kind: str, has_test: bool, has_validation: bool) -> None:
        """Raises RunError where a setting was changed that is of a part which these examples, a `kind`, come with."""
        for name, part, has_part in (("fold", "test", has_test), ("validation_share", "validation", has_validation)):
            value, usual = getattr(self, name), getattr(PartsConfig, name)
            if has_part and value != usual:
                raise RunError(f"task.parts.{name} is {value}, but these {kind} come with a {part} part; leave it out")


USUAL_PARTS = PartsConfig()


def three_parts(
    train: T,
    test: T | None,
    validation: T | None,
    config: PartsConfig,
    take: Callable[[T, Indices], T],
    num: Callable[[T], int],
    kind: str,
) -> tuple[T, T, T]:
    """What is learned from, what chooses, and what tests; a part that is not there is taken from `train`.

    `take` gives the examples of those indices, `num` counts them, and `kind` is what a person calls them.

    Raises:
        RunError: there are too few examples, or a setting is of a part that is there.
    """
    config.refuse(kind, test is not None, validation is not None)

    def cut(whole: T, share: float, fold: int = 0) -> tuple[T, T]:
        first, second = parts(num(whole), share, fold)
        if not len(first):
            raise RunError(f"task.source: {num(whole)} {kind} are too few to be split")
        return take(whole, first), take(whole, second)

    if test is None:
        train, test = cut(train, 1 / NUM_FOLDS, config.fold)
    if validation is None:
        train, validation = cut(train, config.validation_share)
    return train, validation, test


def pick(items: Sequence[T], chosen: Indices) -> list[T]:
    """The items of those indices."""
    return [items[i] for i in chosen]


def class_names(folder: Path) -> list[str]:
    """The names of the folders in a folder, each of which holds the examples of one class.

    Raises:
        RunError: there are fewer than two.
    """
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise RunError(f"task.source: {folder} should have a folder for each of two or more classes; it has {classes}")
    return classes


def packaged(module: str, inside: str, missing: str) -> Path:
    """A file or folder of an installed package, found without importing it.

    Raises:
        RunError: it is not there; `missing` says what to do.
    """
    found = importlib.util.find_spec(module)
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / inside).exists():
            return Path(folder) / inside
    raise RunError(missing)


def read_table(path: Path, first: str, second: str) -> list[dict[str, str]]:
    """The rows of a table, separated by tabs (.tsv, .tab) or commas, in which two columns must be there.

    Raises:
        RunError: it cannot be read, or a column or one of its fields is missing.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        # Excel begins what it saves as UTF-8 with a mark, which is no part of the first column's name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix in (".tsv", ".tab") else ",", strict=True)
            columns, rows = list(reader.fieldnames or []), list(reader)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path} cannot be read as a table with columns '{first}' and '{second}': {error}") from error
    if not {first, second} <= set(columns):
        raise RunError(f"{path} should have columns '{first}' and '{second}'; it has {', '.join(columns) or 'none'}")
    if any(row[first] is None or row[second] is None for row in rows):
        raise RunError(f"{path} has a row without a {first} or a {second}")
    return rows


__all__ = ["USUAL_PARTS", "PartsConfig", "class_names", "packaged", "pick", "read_table", "three_parts"]
