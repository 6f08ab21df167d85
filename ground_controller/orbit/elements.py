"""Two-line element sets: read, checked column by column, found by name.

Columns are those of the NORAD format (celestrak.org/columns/v04n03): 1-based, both ends included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from pathlib import Path

from ground_controller.formats.text import read_text
from hil_config.errors import DataFileError

DEMO_ELEMENTS = Path(__file__).parent / "data" / "starlink_demo.tle"
"""A small real set that ships with the package; its source is in the README beside it."""

LINE_LENGTH = 69
_EPHEMERIS_TYPE = 63
"""Column of line 1. Type 4 means other elements in the same columns (ballistic coefficients for drag)."""
_CUT = "the file was cut or edited; fetch the element set again"
_PAIR = "each satellite needs its line 1 followed by its line 2; fetch the element set again"

_INTEGER = re.compile(r" *\d+ *")
_CATALOGUE = re.compile(r" *\d+|[A-HJ-NP-Z]\d{4}")
_DECIMAL = re.compile(r" *[+-]?\d*\.\d+ *")
_DIGITS = re.compile(r"[ \d]*\d")
_EXPONENT = re.compile(r"[ +-][ \d]\d{4}[+-]\d")
_ANY_INTEGER = re.compile(r" *\d* *")

# (what, first column, last column, form)
_Field = tuple[str, int, int, "re.Pattern[str]"]
_LINE_1: tuple[_Field, ...] = (
    ("catalogue number", 3, 7, _CATALOGUE),
    ("epoch year", 19, 20, _INTEGER),
    ("epoch day", 21, 32, _DECIMAL),
    ("first derivative of the mean motion", 34, 43, _DECIMAL),
    ("second derivative of the mean motion", 45, 52, _EXPONENT),
    ("drag term", 54, 61, _EXPONENT),
    ("element set number", 65, 68, _ANY_INTEGER),
    ("checksum", 69, 69, _INTEGER),
)
_LINE_2: tuple[_Field, ...] = (
    ("catalogue number", 3, 7, _CATALOGUE),
    ("inclination", 9, 16, _DECIMAL),
    ("right ascension of the ascending node", 18, 25, _DECIMAL),
    ("eccentricity", 27, 33, _DIGITS),
    ("argument of perigee", 35, 42, _DECIMAL),
    ("mean anomaly", 44, 51, _DECIMAL),
    ("mean motion", 53, 63, _DECIMAL),
    ("revolution number", 64, 68, _ANY_INTEGER),
    ("checksum", 69, 69, _INTEGER),
)


@dataclass(frozen=True)
class Elements:
    """One satellite's element set: its name and both lines, each of 69 characters, already checked.

    `line`: where its line 1 stands in its file, 0 if it was in none. `warning`: what its file said and the two
    lines do not.
    """

    name: str
    line1: str
    line2: str
    line: int = field(default=0, compare=False)
    warning: str = field(default="", compare=False)

    @property
    def epoch(self) -> datetime:
        """The instant (UTC) the elements describe. Years 57 to 99 are of the 20th century."""
        year = int(self.line1[18:20])
        start = datetime(1900 + year if year >= 57 else 2000 + year, 1, 1, tzinfo=timezone.utc)
        return start + timedelta(days=float(self.line1[20:32]) - 1.0)


def checksum(line: str) -> int:
    """Sum of the digits of the first 68 characters, a minus sign counting 1, modulo 10."""
    return sum(int(c) if c.isdigit() else c == "-" for c in line[: LINE_LENGTH - 1]) % 10


def _check_line(line: str, which: str, where: str) -> None:
    if len(line) != LINE_LENGTH or not line.isascii():
        raise DataFileError(
            f"{where}: columns 1-{LINE_LENGTH}: element line {which} has {len(line)} characters,"
            f" wanted {LINE_LENGTH} of ASCII; found {line!r}",
            _CUT,
        )
    for what, first, last, form in _LINE_1 if which == "1" else _LINE_2:
        found = line[first - 1 : last]
        if form.fullmatch(found) is None:
            raise DataFileError(f"{where}: columns {first}-{last}: the {what} is not a number; found {found!r}", _CUT)
    if which == "1" and line[_EPHEMERIS_TYPE - 1] == "4":
        raise DataFileError(
            f"{where}: columns {_EPHEMERIS_TYPE}-{_EPHEMERIS_TYPE}: ephemeris type 4: these are elements of SGP4-XP,"
            " which SGP4 takes to other places",
            "fetch the set of type 0 (GP), or leave this satellite out",
        )
    wanted = checksum(line)
    if int(line[-1]) != wanted:
        raise DataFileError(
            f"{where}: columns 69-69: the checksum is {line[-1]!r}, the line's digits give {wanted}; found {line!r}",
            "a character of this line was changed; fetch the element set again",
        )


def parse_elements(text: str, source: str) -> tuple[Elements, ...]:
    """Every set in `text`, in its order. Two lines a set, or three with a name (`0 NAME` or `NAME`) first.

    A set without a name line is named by its catalogue number. `source` names the text in errors.
    """
    found: list[Elements] = []
    name = ""
    first: tuple[int, str] | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.rstrip()
        where = f"{source}:{number}"
        if first is None:
            if line.startswith("1 "):
                _check_line(line, "1", where)
                first = (number, line)
            elif line.startswith("2 ") and not name:
                raise DataFileError(f"{where}: columns 1-1: line 2 has no line 1 before it; found {line!r}", _PAIR)
            elif line and name:
                raise DataFileError(
                    f"{where}: columns 1-1: line 1 of {name!r} is missing: wanted '1 ', found {line!r}", _PAIR
                )
            elif line:
                name = line.removeprefix("0 ").strip()
            continue
        if not line.startswith("2 "):
            raise DataFileError(
                f"{where}: columns 1-1: line 2 is missing after line 1 (line {first[0]}): wanted '2 ', found {line!r}",
                _PAIR,
            )
        found.append(_pair(name, first, line, where))
        name, first = "", None
    if first is not None or name:
        last = f"line 1 (line {first[0]})" if first else f"the name {name!r}"
        raise DataFileError(f"{source}: columns 1-1: the file ends after {last}; line 2 is missing, found ''", _PAIR)
    return tuple(found)


def _pair(name: str, first: tuple[int, str], line2: str, where: str) -> Elements:
    number, line1 = first
    _check_line(line2, "2", where)
    if line1[2:7] != line2[2:7]:
        raise DataFileError(
            f"{where}: columns 3-7: line 2 is of catalogue number {line2[2:7]!r}, its line 1 of {line1[2:7]!r}",
            _PAIR,
        )
    return Elements(name or line1[2:7].strip(), line1, line2, number)


def read_elements(path: Path, names: Sequence[str] | None = None) -> tuple[Elements, ...]:
    """The sets of a file: all of them in its order, or those called `names`, in the order of `names`.

    Raises DataFileError for an unreadable or malformed file and for a name that is unknown or not unique.
    """
    hint = "give the path of a two-line element file (two or three lines a satellite)"
    found = parse_elements(read_text(path, hint), str(path))
    if not found:
        raise DataFileError(f"{path}: holds no element set", hint)
    return found if names is None else chosen(found, names, path)


def chosen(found: Sequence[Elements], names: Sequence[str], path: Path) -> tuple[Elements, ...]:
    """Those of a file's sets that are called `names`, in that order; DataFileError where a name is unknown or not
    unique."""
    return tuple(_named(found, name, path) for name in names)


def _named(found: Sequence[Elements], name: str, path: Path) -> Elements:
    matches = [elements for elements in found if elements.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        lines = ", ".join(str(elements.line) for elements in matches)
        raise DataFileError(
            f"{path}: {len(matches)} satellites are called {name!r} (lines {lines})",
            "keep one of them under that name",
        )
    close = get_close_matches(name, [elements.name for elements in found], n=5, cutoff=0.5)
    raise DataFileError(
        f"{path}: no satellite is called {name!r} among {len(found)}",
        f"close names: {', '.join(close)}" if close else f"the first name in the file is {found[0].name!r}",
    )
