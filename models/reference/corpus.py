"""The reference model's training text: five domains with simple licences, split by document.

Four domains come from unpacked Debian packages (see README.md), one from a generator of our own. A document
(chapter, gloss, file, page, pass) is wholly in the training or wholly in the held-out part, by its hash.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from hil_config.errors import DataFileError
from models.reference.telemetry_text import passes

DOMAINS = ("scripture", "glossary", "source", "manual", "telemetry")
TRAIN_BYTES = 4_000_000
HELDOUT_BYTES = 150_000
HELDOUT_ONE_IN = 16
TELEMETRY_SEED = 20261124

_HINT = "unpack the Debian packages named in models/reference/README.md into that folder"
_KINDS = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


def is_heldout(document: str) -> bool:
    """True for about one document in HELDOUT_ONE_IN, decided by the SHA-256 of its text alone."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") % HELDOUT_ONE_IN == 0


def scripture(folder: Path) -> Iterator[str]:
    """King James Version, one chapter a document, read through the package's own `bible` program."""
    root = folder.resolve()  # the program runs in its data's folder
    program, data = root / "usr/bin/bible", root / "usr/lib"
    try:
        text = subprocess.run(
            [str(program), "-p", str(data), "-f", "Gen1:1-Rev22:21"],
            check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=data,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataFileError(f"{program}: cannot print the text: {error}", _HINT) from error
    verses = (match.groups() for match in re.finditer(r"^(\w+?)(\d+):(\d+) (.*)$", text, re.MULTILINE))
    for (book, chapter), group in groupby(verses, key=lambda verse: (verse[0], verse[1])):
        yield f"{book} {chapter}\n" + "".join(f"{verse[2]} {verse[3]}\n" for verse in group)


def glossary(folder: Path) -> Iterator[str]:
    """WordNet glosses, one synset a document: `word, noun: gloss`."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in _text(folder / f"usr/share/wordnet/data.{part}").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            fields, gloss = line.split(" | ", 1)
            columns = fields.split()
            word = re.sub(r"\(\w+\)$", "", columns[4]).replace("_", " ")
            yield f"{word}, {_KINDS[columns[2]]}: {gloss.strip()}\n"


def source(folder: Path) -> Iterator[str]:
    """CPython standard library modules, one file a document; tables of data are left out."""
    root = folder / "usr/lib/python3.11"
    skipped = {"encodings", "pydoc_data", "lib2to3", "idlelib"}
    for path in sorted(root.rglob("*.py")):
        if not skipped.intersection(path.relative_to(root).parts):
            yield _text(path)


def manual(folder: Path) -> Iterator[str]:
    """CPython 3.11 documentation sources (reStructuredText), one page a document."""
    root = folder / "usr/share/doc/python3.11/html/_sources"
    for path in sorted(root.rglob("*.rst.txt")):
        if "whatsnew" not in path.parts and path.name != "changelog.rst.txt":
            yield _text(path)


def telemetry(_: Path) -> Iterator[str]:
    """Synthetic passes; as many as the reader takes."""
    return passes(TELEMETRY_SEED)


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    "scripture": scripture,
    "glossary": glossary,
    "source": source,
    "manual": manual,
    "telemetry": telemetry,
}


def load_domain(domain: str, folder: Path) -> tuple[list[str], list[str]]:
    """Training and held-out documents of a domain, in a fixed shuffled order, capped in bytes."""
    documents: Iterable[str] = READERS[domain](folder)
    train: list[str] = []
    heldout: list[str] = []
    if domain == "telemetry":
        documents = _take(documents, TRAIN_BYTES + 2 * HELDOUT_ONE_IN * HELDOUT_BYTES)
    for document in documents:
        (heldout if is_heldout(document) else train).append(document)
    if not train or not heldout:
        raise DataFileError(f"{folder}: no text found for the domain {domain!r}", _HINT)
    rng = random.Random(domain)
    rng.shuffle(train)
    rng.shuffle(heldout)
    return list(_take(train, TRAIN_BYTES)), list(_take(heldout, HELDOUT_BYTES))


def _take(documents: Iterable[str], limit: int) -> Iterator[str]:
    taken = 0
    for document in documents:
        if taken >= limit:
            return
        taken += len(document.encode())
        yield document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(f"{path}: cannot be read as UTF-8 text: {error}", _HINT) from error
