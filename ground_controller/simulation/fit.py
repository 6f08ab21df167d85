"""Board models from the records of real runs: times from the gateways' evidence, watts from the power samples.

Times are fitted as base + a time a row, over medians of equal rows (a median does not mind a busy moment). Watts above
idle are one figure for a kind of board in a power mode: its mean power above idle over its mean share of time that the
fitted work takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.run_folder import open_run
from ground_controller.simulation.board_model import (
    DEFAULT,
    DEFAULT_MODE,
    BoardModel,
    Calibration,
    Work,
    WorkKind,
    default_board,
)  # fmt: skip
from ground_controller.simulation.mode_model import board_in, setting_of
from ground_controller.simulation.work_seen import Key, RunReader, Second, Seen
from ground_controller.telemetry.sources import by_provenance, combined
from hil_config.errors import DataFileError, InvalidRunError, UsageError
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.manifest import ModelCard, Precision

LEAST = 50
"""Measurements of a kind of work that a fit needs."""

F64 = NDArray[np.float64]


class Line(NamedTuple):
    """us = base + row x rows; `residual`: root mean square of (median / fitted - 1) weighted by samples, None where all
    had as many rows: a line goes through one median whatever it is."""

    base_us: float
    row_us: float
    residual: float | None
    samples: int


def fit_line(rows: list[float], us: list[float]) -> Line:
    """Non-negative line through the medians of equal rows, weighted by their numbers; InvalidRunError if too few."""
    if len(us) < LEAST:
        raise InvalidRunError(
            f"{len(us)} measurements of a kind of work, wanted at least {LEAST}", "calibrate from a longer run"
        )
    groups: dict[float, list[float]] = defaultdict(list)
    for n, value in zip(rows, us, strict=True):
        groups[n].append(value)
    x = np.array(sorted(groups))
    y = np.array([float(np.median(groups[n])) for n in x])
    weight = np.sqrt(np.array([len(groups[n]) for n in x], np.float64))
    slope = 0.0
    if len(x) > 1:
        slope = max(0.0, float(np.polyfit(x, y, 1, w=weight)[0]))
    base = float(np.average(y - slope * x, weights=weight**2))
    if base < 0.0:  # the best line among those through 0, and not the other one moved up
        base, slope = 0.0, float((weight**2 * x * y).sum() / (weight**2 * x * x).sum())
    fitted = np.maximum(base + slope * x, 1e-9)
    residual = float(np.sqrt(np.average((y / fitted - 1.0) ** 2, weights=weight**2)))
    return Line(base, slope, residual if len(x) > 1 else None, len(us))


def calibrate_run(folder: Path) -> Calibration:
    """Board models of the profiles and power modes that took part in a finished run on real nodes.

    Raises:
        InvalidRunError: a simulated run, or one with too little in it.
    """
    return calibrate_runs((folder,))


def calibrate_runs(folders: Sequence[Path]) -> Calibration:
    """As `calibrate_run`, from several runs together: what they measured of a kind of board in a mode is pooled. A
    UsageError names a run that is given twice, or one of another model, whose work is other work."""
    seen: dict[Key, Seen] = defaultdict(Seen)
    runs: list[str] = []
    models: list[ModelCard] = []
    for folder in folders:
        journal = open_run(folder)  # of a fleet with model boards the real ones
        try:
            RunReader(journal, folder, seen).read()
            run = f"{journal.meta('run')} ({journal.meta('began_utc')})"
            if run in runs:
                raise UsageError(f"{folder}: run {run} was named before, and would count twice", "name each run once")
            runs.append(run)
            models.append(card := msgspec.json.decode(journal.meta("model_card"), type=ModelCard))
            if _work_of(card) != _work_of(models[0]):
                raise UsageError(
                    f"{folder}: its model {card.name} is not {models[0].name} of {folders[0]}, or is built otherwise:"
                    " their times are of different work", "calibrate from runs of one model"
                )  # fmt: skip
        finally:
            journal.close()
    told = " and ".join(map(str, folders))
    if sum(len(one.us["trunk"]) for one in seen.values()) < LEAST:
        raise InvalidRunError(f"{told}: hardly any tokens in it", "calibrate from a longer run")
    # A mode that was only passed through, before an order or after it, has too little to fit.
    full = {key: one for key, one in seen.items() if one.count >= LEAST and len(one.watts) >= LEAST}
    short = sorted({profile for profile, _ in seen} - {profile for profile, _ in full})
    if short:
        mine = [one for (profile, _), one in seen.items() if profile == short[0]]
        most = max(mine, key=lambda one: min(one.count, len(one.watts)))
        raise InvalidRunError(
            f"{told}: {most.count} measurements of work and {len(most.watts)} seconds of power of {short[0]},"
            f" wanted {LEAST} of each",
            "use a longer run, or one in which boards of that kind have work",
        )
    boards = [_board(load_profile(profile), mode, one) for (profile, mode), one in full.items()]
    where = {place: None for one in full.values() for place in one.where}
    # Waiting for each other's cores is in the times already where several local boards were measured at once.
    return Calibration(
        f"fitted to run {', '.join(runs)} of {models[0].name} on {', '.join(where)};"
        f" power {_power(list(full.values()))}",
        tuple(sorted(boards, key=_place)),
    )


def _work_of(card: ModelCard) -> tuple[object, ...]:
    """What decides how much work a row is."""
    widths = (card.layers, card.experts, card.hidden, card.expert_width, card.vocabulary, card.kv_heads, card.head_dim)
    return card.family, *widths, card.trunk_depth, card.trunk_precision, card.scale_block


def _place(board: BoardModel) -> tuple[str, float, str]:
    """Boards by profile, the fastest mode first."""
    return board.profile, -board.setting.get("duty", 1.0) * board.setting.get("cpu_khz", 1.0), board.mode


def _power(seen: Sequence[Seen]) -> str:
    """Where the watts came from: an instrument, or a model."""
    found = {node: quantity for one in seen for node, quantity in one.power.items()}
    return str(combined(by_provenance(found).items())) if found else "no power"


def _board(profile: BoardProfile, mode: str, seen: Seen) -> BoardModel:
    owns = [f"expert {precision}" for precision in seen.precisions]
    asked = sorted(name for name in seen.us if name.startswith("expert ") and len(seen.us[name]) >= LEAST)
    usual = _usual(profile, mode)
    by_name = {
        name: _work(usual, seen, name) for name in ("trunk", *dict.fromkeys((*owns, *asked)), "head", "gate", "frame")
    }
    busy: dict[Second, float] = defaultdict(float)
    for second, name, rows in seen.done:
        busy[second] += (by_name.get(name) or by_name[owns[0]]).us(rows) * 1e-6
    idle_w = float(np.mean(seen.idle_w)) if seen.idle_w else profile.idle_w
    watts, error, share = _watts(idle_w, seen, busy)
    works = [msgspec.structs.replace(work, watts=round(watts, 4)) for work in by_name.values()]
    idle = "idle power of the profile" if not seen.idle_w else "idle power from idle windows"
    hops = len(seen.hop_us) >= LEAST
    return BoardModel(
        profile.name,
        round(idle_w, 4),
        round(max(0.0, float(np.median(seen.hop_us))), 2) if hops else usual.hop_us,
        tuple(works),
        profile.cores,
        power_residual_w=round(error, 4),
        load_us=round(float(np.median(seen.load_us)), 1) if seen.load_us else usual.load_us,
        mode=mode,
        setting=setting_of(profile, mode),
        origin=f"times measured in run {', '.join(seen.runs)} on {', '.join(seen.where)};"
        f" watts from power_w {_power([seen])}, {idle}; work took {share:.2%} of the time"
        + ("" if hops else "; hop: the default, hardly a frame was sent"),
    )


def _usual(profile: BoardProfile, mode: str) -> BoardModel:
    """What is taken for work that such a board was never asked for in this mode."""
    try:
        return default_board(profile) if mode == DEFAULT_MODE else board_in(DEFAULT, profile, mode)
    except DataFileError:
        return default_board(profile)


def _work(usual: BoardModel, seen: Seen, name: str) -> Work:
    """One kind of work, experts by precision; what such a board was never asked for is the default, 0 samples."""
    kind = cast("WorkKind", name.split(maxsplit=1)[0])
    precision = cast("Precision | Literal['any']", name.rsplit(maxsplit=1)[-1] if kind == "expert" else "any")
    if len(seen.us[name]) < LEAST:
        return usual.work(kind)
    line = fit_line(seen.rows[name], seen.us[name])
    return Work(
        kind, round(line.base_us, 2), round(line.row_us, 3), 0.0, precision,
        residual=None if line.residual is None else round(line.residual, 4), samples=line.samples,
    )  # fmt: skip


def _watts(idle_w: float, seen: Seen, busy_s: dict[Second, float]) -> tuple[float, float, float]:
    """Watts above idle while busy with fitted work, what remains of a second (root mean square, W), and the share of
    time that the work took: the smaller it is, the more of the watts is what a board draws without work."""
    busy = np.array([busy_s.get(second, 0.0) for second, _ in seen.watts])
    power = np.array([watts for _, watts in seen.watts])
    # Part of what a board does is in no evidence (telemetry, the clock): it is spread over the work that is.
    watts = max(0.0, float(power.mean() - idle_w) / max(1e-6, float(busy.mean())))
    return watts, float(np.sqrt(np.mean((power - idle_w - watts * busy) ** 2))), float(busy.mean())
