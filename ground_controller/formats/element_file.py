"""Element sets from whatever file holds them: two-line elements, or an OMM by the end of its name.

A `tles.txt` of Hypatia is one of two-line elements whose first line says planes and satellites in a plane.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ground_controller.formats.hypatia import parse_tles
from ground_controller.formats.omm import read_omm
from ground_controller.formats.text import read_text
from ground_controller.orbit.elements import Elements, read_elements
from hil_config.errors import DataFileError

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
    return found if names is None else tuple(_named(found, name, path) for name in names)


def _named(found: Sequence[Elements], name: str, path: Path) -> Elements:
    matches = [one for one in found if one.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        lines = ", ".join(str(one.line) for one in matches)
        raise DataFileError(
            f"{path}: {len(matches)} satellites are called {name!r} (lines {lines})", "keep one of them"
        )
    close = get_close_matches(name, [one.name for one in found], n=5, cutoff=0.5)
    raise DataFileError(
        f"{path}: no satellite is called {name!r} among {len(found)}",
        f"close names: {', '.join(close)}" if close else f"the first name in the file is {found[0].name!r}",
    )
