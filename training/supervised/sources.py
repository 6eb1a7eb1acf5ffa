"""Where examples come from, as far as pictures, texts, sounds and signals have it in common."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Indices, parts

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1

T = TypeVar("T")


def three_parts(
    train: T,
    test: T | None,
    validation: T | None,
    take: Callable[[T, Indices], T],
    num: Callable[[T], int],
    kind: str,
) -> tuple[T, T, T]:
    """What is learned from, what chooses, and what tests; a part that is not there is taken from `train`.

    `take` gives the examples of those indices, `num` counts them, and `kind` is what a person calls them.

    Raises:
        RunError: there are too few examples.
    """

    def cut(whole: T, share: float) -> tuple[T, T]:
        first, second = parts(num(whole), share)
        if not len(first):
            raise RunError(f"task.source: {num(whole)} {kind} are too few to be split")
        return take(whole, first), take(whole, second)

    if test is None:
        train, test = cut(train, TEST_SHARE)
    if validation is None:
        train, validation = cut(train, VALIDATION_SHARE)
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


__all__ = ["class_names", "packaged", "pick", "read_table", "three_parts"]
