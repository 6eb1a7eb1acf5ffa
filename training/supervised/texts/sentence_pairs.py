"""Sentences with their translations: Debian's package descriptions, aligned verses, a person's own files. N pairs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.texts.keep_apart import Pair
from triathlon.training.supervised.texts.sources import read_text

DESCRIPTIONS, VERSES = "package_descriptions", "sword"
APT_LISTS = Path("/var/lib/apt/lists")
SWORD = Path("/usr/share/sword")
HELPER = Path("/usr/lib/apt/apt-helper")  # reads lists however apt has compressed them


def read_pairs(source: str, target: str | None) -> list[Pair]:
    """The pairs of a source, each sentence once, in order of the alphabet.

    Args:
        source: `package_descriptions:LANGUAGE` (it, fr, de …: the short descriptions of Debian's packages in English
            and that language, from apt's lists), `sword` (verses in English and Spanish), or a file: a sentence, a tab
            and its translation in each line, or one sentence in each line if `target` is given.
        target: a file with the translation of each line of `source`.

    Raises:
        RunError: no such source or file, a package is missing, or lines are not pairs.
    """
    name, _, language = source.partition(":")
    if target is None and name == DESCRIPTIONS:
        pairs: Sequence[Pair] = list(_descriptions(language, APT_LISTS))
    elif target is None and source == VERSES:
        pairs = list(_verses(SWORD))
    else:
        pairs = _own(source, target)
    joined = ((" ".join(one.split()), " ".join(other.split())) for one, other in pairs)
    return sorted({one: other for one, other in sorted(joined, reverse=True) if one and other}.items())


def _own(source: str, target: str | None) -> list[Pair]:
    path = Path(source).expanduser()
    if not path.is_file():
        names = [f"{DESCRIPTIONS}:it", VERSES]
        raise RunError(
            f"task.source: there is no file '{source}' and no source of that name{nearest(source, names)}; there are "
            f"{DESCRIPTIONS}:LANGUAGE and {VERSES}"
        )
    lines = read_text(path).splitlines()
    if target is not None:
        others = read_text(Path(target).expanduser()).splitlines()
        if len(lines) != len(others):
            raise RunError(
                f"task.target: {target} has {len(others):,} lines and {source} has {len(lines):,}; each line should be "
                "the translation of the same line"
            )
        return list(zip(lines, others, strict=True))
    pairs = [line.split("\t") for line in lines if line.strip()]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise RunError(
                f"{path} should have a sentence, a tab and its translation in each line, but line {number} has "
                f"{len(pair) - 1} tabs; two files can be given as task.source and task.target"
            )
    return [(one, other) for one, other in pairs]


# --- Debian's package descriptions ------------------------------------------------------------------------------------


def _descriptions(language: str, lists: Path) -> Iterator[Pair]:
    """English and another language, joined by the checksum of the English description."""
    how = f"apt-get -o Acquire::Languages={language or 'LANGUAGE'} update"
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Z]{2})?", language) or language == "en":
        raise RunError(f"task.source: {DESCRIPTIONS} wants a language other than en, as in {DESCRIPTIONS}:it")
    packages, translations = (
        sorted(file for pattern in patterns for file in lists.glob(pattern))
        for patterns in (
            ("*_Packages", "*_Packages.*"),
            (f"*_Translation-{language}", f"*_Translation-{language}.*"),
        )
    )
    if not packages or not translations:
        missing = "descriptions of packages" if not packages else f"translations into '{language}'"
        raise RunError(f"task.source: apt has no {missing} in {lists}; on Debian, fetch them with: {how}")
    english: dict[str, str] = {}
    for file in packages:
        english |= _first_lines(file, "Description")
    for file in translations:
        for checksum, translated in _first_lines(file, f"Description-{language}").items():
            if checksum in english:
                yield english[checksum], translated


def _first_lines(file: Path, field: str) -> dict[str, str]:
    """The first line of a field, for each checksum of a description."""
    found: dict[str, str] = {}
    entry: dict[str, str] = {}
    for line in [*_list(file).splitlines(), ""]:
        if not line:
            if field in entry and "Description-md5" in entry:
                found[entry["Description-md5"]] = entry[field]
            entry = {}
        elif not line.startswith((" ", "\t")):
            name, _, value = line.partition(": ")
            entry[name] = value
    return found


def _list(file: Path) -> str:
    if not file.suffix or "_" in file.suffix:
        return read_text(file)
    if not HELPER.exists():
        raise RunError(f"{file} is compressed, and there is no {HELPER} to read it with")
    done = subprocess.run([HELPER, "cat-file", file], capture_output=True, check=False)
    if done.returncode:
        raise RunError(f"{file} cannot be read: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode("utf-8", errors="replace")


# --- verses -----------------------------------------------------------------------------------------------------------


def _verses(folder: Path) -> Iterator[Pair]:
    """The World English Bible and the Reina-Valera of 1909, where both divide a chapter into as many verses."""
    try:
        from pysword.modules import SwordModules
    except ImportError as error:
        raise RunError("task.source: sword needs the package pysword: pip install 'triathlon[supervised]'") from error
    modules = SwordModules(str(folder))
    known = modules.parse_modules() if (folder / "mods.d").is_dir() else {}
    names = [next((name for name in known if name.startswith(start)), None) for start in ("engWEB", "spaRV")]
    if None in names:
        raise RunError(f"task.source: there are no verses in {folder}; apt-get install sword-text-web sword-text-sparv")
    english, spanish = bibles = [modules.get_bible_from_module(name) for name in names]
    for bible in bibles:  # which unpacks a whole book for each verse of it
        bible._decompressed_text = lru_cache(maxsize=1)(bible._decompressed_text)
    there = {book.name: book for part in spanish.get_structure().get_books().values() for book in part}
    for part in english.get_structure().get_books().values():
        for book in part:
            other = there.get(book.name)
            if other is None:
                continue
            for chapter, lengths in enumerate(zip(book.chapter_lengths, other.chapter_lengths, strict=False), start=1):
                if lengths[0] == lengths[1]:
                    place = {"books": [book.name], "chapters": [chapter], "clean": True}
                    yield from zip(english.get_iter(**place), spanish.get_iter(**place), strict=True)


__all__ = ["read_pairs"]
