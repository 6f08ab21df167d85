"""Segments of an orbit ephemeris message in XML (CCSDS 502.0-B, 505.0-B): an `oem`, alone or in an `ndm`."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ground_controller.formats.text import refuse
from ground_controller.formats.xml_text import Leaf, parse_leaves

_HINT = "see CCSDS 505.0-B, the OEM schema"
_UNITS = {"X": "km", "Y": "km", "Z": "km", "X_DOT": "km/s", "Y_DOT": "km/s", "Z_DOT": "km/s"}
_UNUSED = frozenset({"COMMENT", "X_DDOT", "Y_DDOT", "Z_DDOT"})


class OemPart(NamedTuple):
    """A segment as it is written: metadata by key with their lines, and (line, [instant, x, y, z, vx, vy, vz])."""

    meta: dict[str, tuple[str, int]]
    rows: list[tuple[int, list[str]]]


def oem_xml_parts(text: str, source: str, known: Collection[str]) -> list[OemPart]:
    """Segments in the order of the file; `known`: the keys that metadata may have. DataFileError with the line."""
    leaves = parse_leaves(text, source, _HINT)
    if not any("oem" in leaf.path for leaf in leaves):
        root = leaves[0].path[0] if leaves and leaves[0].path else ""
        refuse(source, 1, f"no OEM: wanted an element oem; the outermost is {root[:40]!r}", _HINT)
    found: list[OemPart] = []
    vector: dict[str, Leaf] = {}
    for leaf in leaves:
        if "oem" not in leaf.path or leaf.name == "COMMENT":
            continue
        inside = leaf.path[-1]
        if inside == "metadata":
            _close(vector, found, source)
            if not found or found[-1].rows:
                found.append(OemPart({}, []))
            if leaf.name not in known or leaf.name in found[-1].meta or not leaf.text:
                refuse(source, leaf.line, f"wanted each key of the metadata once, with a value;"
                       f" found {leaf.name[:40]!r}",
                       _HINT)  # fmt: skip
            found[-1].meta[leaf.name] = (leaf.text, leaf.line)
        elif inside == "stateVector" and leaf.name not in _UNUSED:
            if leaf.name == "EPOCH":
                _close(vector, found, source)
            if not found or leaf.name in vector or leaf.name not in {"EPOCH", *_UNITS}:
                refuse(source, leaf.line, f"{leaf.name[:40]!r} cannot stand here", _HINT)
            if leaf.units.lower() not in {"", _UNITS.get(leaf.name, "")}:
                refuse(source, leaf.line, f"{leaf.name} is in {leaf.units[:20]!r}, wanted {_UNITS.get(leaf.name)}",
                       "convert the file")  # fmt: skip
            vector[leaf.name] = leaf
    _close(vector, found, source)
    return found


def _close(vector: dict[str, Leaf], found: list[OemPart], source: str) -> None:
    """Put a finished state into the last segment."""
    if not vector:
        return
    line = next(iter(vector.values())).line
    for key in ("EPOCH", *_UNITS):
        if key not in vector:
            refuse(source, line, f"this stateVector has no {key}", _HINT)
    found[-1].rows.append((line, [vector[key].text for key in ("EPOCH", *_UNITS)]))
    vector.clear()
