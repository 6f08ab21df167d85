"""What a board does in a power mode: as calibrated there, else calculated from another mode, which is said.

The rules where a mode was not calibrated, from the calibrated mode that is nearest. Frequency: all times grow as it
falls, and the watts of work fall with it, so that a piece of work takes the energy that it took. Duty: the agent's own
rule (`node_agent/power_modes/duty.py`), turn by turn: after work in a session (trunk, expert, head) nobody gets another
turn for (ratio of the duties - 1) times as long; times and watts of work stay. Idle power stays. None of that is
measured, and the model says so.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import NamedTuple

import msgspec

from ground_controller.power_modes import Modes
from ground_controller.simulation.board_model import (
    DEFAULT_MODE,
    BoardModel,
    Calibration,
    Work,
    default_board,
)  # fmt: skip
from hil_config.errors import DataFileError
from hil_config.schema.profiles import BoardProfile


class Speeds(NamedTuple):
    """How fast a mode is against another: by its duty, and by its cores' frequency."""

    duty: float
    clock: float

    @property
    def apart(self) -> float:
        """How far it is from the other, 0: alike."""
        return abs(math.log(self.duty)) + abs(math.log(self.clock))


class ModeUse(msgspec.Struct, frozen=True):
    """A mode that nodes of a simulated run can be ordered into. `calibrated`: its times were fitted, else modelled."""

    profile: str
    mode: str
    calibrated: bool
    origin: str


def setting_of(profile: BoardProfile, mode: str) -> dict[str, float]:
    """The numbers of a profile's mode; the first one has a speed of 1, unless it says another. Empty: no such mode."""
    for index, one in enumerate(profile.modes):
        if one.name == mode:
            return {**({"speed": 1.0} if index == 0 else {}), **one.setting()}
    return {}


def speeds(known: dict[str, float], wanted: dict[str, float]) -> Speeds | None:
    """Of `wanted` against `known`; None where their numbers do not tell."""
    duty = wanted.get("duty", 1.0) / known.get("duty", 1.0)
    if "cpu_khz" in wanted and "cpu_khz" in known:
        return Speeds(duty, wanted["cpu_khz"] / known["cpu_khz"])
    if wanted.get("nvp_mode") == known.get("nvp_mode") and "cpu_khz" not in {*wanted, *known}:
        return Speeds(duty, 1.0)
    if "speed" in wanted and "speed" in known:
        return Speeds(1.0, wanted["speed"] / known["speed"])
    return None


def board_in(calibration: Calibration, profile: BoardProfile, mode: str) -> BoardModel:
    """The model of a profile's boards in one of its modes.

    Raises:
        DataFileError: it was not calibrated, and nothing tells how fast it is against one that was.
    """
    wanted = setting_of(profile, mode)
    own = [b for b in calibration.boards if b.profile == profile.name] or [default_board(profile)]
    found: list[tuple[bool, Speeds, BoardModel]] = []
    for board in own:
        # Without a mode's name the board was as it came, which is taken for its first mode.
        known = setting_of(profile, profile.modes[0].name) if board.mode == DEFAULT_MODE else board.setting
        if board.mode == mode and (not known or _same(known, wanted)):  # files of version 1 have no settings
            return board
        ratio = speeds(known, wanted)
        if ratio is not None:
            found.append((known.get("duty", 1.0) < 1.0, ratio, board))  # there, times hold waiting for turns
    if not found:
        raise DataFileError(
            f"board model of {profile.name}: mode {mode} was not calibrated, and nothing tells its speed",
            "calibrate it: hil calibrate --each-mode; or write a modelled `speed` for every mode of the profile",
        )
    _, ratio, board = min(found, key=lambda one: (one[0], one[1].apart))
    return _at(board, profile, mode, wanted, ratio)


def _same(known: dict[str, float], wanted: dict[str, float]) -> bool:
    """Set alike; a speed is no setting but a guess."""
    return {**known, "speed": 1.0} == {**wanted, "speed": 1.0}


def _at(board: BoardModel, profile: BoardProfile, mode: str, wanted: dict[str, float], ratio: Speeds) -> BoardModel:
    known = profile.modes[0].name if board.mode == DEFAULT_MODE else board.mode
    if not ratio.apart and board.mode == DEFAULT_MODE:
        origin = f"{board.origin}; no power mode was ordered then, which is taken for mode {mode}"
        return msgspec.structs.replace(board, mode=mode, setting=wanted, origin=origin)
    parts = [f"{name} ratio {value:.4g}" for name, value in (("duty", ratio.duty), ("frequency", ratio.clock))
             if value != 1.0]  # fmt: skip
    origin = f"extrapolated from mode {known} by {' and '.join(parts) or 'equal settings'}; {known}: {board.origin}"
    return msgspec.structs.replace(
        board,
        hop_us=board.hop_us / ratio.clock,
        load_us=board.load_us / ratio.clock,
        works=tuple(_slowed(work, ratio.clock) for work in board.works),
        power_residual_w=None,
        mode=mode,
        setting=wanted,
        origin=origin,
        calibrated=False,
        rest=max(0.0, 1.0 / ratio.duty - 1.0),
    )


def _slowed(work: Work, by: float) -> Work:
    """At so many times the frequency."""
    return msgspec.structs.replace(
        work, base_us=work.base_us / by, row_us=work.row_us / by, watts=work.watts * by, residual=None, samples=0
    )


def models_of(calibration: Calibration, profile: BoardProfile) -> dict[str, BoardModel]:
    """Of every mode that the profile offers, by name."""
    return {mode.name: board_in(calibration, profile, mode.name) for mode in profile.modes}


def mode_uses(
    calibration: Calibration, profiles: Sequence[BoardProfile], modes: Modes | None, real: Container[int] = ()
) -> tuple[ModeUse, ...]:
    """The modes that model nodes can be ordered into in a run, each once; none where none is ordered.

    Args:
        profiles: of all boards. real: indices of those that are no models.
    """
    found: dict[tuple[str, str], ModeUse] = {}
    if modes is None:
        return ()
    for index, (profile, first) in enumerate(zip(profiles, modes.first, strict=True)):
        for mode in profile.modes if modes.eases else profile.modes[first : first + 1]:
            if index not in real and (profile.name, mode.name) not in found:
                model = board_in(calibration, profile, mode.name)
                found[profile.name, mode.name] = ModeUse(profile.name, mode.name, model.calibrated, model.origin)
    return tuple(found.values())
