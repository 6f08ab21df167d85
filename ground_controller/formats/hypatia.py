"""Hypatia's network state: a folder of tles.txt, isls.txt, ground_stations.txt and forwarding states.

Format: satgenpy of Hypatia. Satellites are numbered from 0 in the order of tles.txt, ground stations go on from there.
`fstate_<ns>.txt` holds `current,destination,next hop,own interface,next interface`, all rows at the first instant and
then those that change; -1 as next hop means that there is none. Times are nanoseconds after the epoch of the TLEs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ground_controller.formats.text import number, read_text, refuse
from ground_controller.orbit.elements import Elements, parse_elements
from hil_config.errors import DataFileError

_HINT = "see satgenpy of Hypatia"
_FSTATE = re.compile(r"fstate_(\d{1,18})\.txt")
_WHOLE = re.compile(r"-?\d{1,18}")


class Station(NamedTuple):
    """A ground station: degrees, metres above the ellipsoid, and Earth-fixed metres on WGS-72."""

    name: str
    latitude_deg: float
    longitude_deg: float
    height_m: float
    x_m: float
    y_m: float
    z_m: float


class Forward(NamedTuple):
    """From `node`, what goes to `goal` goes to `next_hop` (-1: dropped) over these interfaces."""

    node: int
    goal: int
    next_hop: int
    interface: int
    next_interface: int


class Step(NamedTuple):
    """What changes in the forwarding at one instant."""

    time_ns: int
    changes: tuple[Forward, ...]


@dataclass(frozen=True)
class HypatiaState:
    """A whole state. `folder` is the name of the folder of forwarding states, empty if they lie beside the rest."""

    planes: int
    per_plane: int
    elements: tuple[Elements, ...]
    isls: tuple[tuple[int, int], ...]
    stations: tuple[Station, ...] = ()
    steps: tuple[Step, ...] = ()
    folder: str = ""

    def next_hops(self, time_ns: int) -> dict[tuple[int, int], int]:
        """(node, goal) -> next hop as it stands at an instant."""
        found: dict[tuple[int, int], int] = {}
        for step in self.steps:
            if step.time_ns <= time_ns:
                found.update({(one.node, one.goal): one.next_hop for one in step.changes})
        return found


def read_hypatia(folder: Path) -> HypatiaState:
    """The state in a folder. Raises DataFileError with file and line."""
    planes, per_plane, elements = parse_tles(read_text(folder / "tles.txt", _HINT), str(folder / "tles.txt"))
    isls = parse_isls(read_text(folder / "isls.txt", _HINT), str(folder / "isls.txt"), len(elements))
    stations: tuple[Station, ...] = ()
    if (folder / "ground_stations.txt").exists():
        path = folder / "ground_stations.txt"
        stations = parse_stations(read_text(path, _HINT), str(path))
    files = sorted((int(match[1]), path) for path in [*folder.iterdir(), *folder.glob("dynamic_state*/*")]
                   if (match := _FSTATE.fullmatch(path.name)))  # fmt: skip
    homes = {path.parent for _, path in files}
    if len(homes) > 1:
        raise DataFileError(f"{folder}: forwarding states lie in {len(homes)} folders", "keep one of them")
    nodes = len(elements) + len(stations)
    steps = tuple(Step(t, parse_forwarding(read_text(path, _HINT), str(path), nodes)) for t, path in files)
    inside = next(iter(homes)).name if homes and homes != {folder} else ""
    return HypatiaState(planes, per_plane, elements, isls, stations, steps, inside)


def parse_tles(text: str, source: str) -> tuple[int, int, tuple[Elements, ...]]:
    """(planes, satellites in a plane, element sets) of a tles.txt. All sets must have one epoch."""
    head, _, rest = text.partition("\n")
    words = head.split()
    if len(words) != 2 or not all(_WHOLE.fullmatch(word) for word in words):
        refuse(source, 1, f"wanted planes and satellites in a plane; found {head[:40]!r}", _HINT)
    planes, per_plane = int(words[0]), int(words[1])
    elements = parse_elements("\n" + rest, source)
    if planes * per_plane != len(elements) or not elements:
        refuse(source, 1, f"{planes} x {per_plane} satellites are announced, {len(elements)} follow", _HINT)
    for index, one in enumerate(elements):
        if one.name.split()[-1] != str(index):
            refuse(source, 2 + 3 * index, f"satellite {index} is called {one.name[:40]!r}", _HINT)
        if one.epoch != elements[0].epoch:
            refuse(source, 3 + 3 * index, "its epoch differs from the first satellite's", _HINT)
    return planes, per_plane, elements


def parse_isls(text: str, source: str, satellites: int) -> tuple[tuple[int, int], ...]:
    """Two-way links of an isls.txt, as it writes them."""
    found: dict[tuple[int, int], int] = {}
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        a, b = _wholes(raw.split(), 2, source, line)
        if not (0 <= a < satellites and 0 <= b < satellites and a != b):
            refuse(source, line, f"a link joins two of satellites 0 to {satellites - 1}; found {raw[:40]!r}", _HINT)
        if (a, b) in found or (b, a) in found:
            refuse(source, line, f"the link {a} - {b} stands there already", "list each link once")
        found[a, b] = line
    return tuple(found)


def parse_stations(text: str, source: str) -> tuple[Station, ...]:
    """Stations of an (extended) ground_stations.txt."""
    found: list[Station] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        cells = raw.split(",")
        if len(cells) != 8 or cells[0] != str(len(found)) or not cells[1]:
            refuse(source, line, f"wanted {len(found)}, a name and six numbers; found {raw[:60]!r}", _HINT)
        found.append(Station(cells[1], *(number(cell, "a coordinate", source, line, _HINT) for cell in cells[2:])))
    return tuple(found)


def parse_forwarding(text: str, source: str, nodes: int) -> tuple[Forward, ...]:
    """Rows of an fstate file."""
    found: list[Forward] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if raw.strip():
            row = Forward(*_wholes(raw.split(","), 5, source, line))
            if not (0 <= row.node < nodes and 0 <= row.goal < nodes and -1 <= row.next_hop < nodes):
                refuse(source, line, f"nodes are 0 to {nodes - 1}; found {raw[:60]!r}", _HINT)
            found.append(row)
    return tuple(found)


def _wholes(words: list[str], count: int, source: str, line: int) -> list[int]:
    if len(words) != count or not all(_WHOLE.fullmatch(word) for word in words):
        refuse(source, line, f"wanted {count} whole numbers; found {' '.join(words)[:60]!r}", _HINT)
    return [int(word) for word in words]


def write_hypatia(state: HypatiaState) -> dict[str, str]:
    """File name (with folder) -> text; reading them back gives the same state."""
    files = {
        "tles.txt": f"{state.planes} {state.per_plane}\n"
        + "".join(f"{one.name}\n{one.line1}\n{one.line2}\n" for one in state.elements),
        "isls.txt": "".join(f"{a} {b}\n" for a, b in state.isls),
    }
    if state.stations:
        files["ground_stations.txt"] = "".join(
            f"{gid},{one.name},{','.join(f'{value:f}' for value in one[1:])}\n"
            for gid, one in enumerate(state.stations)
        )
    for step in state.steps:
        name = f"{state.folder}/fstate_{step.time_ns}.txt" if state.folder else f"fstate_{step.time_ns}.txt"
        files[name] = "".join(",".join(str(value) for value in one) + "\n" for one in step.changes)
    return files
