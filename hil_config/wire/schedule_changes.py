"""From samples to a schedule of changes: a line is drawn on for as long as it stays within a tolerance.

The "swinging door" of process historians: from each record a fan of slopes that miss no sample by more than the
tolerance; when the fan closes, the next record begins at the sample before. Vectorised over columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import DataFileError
from hil_config.wire.link_schedule import LIGHT, LINK, LinkSchedule, ScheduleArrays, ScheduleHeader

DELAY_TOLERANCE_S = 1e-6
LIGHT_TOLERANCE = 1e-4

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


class RouteTable(NamedTuple):
    """Node numbers of route r: `node[first[r]:first[r + 1]]`; route 0 is empty."""

    first: NDArray[np.int64]
    node: NDArray[np.uint32]


@dataclass(frozen=True)
class Samples:
    """What a schedule is made of, at N instants.

    Args:
        time_s: [N] strictly rising, from 0.
        delay_s, rate_bit_s, loss, up: [N, P]. hops, route, fault: the same shape, or left out.
        sunlight: [N, S], 0 to 1; array_w: [N, S] W, or left out.
        routes: node numbers of route 1, 2, ...; track_*: see `ScheduleArrays`.
    """

    time_s: Float
    delay_s: Float
    rate_bit_s: Float
    loss: Float
    up: NDArray[np.generic]
    sunlight: Float
    array_w: Float | None = None
    hops: NDArray[np.int64] | None = None
    route: NDArray[np.int64] | None = None
    fault: Bool | None = None
    routes: Sequence[tuple[int, ...]] | RouteTable = ()
    track_time_s: Float = field(default_factory=lambda: np.empty(0))
    track_position_km: Float | None = None
    track_velocity_km_s: Float | None = None


def schedule_of(header: ScheduleHeader, samples: Samples) -> LinkSchedule:
    """The schedule of changes that meets each sample within the header's `delay_tolerance_s`.

    Raises:
        DataFileError: times do not begin at 0 or do not rise, or an array has another shape.
    """
    t = np.asarray(samples.time_s, dtype=np.float64)
    if t.size < 2 or t[0] != 0.0 or not (np.diff(t) > 0.0).all():
        raise DataFileError("schedule: times must start at 0 and rise; at least two samples", "hil schedule build")
    s = len(header.satellites)
    empty = np.empty((0, s, 3), np.float32)
    position, velocity = samples.track_position_km, samples.track_velocity_km_s
    routes = samples.routes if isinstance(samples.routes, RouteTable) else _table(samples.routes)
    arrays = ScheduleArrays(
        links=_links(t, samples, header.delay_tolerance_s), lights=_lights(t, samples),
        track_time_s=np.asarray(samples.track_time_s, np.float64),
        track_position_km=empty if position is None else position.astype(np.float32),
        track_velocity_km_s=empty if velocity is None else velocity.astype(np.float32),
        route_first=routes.first.astype(np.uint32), route_node=routes.node.astype(np.uint32),
    )  # fmt: skip
    return LinkSchedule(header, arrays)


def _table(routes: Sequence[tuple[int, ...]]) -> RouteTable:
    first = np.cumsum([0, 0, *(len(nodes) for nodes in routes)])
    return RouteTable(first, np.array([node for nodes in routes for node in nodes], np.uint32))


def _links(t: Float, samples: Samples, tolerance_s: float) -> NDArray[np.void]:
    up = np.asarray(samples.up) > 0
    none = np.zeros(up.shape, np.int64)
    columns: dict[str, NDArray[Any]] = {
        "rate_bit_s": np.where(up, samples.rate_bit_s, 0.0).astype(np.float32),
        "loss": np.where(up, samples.loss, 1.0).astype(np.float32),
        "hops": np.where(up, 1 if samples.hops is None else samples.hops, 0).astype(np.uint16),
        "route": np.where(up, none if samples.route is None else samples.route, 0).astype(np.uint32),
        "up": up.astype(np.uint8),
        "fault": (none if samples.fault is None else samples.fault).astype(np.uint8),
    }
    changed = np.zeros(up.shape, np.bool_)
    for values in columns.values():
        changed[1:] |= values[1:] != values[:-1]
    delay = np.where(up, samples.delay_s, 0.0)
    row, column, drift = changes_of(t, delay[:, None, :], changed, np.zeros_like(changed), np.array([tolerance_s]))
    out = np.zeros(row.size, LINK)
    out["time_s"], out["pair"], out["delay_s"], out["delay_drift"] = t[row], column, delay[row, column], drift[:, 0]
    for name, values in columns.items():
        out[name] = values[row, column]
    return out


def _lights(t: Float, samples: Samples) -> NDArray[np.void]:
    light = np.clip(np.asarray(samples.sunlight, dtype=np.float64), 0.0, 1.0)
    power = np.zeros_like(light) if samples.array_w is None else np.asarray(samples.array_w, dtype=np.float64)
    edge = (light <= 0.0) | (light >= 1.0)
    at, before = np.zeros(light.shape, np.bool_), np.zeros(light.shape, np.bool_)
    at[1:] = edge[1:] & (light[1:] != light[:-1])
    before[1:] = edge[:-1] & (light[1:] != light[:-1]) & ~at[1:]
    tolerance = np.array([LIGHT_TOLERANCE, LIGHT_TOLERANCE * max(1.0, float(power.max(initial=0.0)))])
    row, column, drift = changes_of(t, np.stack([light, power], axis=1), at, before, tolerance)
    out = np.zeros(row.size, LIGHT)
    out["time_s"], out["satellite"] = t[row], column
    out["sunlight"], out["sunlight_drift"] = light[row, column], drift[:, 0]
    out["array_w"], out["array_drift"] = power[row, column], drift[:, 1]
    return out


def changes_of(
    t: Float, values: Float, at: Bool, before: Bool, tolerance: Float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float]:
    """Where records begin.

    Args:
        values: [N, C, P] of C channels; tolerance: [C].
        at: [N, P] a record must begin at this sample (what came before tells nothing of it).
        before: [N, P] a record must begin at the sample before.

    Returns:
        rows [K], columns [K] in the order of (row, column), and drifts [K, C] per second.
    """
    n, _, p = values.shape
    tol = tolerance[:, None]
    start = np.zeros(p, np.int64)
    base = values[0].copy()
    low, high = np.full(base.shape, -np.inf), np.full(base.shape, np.inf)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], Float]] = []

    def emit(columns: NDArray[np.int64]) -> None:
        known = np.isfinite(low[:, columns])  # a fan that no sample has narrowed yet has no slope
        middle = 0.5 * (np.where(known, low[:, columns], 0.0) + np.where(known, high[:, columns], 0.0))
        found.append((start[columns], columns, middle.T))

    for i in range(1, n):
        width = t[i] - t[start]
        step = values[i] - base
        new_low, new_high = np.maximum(low, (step - tol) / width), np.minimum(high, (step + tol) / width)
        close = at[i] | before[i] | (new_low > new_high).any(axis=0)
        if close.any():
            columns = np.nonzero(close)[0]
            begin = np.where(at[i, columns], i, i - 1)
            emit(columns[begin > start[columns]])
            start[columns] = begin
            base[:, columns] = values[begin, :, columns].T
            fresh = begin < i
            again = columns[fresh]
            new_low[:, columns], new_high[:, columns] = -np.inf, np.inf
            step = values[i][:, again] - base[:, again]
            new_low[:, again] = (step - tol) / (t[i] - t[i - 1])
            new_high[:, again] = (step + tol) / (t[i] - t[i - 1])
        low, high = new_low, new_high
    emit(np.arange(p))
    rows, columns, drifts = (np.concatenate([part[k] for part in found]) for k in range(3))
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], drifts[order]
