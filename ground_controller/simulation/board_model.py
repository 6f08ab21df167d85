"""How long a modelled board takes for a piece of work, what it draws meanwhile, and the file that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from hil_config.durable_file import write_result
from hil_config.errors import DataFileError
from hil_config.schema.profiles import BoardProfile
from hil_config.wire.manifest import Precision

WorkKind = Literal["trunk", "expert", "head", "gate", "frame"]
LOCAL = "local-process"

LOAD_US = 35_000.0
"""From the order to hold an expert at int8 and int4 to the word that both are open: the 10th percentile of 56 such
orders to four agents on a busy two-core virtual x86 machine; their median was 94 ms."""

VERSION = 2
"""2: a board model is of one power mode. Files of version 1 are read, whose works named it."""

DEFAULT_MODE = "default"
"""Of a run in which no power mode was ordered."""


class Work(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of work: occupies a processor for `base_us` + `row_us` x rows and draws `watts` above idle meanwhile.

    `gate` is choosing, preparing calls and adding up of one layer; `frame` is writing or reading one frame. `residual`
    is the root mean square of (median of equal rows / fitted - 1), None where nothing was fitted or all had as many
    rows, and `samples` how many measurements there were.
    """

    kind: WorkKind
    base_us: float
    row_us: float
    watts: float
    precision: Precision | Literal["any"] = "any"
    residual: float | None = None
    samples: int = 0

    def us(self, rows: int) -> float:
        return self.base_us + self.row_us * rows


class BoardModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of board in one power mode. `hop_us`: from a frame's handing over to its being looked at, beyond the
    schedule. `workers`: pieces of work at the same time. `spread`: standard deviation of the logarithm of every time
    (0: always the same). `power_residual_w`: root mean square between measured and fitted power of a second. `load_us`:
    from an order to open or close experts to the word that it is done. `setting`: the mode's numbers
    (`PowerMode.setting`) when it was calibrated. `origin` says where the figures are from; `calibrated` whether times
    were fitted in this mode. `rest`: for so many times as long as a piece of work in a session took, no other begins.
    """

    profile: str
    idle_w: float
    hop_us: float
    works: tuple[Work, ...]
    workers: int = 1
    spread: float = 0.0
    power_residual_w: float | None = None
    load_us: float = LOAD_US
    mode: str = DEFAULT_MODE
    setting: dict[str, float] = {}
    origin: str = ""
    calibrated: bool = True
    rest: float = 0.0

    def work(self, kind: WorkKind, precision: str = "any") -> Work:
        """The entry that fits best: the precision's own, else the one for any."""
        best = [w for w in self.works if w.kind == kind and w.precision in {precision, "any"}]
        best.sort(key=lambda w: w.precision == "any")
        if not best:
            raise DataFileError(
                f"board model of {self.profile}: no entry for {kind} at {precision}",
                "calibrate from a run whose boards did that: hil calibrate",
            )
        return best[0]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Board models by profile and power mode. `source` says what they were fitted to; `shared_cores`: local boards of
    one machine have so many cores together (0: each has its own)."""

    source: str
    boards: tuple[BoardModel, ...]
    shared_cores: int = 0
    version: int = VERSION

    def board(self, profile: BoardProfile) -> BoardModel:
        """The model of a profile where no power mode is ordered: fitted so, else in the profile's first mode, else the
        first one fitted, else a default; `mode_model.board_in` has those of modes."""
        own = {b.mode: b for b in reversed(self.boards) if b.profile == profile.name}
        usual = (DEFAULT_MODE, *(mode.name for mode in profile.modes), *own)
        return next((own[mode] for mode in usual if mode in own), None) or default_board(profile)


def default_board(profile: BoardProfile) -> BoardModel:
    """Times of `DEFAULTS`; another profile than a process of this machine takes `cpu_scale` times as long. Watts follow
    the profile's coefficients, times `UNSEEN`."""
    local = profile.name == LOCAL
    slow = 1.0 if local else profile.cpu_scale
    watts = profile.per_core_w * (profile.cpu_scale if local else 1.0) * UNSEEN
    works = tuple(Work(kind, base_us * slow, row_us * slow, watts) for kind, base_us, row_us in DEFAULTS)
    return BoardModel(
        profile.name, profile.idle_w, HOP_US * slow, works, profile.cores, origin=DEFAULT_SOURCE, calibrated=False
    )


DEFAULTS: tuple[tuple[WorkKind, float, float], ...] = (
    ("trunk", 181.0, 3.8), ("expert", 106.0, 6.9), ("head", 111.0, 0.0), ("gate", 519.0, 0.0), ("frame", 51.0, 0.7),
)  # fmt: skip
"""(kind, us, us a row) of the reference model at int8: `hil calibrate` on one run of the demo, four agents on a
two-core virtual x86 machine. They hold what waiting for those two cores cost."""

HOP_US = 154.0

UNSEEN = 1.9
"""Processor seconds of an agent for each second of work that the evidence names, in the same run: telemetry, clocks and
Python between wake-ups are in no evidence."""

DEFAULT_SOURCE = "defaults of the package, fitted to the demo on another machine, not to yours"
DEFAULT = Calibration(DEFAULT_SOURCE, ())


def decode_calibration(data: bytes | str) -> Calibration:
    """From its JSON, of this version or of version 1; ValueError where it is not one."""
    raw = msgspec.json.decode(data)
    if isinstance(raw, dict) and raw.get("version", 1) == 1:
        raw = _from_first(raw)
    if isinstance(raw, dict) and isinstance(raw.get("version"), int) and raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']}, this release reads 1 to {VERSION}")
    return msgspec.convert(raw, Calibration)


def _from_first(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 1 held all modes of a board in one list of works; what a mode's own lacked was the default's."""
    boards = []
    for board in raw.get("boards", []):
        works: list[dict[str, Any]] = board.get("works", [])
        usual = [w for w in works if w.get("mode", DEFAULT_MODE) == DEFAULT_MODE]
        for mode in dict.fromkeys(w.get("mode", DEFAULT_MODE) for w in works) or (DEFAULT_MODE,):
            own = usual if mode == DEFAULT_MODE else [w for w in works if w.get("mode") == mode]
            there = {(w["kind"], w.get("precision", "any")) for w in own}
            own = own + [w for w in usual if (w["kind"], w.get("precision", "any")) not in there]
            plain = [{key: value for key, value in w.items() if key != "mode"} for w in own]
            boards.append({**board, "works": plain, "mode": mode, "origin": str(raw.get("source", ""))})
    return {**raw, "boards": boards, "version": VERSION}


def read_calibration(path: Path) -> Calibration:
    """Of this version or an earlier one. DataFileError where the file is not one."""
    hint = "make one: hil calibrate RUN --out FILE"
    try:
        found = decode_calibration(path.read_bytes())
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataFileError(f"{path}: not a calibration: {error}", hint) from error
    seen: set[tuple[str, str]] = set()
    for board in found.boards:
        if (board.profile, board.mode) in seen:
            raise DataFileError(f"{path}: {board.profile} in mode {board.mode} comes twice", hint)
        seen.add((board.profile, board.mode))
        for w in board.works:
            if min(w.base_us, w.row_us, w.watts) < 0.0:
                raise DataFileError(f"{path}: {board.profile}: {w.kind}: a time or power below 0", hint)
        if board.workers < 1 or board.idle_w < 0.0 or board.hop_us < 0.0:
            raise DataFileError(f"{path}: {board.profile}: workers, idle_w or hop_us cannot be", hint)
    return found


def write_calibration(path: Path, calibration: Calibration) -> None:
    write_result(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1))
