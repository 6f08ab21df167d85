"""Orbit mean-elements messages (CCSDS 502.0-B), as CSV, JSON or XML, read into the element sets that TLEs give.

A two-line set holds the epoch to 1e-8 days (0.43 ms, 3.3 m along a low orbit), angles to 0.0001 degrees and the mean
motion to 1e-8 revolutions a day. Public OMMs are made from such sets and come through exactly; of finer ones the last
digits are lost, and from `TOLD_FROM_M` on the set says so in its `warning`. Catalogue numbers above 339999 do not fit
and are kept in the name alone.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from ground_controller.formats.instants import ccsds_instant
from ground_controller.formats.text import Located, number, parse_json, read_text, refuse
from ground_controller.formats.xml_text import parse_leaves
from ground_controller.orbit.elements import LINE_LENGTH, Elements, checksum, parse_elements
from hil_config.errors import DataFileError

_HINT = "see CCSDS 502.0-B; CelesTrak serves such files with FORMAT=csv, json or xml"
_WANTED = {"CENTER_NAME": ("EARTH",), "REF_FRAME": ("TEME",), "TIME_SYSTEM": ("UTC",),
           "MEAN_ELEMENT_THEORY": ("SGP4", "SGP/SGP4", "SGP")}  # fmt: skip
_REPEATED = frozenset({"COMMENT", "USER_DEFINED"})
"""What may stand more than once in a message; nothing here needs it."""

_UNITS = {"MEAN_MOTION": "rev/day", "INCLINATION": "deg", "RA_OF_ASC_NODE": "deg", "ARG_OF_PERICENTER": "deg",
          "MEAN_ANOMALY": "deg", "MEAN_MOTION_DOT": "rev/day**2", "MEAN_MOTION_DDOT": "rev/day**3",
          "BSTAR": "1/ER"}  # fmt: skip
TOLD_FROM_M = 10.0
"""Rounding that can move a satellite by less within a day is not worth a line: SGP4 itself errs by a kilometre."""

_EARTH_MU_KM3_S2 = 398_600.8
_ALPHA5 = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_INTERNATIONAL = re.compile(r"(\d{2})?(\d{2})-?(\d{3})([A-Z]{0,3})")


class Field(NamedTuple):
    """One value as it is written, with its units where the file says them."""

    text: str
    line: int
    units: str = ""


class OmmSets(NamedTuple):
    """Element sets in the order of the file, and the warnings of those that lost something on the way."""

    elements: tuple[Elements, ...]
    warnings: tuple[str, ...]


def read_omm(path: Path) -> OmmSets:
    """The sets of a .csv, .json or .xml file. Raises DataFileError with file and line."""
    parsers: dict[str, Callable[[str, str], OmmSets]] = {
        ".csv": parse_omm_csv, ".json": parse_omm_json, ".xml": parse_omm_xml,
    }  # fmt: skip
    if path.suffix.lower() not in parsers:
        raise DataFileError(f"{path}: an OMM file ends in .csv, .json or .xml", "rename it after what it is")
    return parsers[path.suffix.lower()](read_text(path, _HINT), str(path))


def parse_omm_csv(text: str, source: str) -> OmmSets:
    """Sets of a CSV text: field names in the first line, one satellite in each line after it."""
    rows: list[tuple[int, list[str]]] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if raw.strip():
            try:
                rows += [(line, row) for row in csv.reader([raw], strict=True)]
            except csv.Error as error:
                refuse(source, line, f"not CSV: {error}", _HINT)
    if not rows:
        refuse(source, 0, "the file is empty", _HINT)
    names = [cell.strip() for cell in rows[0][1]]
    found = []
    for line, cells in rows[1:]:
        if len(cells) != len(names):
            refuse(source, line, f"{len(cells)} values under {len(names)} names", _HINT)
        found.append((line, {n: Field(c.strip(), line) for n, c in zip(names, cells, strict=True)}))
    return _sets(found, source)


def parse_omm_json(text: str, source: str) -> OmmSets:
    """Sets of a JSON text: a list of objects, or one object."""
    top = parse_json(text, source, _HINT)
    items = top if isinstance(top, list) else [top]
    found = []
    for item in items:
        if not isinstance(item, Located):
            refuse(source, 1, f"wanted objects; found {str(item)[:40]!r}", _HINT)
        found.append((item.line, {
            key: Field(value if isinstance(value, str) else repr(value), item.line)
            for key, value in item.items() if isinstance(value, (str, int, float)) and not isinstance(value, bool)
        }))  # fmt: skip
    return _sets(found, source)


def parse_omm_xml(text: str, source: str) -> OmmSets:
    """Sets of an XML text: one `omm`, or several in an `ndm`."""
    found: list[tuple[int, dict[str, Field]]] = []
    for leaf in parse_leaves(text, source, _HINT):
        if "oem" in leaf.path:
            refuse(source, leaf.line, "this is an OEM (states), not an OMM (elements)", "let its name end in .oem.xml")
        if "body" not in leaf.path or leaf.name in _REPEATED:
            continue
        if not found or leaf.name in found[-1][1]:
            found.append((leaf.line, {}))
        found[-1][1][leaf.name] = Field(leaf.text, leaf.line, leaf.units)
    return _sets(found, source)


def _sets(found: list[tuple[int, dict[str, Field]]], source: str) -> OmmSets:
    if not found:
        refuse(source, 0, "the file holds no element set", _HINT)
    elements = tuple(_set(fields, source, line) for line, fields in found)
    return OmmSets(elements, tuple(one.warning for one in elements if one.warning))


def _told(lost: dict[str, float], motion: float, where: str) -> str:
    """What rounding costs, or nothing. `lost`: errors by key in the unit of the key (EPOCH: s)."""
    rad_s = motion * 2.0 * math.pi / 86_400.0
    radius_m = (_EARTH_MU_KM3_S2 / rad_s**2) ** (1.0 / 3.0) * 1e3
    metres = {"EPOCH": rad_s * radius_m, "ECCENTRICITY": 2.0 * radius_m, "MEAN_MOTION": 2.0 * math.pi * radius_m}
    total = sum(error * metres.get(key, math.radians(radius_m)) for key, error in lost.items())
    if total < TOLD_FROM_M:
        return ""
    return (
        f"{where}: finer than two lines can hold: {', '.join(lost)}; rounding moves it by up to {total:.0f} m in a day"
    )


def _set(fields: dict[str, Field], source: str, line: int) -> Elements:
    for key, wanted in _WANTED.items():
        if key in fields and fields[key].text.upper() not in wanted:
            refuse(source, fields[key].line, f"{key} is {fields[key].text[:40]!r}, supported: {', '.join(wanted)}",
                   "convert the file, or give two-line elements")  # fmt: skip
    for key, units in _UNITS.items():
        if key in fields and fields[key].units.lower() not in {"", units.lower()}:
            refuse(source, fields[key].line, f"{key} is in {fields[key].units[:20]!r}, wanted {units}", _HINT)
    lost: dict[str, float] = {}
    year, day = _epoch(fields, source, line, lost)
    catalogue, name = _identity(fields, source, line)
    one = (
        f"1 {catalogue}{_text(fields, 'CLASSIFICATION_TYPE', 'U')[:1]} {_international(fields, source, line):<8} "
        f"{year:02d}{day:012.8f} {_rate(fields, source, line)} {_power(fields, 'MEAN_MOTION_DDOT', source, line)} "
        f"{_power(fields, 'BSTAR', source, line)} {_count(fields, 'EPHEMERIS_TYPE', source, line) % 10} "
        f"{_count(fields, 'ELEMENT_SET_NO', source, line) % 10_000:4d}"
    )
    eccentricity = _value(fields, "ECCENTRICITY", source, line)
    if not 0.0 <= eccentricity < 0.99999995:
        refuse(source, line, f"ECCENTRICITY is {eccentricity:g}, wanted 0 to below 1", _HINT)
    _note(lost, "ECCENTRICITY", eccentricity, 7)
    limits = {"INCLINATION": 180.0, "RA_OF_ASC_NODE": 360.0, "ARG_OF_PERICENTER": 360.0, "MEAN_ANOMALY": 360.0}
    angles = [_angle(fields, key, most, source, line, lost) for key, most in limits.items()]
    motion = _value(fields, "MEAN_MOTION", source, line)
    if not 0.0 < motion < 18.0:
        refuse(source, line, f"MEAN_MOTION is {motion:g} revolutions a day, wanted above 0 and below 18", _HINT)
    _note(lost, "MEAN_MOTION", motion, 8)
    two = (
        f"2 {catalogue} {angles[0]} {angles[1]} {round(eccentricity * 1e7):07d} {angles[2]} {angles[3]} {motion:11.8f}"
        f"{_count(fields, 'REV_AT_EPOCH', source, line) % 100_000:5d}"
    )
    lines = [text + str(checksum(text + "0")) for text in (one, two)]
    if any(len(text) != LINE_LENGTH for text in lines):
        refuse(source, line, "a value does not fit into an element set", _HINT)
    (found,) = parse_elements("\n".join(lines), f"{source}:{line}: as two lines")
    return Elements(name, found.line1, found.line2, line, _told(lost, motion, f"{source}:{line}: {name}"))


def _text(fields: dict[str, Field], key: str, default: str) -> str:
    return fields[key].text if key in fields and fields[key].text else default


def _value(fields: dict[str, Field], key: str, source: str, line: int, default: float | None = None) -> float:
    if key not in fields or not fields[key].text:
        if default is not None:
            return default
        refuse(source, line, f"{key} is missing", _HINT)
    return number(fields[key].text, key, source, fields[key].line, _HINT)


def _count(fields: dict[str, Field], key: str, source: str, line: int) -> int:
    value = _value(fields, key, source, line, 0.0)
    if value < 0.0 or value != int(value):
        refuse(source, line, f"{key} is {value:g}, wanted a whole number from 0", _HINT)
    return int(value)


def _note(lost: dict[str, float], key: str, value: float, decimals: int) -> None:
    error = abs(value - round(value, decimals))
    if error > 1e-12:
        lost[key] = error


def _angle(fields: dict[str, Field], key: str, most: float, source: str, line: int, lost: dict[str, float]) -> str:
    value = _value(fields, key, source, line)
    if not 0.0 <= value <= most:
        refuse(source, line, f"{key} is {value:g} degrees, wanted 0 to {most:g}", _HINT)
    _note(lost, key, value, 4)
    return f"{value:8.4f}"


def _epoch(fields: dict[str, Field], source: str, line: int, lost: dict[str, float]) -> tuple[int, float]:
    """Two digits of the year, and the day of the year from 1, to 1e-8 days."""
    text = _text(fields, "EPOCH", "")
    instant = ccsds_instant(text)
    if instant is None or not 1957 <= instant.year < 2057:
        refuse(source, line, f"EPOCH is {text[:40]!r}, wanted an instant from 1957 to 2056", _HINT)
    start = datetime(instant.year, 1, 1, tzinfo=timezone.utc)
    day = round((instant - start) / timedelta(days=1), 8)
    error = abs(start + timedelta(days=day) - instant)
    if error > timedelta(microseconds=1):
        lost["EPOCH"] = error.total_seconds()
    return instant.year % 100, day + 1.0


def _identity(fields: dict[str, Field], source: str, line: int) -> tuple[str, str]:
    """(catalogue number in five characters, name)."""
    value = _count(fields, "NORAD_CAT_ID", source, line)
    name = _text(fields, "OBJECT_NAME", str(value))
    if value < 100_000:
        return f"{value:05d}", name
    if value < 340_000:
        return f"{_ALPHA5[value // 10_000 - 10]}{value % 10_000:04d}", name
    return "00000", name


def _international(fields: dict[str, Field], source: str, line: int) -> str:
    text = _text(fields, "OBJECT_ID", "")
    match = _INTERNATIONAL.fullmatch(text.upper())
    if text and text.upper() not in {"UNKNOWN", "TBA"} and match is None:
        refuse(source, line, f"OBJECT_ID is {text[:20]!r}, wanted a designator like 1998-067A", _HINT)
    return f"{match[2]}{match[3]}{match[4]}" if match else ""


def _rate(fields: dict[str, Field], source: str, line: int) -> str:
    """First derivative: sign and eight decimals without the zero before the point."""
    value = _value(fields, "MEAN_MOTION_DOT", source, line, 0.0)
    if not abs(value) < 0.999999995:
        refuse(source, line, f"MEAN_MOTION_DOT is {value:g}, wanted within 1", _HINT)
    return f"{'-' if value < 0 else ' '}{abs(value):.8f}".replace("0.", ".", 1)


def _power(fields: dict[str, Field], key: str, source: str, line: int) -> str:
    """Five digits after an unwritten point and a power of ten: ` 12345-3`. Below 1e-10 digits are lost, which no orbit
    notices."""
    value = _value(fields, key, source, line, 0.0)
    if value == 0.0:
        return " 00000-0" if key == "MEAN_MOTION_DDOT" else " 00000+0"
    mantissa, _, power = f"{abs(value):.4e}".partition("e")
    digits, exponent = mantissa.replace(".", ""), int(power) + 1
    if exponent < -9:
        digits, exponent = f"{round(abs(value) * 1e14):05d}", -9
    if not -9 <= exponent <= 9:
        refuse(source, line, f"{key} is {value:g}, which an element set cannot hold", _HINT)
    sign = "-" if value < 0 else " "
    return f"{sign}{digits}{'-' if exponent <= 0 else '+'}{abs(exponent)}"
