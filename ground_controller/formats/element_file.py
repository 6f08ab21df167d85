"""Element sets from whatever file holds them: two-line elements, or an OMM by the end of its name.

A `tles.txt` of Hypatia is one of two-line elements whose first line says planes and satellites in a plane.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ground_controller.formats.hypatia import parse_tles
from ground_controller.formats.omm import read_omm
from ground_controller.formats.text import read_text
from ground_controller.orbit.elements import Elements, chosen, read_elements

OMM_ENDINGS = frozenset({".csv", ".json", ".xml"})
OEM_ENDINGS = (".oem", ".oem.xml")
_STATE_HEAD = re.compile(r"\d+ \d+")


def is_ephemeris(path: str) -> bool:
    """Whether a file holds states (an OEM) by the end of its name."""
    return path.lower().endswith(OEM_ENDINGS)


def read_element_file(path: Path, names: Sequence[str] | None = None) -> tuple[Elements, ...]:
    """The sets of a file: all in its order, or those called `names`, in the order of `names`.

    Raises:
        DataFileError: unreadable or malformed, or a name that is unknown or not unique.
    """
    if path.suffix.lower() in OMM_ENDINGS:
        found = read_omm(path).elements
    elif path.name == "tles.txt" and _STATE_HEAD.match(text := read_text(path, "see satgenpy of Hypatia")):
        _, _, found = parse_tles(text, str(path))
    else:
        return read_elements(path, names)
    return found if names is None else chosen(found, names, path)
