"""The record of one characterisation: dated, never overwritten, beside the bench file."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from firmware_tools.characterise.ambient import Ambient
from firmware_tools.state import write_whole
from hil_config.errors import EnvironmentFault
from hil_config.wire.provenance import Provenance

FORMAT, VERSION = "hil-characterisation", 1
FOLDER = "characterisations"


class Power(msgspec.Struct, frozen=True):
    """Watts of the whole board over a window of `for_s` seconds."""

    mean_w: float
    lowest_w: float
    highest_w: float
    readings: int
    for_s: float


class Die(msgspec.Struct, frozen=True):
    """The hottest thermal zone of the processor, in degrees Celsius: at the end of the idle window, and of the load."""

    zone: str
    idle_c: float
    load_c: float
    rise_k: float
    provenance: Provenance


class Characterisation(msgspec.Struct, frozen=True):
    """One board on one day. `channel` is the instrument of both powers; `die` is None for the reason in `no_die`."""

    board: str
    profile: str
    kind: str
    began_utc: str
    ended_utc: str
    ambient: Ambient
    channel: str
    power: Provenance
    idle: Power
    load: Power
    load_by: str
    die: Die | None
    no_die: str
    kernel: str
    release: str
    format: str = FORMAT
    version: int = VERSION


def keep(record: Characterisation, bench_file: Path) -> Path:
    """Write it under a name of its own; returns the path."""
    folder = bench_file.absolute().parent / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be made: {error.strerror}", "check its owner and mode") from error
    stamp = re.sub(r"[-:]", "", record.began_utc)
    path = folder / f"{record.board}-{stamp}.json"
    if path.exists():
        raise EnvironmentFault(f"{path} is there already: a record is never overwritten", "run it again")
    write_whole(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n", 0o644)
    return path
