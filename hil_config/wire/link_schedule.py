"""The link schedule: what each link and each satellite does from each change on, compiled offline.

Records stand in the order of time; each holds from its time until the next of the same pair. Delay, sunlight and
array power move linearly from a record on (`value + drift * (t - time_s)`); all else holds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.errors import DataFileError
from hil_config.wire.link_state import DOWN, LinkSamples, LinkSpan, LinkState

VERSION = 2
HINT = "compile it again: hil schedule build"

LINK = np.dtype([
    ("time_s", "<f8"), ("pair", "<u4"), ("route", "<u4"), ("delay_s", "<f4"), ("delay_drift", "<f4"),
    ("rate_bit_s", "<f4"), ("loss", "<f4"), ("hops", "<u2"), ("up", "|u1"), ("fault", "|u1"), ("spare", "<u4"),
])  # fmt: skip
"""One change of a directed pair. `delay_drift`: seconds per second. `fault`: 1 where the change is not the
prediction's. `route`: number in the routes, 0 is none."""

LIGHT = np.dtype([
    ("time_s", "<f8"), ("satellite", "<u4"), ("sunlight", "<f4"), ("sunlight_drift", "<f4"),
    ("array_w", "<f4"), ("array_drift", "<f4"), ("spare", "<u4"),
])  # fmt: skip
"""One change of a satellite's sunlight (share of the Sun's disc) and array power (W)."""

Float = NDArray[np.float64]


class ScheduleHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the arrays mean.

    `pairs[p]`: directed (from, to); both are of `satellites`, which may also name ground stations (last, the
    `stations` of them). `nodes`: names that routes count in, the satellites first. `config`: what was compiled,
    as JSON text. `predicted_sha256`: of a factual schedule, the hash of the prediction it departs from.
    """

    version: int = VERSION
    kind: Literal["predicted", "factual"] = "predicted"
    epoch_utc: str
    duration_s: float
    step_s: float
    satellites: tuple[str, ...]
    stations: int = 0
    pairs: tuple[tuple[str, str], ...]
    nodes: tuple[str, ...] = ()
    delay_tolerance_s: float = 0.0
    source: str = ""
    config: str = "{}"
    predicted_sha256: str = ""
    shapes: dict[str, tuple[int, ...]] = {}


@dataclass(frozen=True)
class ScheduleArrays:
    """links: [K] of `LINK`; lights: [L] of `LIGHT`; route_first: [R + 1] and route_node: route r is
    `route_node[route_first[r]:route_first[r + 1]]`, route 0 is empty. Tracks: knots [M] s, position [M, S, 3] km
    and velocity [M, S, 3] km/s in the frame that the header's config names."""

    links: NDArray[np.void]
    lights: NDArray[np.void]
    track_time_s: Float
    track_position_km: NDArray[np.float32]
    track_velocity_km_s: NDArray[np.float32]
    route_first: NDArray[np.uint32]
    route_node: NDArray[np.uint32]


class LinkSchedule:
    """A compiled schedule: in memory, or mapped from its file. Safe to read from many threads.

    Raises:
        DataFileError: the arrays contradict the header or hold what cannot be.
    """

    def __init__(self, header: ScheduleHeader, arrays: ScheduleArrays) -> None:
        shapes = {field.name: getattr(arrays, field.name).shape for field in fields(arrays)}
        self.header = msgspec.structs.replace(header, shapes=shapes)
        self.arrays = arrays
        self._pair = {pair: index for index, pair in enumerate(header.pairs)}
        self._satellite = {name: index for index, name in enumerate(header.satellites)}
        self._check()
        self._pair_rows = _grouped(arrays.links["pair"], len(header.pairs))
        self._light_rows = _grouped(arrays.lights["satellite"], len(header.satellites))
        self._known: dict[tuple[str, int], tuple[list[float], NDArray[np.void]]] = {}

    def _check(self) -> None:
        h, a = self.header, self.arrays
        links, lights, s = a.links, a.lights, len(h.satellites)
        _require(h.version == VERSION, f"version {h.version}, wanted {VERSION}")
        _require(np.isfinite(h.duration_s) and h.duration_s > 0, f"duration_s is {h.duration_s}")
        _require(len(self._satellite) == s and 0 <= h.stations <= s, "a satellite is named twice")
        known = self._satellite
        strange = [pair for pair in h.pairs if pair[0] not in known or pair[1] not in known]
        _require(not strange, f"pair {strange[:1]} names an unknown satellite")
        for name, array, key, count in (("links", links, "pair", len(h.pairs)), ("lights", lights, "satellite", s)):
            for column in array.dtype.names or ():
                _require(bool(np.isfinite(array[column]).all()), f"{name}: {column} holds a value that is not finite")
            _require(not (array[key] >= count).any(), f"{name}: {key} is not among {count}")
            times = array["time_s"]
            _require(not ((times < 0).any() or (np.diff(times) < 0).any()), f"{name}: times must rise from 0")
        _require(not ((links["delay_s"] < 0) | (links["rate_bit_s"] < 0)).any(), "a delay or rate is below 0")
        _require(not ((links["loss"] < 0) | (links["loss"] > 1)).any(), "a loss is outside 0..1")
        _require(not ((lights["sunlight"] < 0) | (lights["sunlight"] > 1)).any(), "an illumination is outside 0..1")
        _require(not (links["up"] > 1).any(), "up is neither 0 nor 1")
        first, knots = a.route_first, a.track_time_s
        _require(first.ndim == 1 and first.size >= 2 and first[0] == 0 == first[1], "route 0 must be empty")
        _require(not (np.diff(first.astype(np.int64)) < 0).any() and first[-1] == a.route_node.size, "routes overlap")
        _require(not (a.route_node >= max(1, len(h.nodes))).any(), "a route passes an unknown node")
        _require(not (links["route"] >= first.size - 1).any(), "a link takes an unknown route")
        wanted = (knots.size, s, 3)
        for tracks in (a.track_position_km, a.track_velocity_km_s):
            _require(tracks.shape == wanted and bool(np.isfinite(tracks).all()), f"tracks must be finite, {wanted}")
        _require(bool(np.isfinite(knots).all()) and not (np.diff(knots) <= 0).any(), "track times must rise")

    @property
    def duration_s(self) -> float:
        return self.header.duration_s

    def _rows(self, what: Literal["links", "lights"], number: int) -> tuple[list[float], NDArray[np.void]]:
        """Times and records of one pair or satellite, kept once asked for."""
        found = self._known.get((what, number))
        if found is None:
            grouped = self._pair_rows if what == "links" else self._light_rows
            rows: NDArray[np.void] = getattr(self.arrays, what)[grouped.rows(number)]
            found = self._known[what, number] = (rows["time_s"].tolist(), rows)
        return found

    def _record(self, source: str, target: str, t: float) -> tuple[float, np.void] | None:
        """Seconds since the record that holds at t, and it; t is clamped to the schedule."""
        pair = self._pair.get((source, target))
        if pair is None:
            return None
        times, rows = self._rows("links", pair)
        t = min(max(t, 0.0), self.header.duration_s)
        at = bisect_right(times, t) - 1
        return (t - times[at], rows[at]) if at >= 0 else None

    def link(self, source: str, target: str, t: float) -> LinkState:
        """The directed link at scenario second t. A pair the schedule does not name is down."""
        found = self._record(source, target, t)
        if found is None or not found[1]["up"]:
            return DOWN
        since, row = found
        delay = max(0.0, float(row["delay_s"]) + since * float(row["delay_drift"]))
        return LinkState(delay, float(row["rate_bit_s"]), float(row["loss"]), True)

    def span(self, source: str, target: str, t: float) -> LinkSpan:
        """The record that holds for the directed link at t, for whoever asks often."""
        pair = self._pair.get((source, target))
        if pair is None:
            return LinkSpan(-math.inf, math.inf, 0.0, 0.0, 0.0, 1.0, False)
        times, rows = self._rows("links", pair)
        at = bisect_right(times, min(max(t, 0.0), self.header.duration_s)) - 1
        until = times[at + 1] if at + 1 < len(times) else math.inf
        if at < 0:
            return LinkSpan(-math.inf, until, 0.0, 0.0, 0.0, 1.0, False)
        r = rows[at]
        return LinkSpan(
            times[at], until, float(r["delay_s"]), float(r["delay_drift"]), float(r["rate_bit_s"]), float(r["loss"]),
            bool(r["up"]),
        )  # fmt: skip

    def route(self, source: str, target: str, t: float) -> tuple[str, ...]:
        """The nodes of the path at t, both ends included; empty where there is none."""
        found = self._record(source, target, t)
        if found is None or not found[1]["up"]:
            return ()
        number, first = int(found[1]["route"]), self.arrays.route_first
        nodes = self.arrays.route_node[int(first[number]) : int(first[number + 1])]
        return tuple(self.header.nodes[node] for node in nodes) or (source, target)

    def next_change_s(self, t: float) -> float:
        """When the next record after t begins; infinity after the last."""
        times = self.arrays.links["time_s"]
        at = int(np.searchsorted(times, t, side="right"))
        return float(times[at]) if at < times.size else float("inf")

    def changes(self, after_s: float, until_s: float) -> NDArray[np.void]:
        """The records with after_s < time_s <= until_s, in order: what one step changes."""
        first, last = np.searchsorted(self.arrays.links["time_s"], [after_s, until_s], side="right")
        return self.arrays.links[int(first) : int(last)]

    def sample(self, time_s: Float) -> LinkSamples:
        """All pairs at N instants."""
        t = np.clip(np.asarray(time_s, dtype=np.float64), 0.0, self.duration_s)
        shape = (t.size, len(self.header.pairs))
        delay, rate, loss = np.zeros(shape), np.zeros(shape), np.ones(shape)
        up, hops = np.zeros(shape, np.bool_), np.zeros(shape, np.int64)
        for where, held, after_s in self._by_instant(t) if shape[0] < shape[1] else self._by_pair(t):
            on = held["up"] > 0
            moved = held["delay_s"] + held["delay_drift"].astype(np.float64) * after_s
            delay[where] = np.where(on, np.maximum(moved, 0.0), 0.0)
            rate[where], loss[where] = np.where(on, held["rate_bit_s"], 0.0), np.where(on, held["loss"], 1.0)
            up[where], hops[where] = on, np.where(on, held["hops"], 0)
        return LinkSamples(delay, rate, loss, up, hops)

    def _by_pair(self, t: Float) -> Iterator[tuple[tuple[Any, Any], NDArray[np.void], Float]]:
        """Where in [N, P] there are records in force, the records, and seconds since they began: pair by pair."""
        for pair in range(len(self.header.pairs)):
            times, rows = self._rows("links", pair)
            at = np.searchsorted(times, t, side="right") - 1
            seen = at >= 0
            held = rows[at[seen]]
            yield (seen, pair), held, t[seen] - held["time_s"]

    def _by_instant(self, t: Float) -> Iterator[tuple[tuple[Any, Any], NDArray[np.void], Float]]:
        """The same instant by instant, which is less where there are more pairs than instants."""
        links, done = self.arrays.links, 0
        newest = np.full(len(self.header.pairs), -1)
        for n in np.argsort(t, kind="stable").tolist():
            end = int(np.searchsorted(links["time_s"], t[n], side="right"))
            newest[links["pair"][done:end]] = np.arange(done, end)  # of several of a pair the last one stays
            done, seen = end, newest >= 0
            held = links[newest[seen]]
            yield (n, seen), held, t[n] - held["time_s"]

    def _light(self, satellite: str, t: float, what: Literal["sunlight", "array"]) -> float:
        times, rows = self._rows("lights", self._satellite[satellite])
        t = min(max(t, 0.0), self.header.duration_s)
        row = rows[max(0, bisect_right(times, t) - 1)]
        value = row["sunlight" if what == "sunlight" else "array_w"]
        return max(0.0, float(value) + float(row[what + "_drift"]) * (t - float(row["time_s"])))

    def illumination(self, satellite: str, t: float) -> float:
        """Illuminated fraction of the Sun's disc at t, 0 (umbra) to 1."""
        return min(1.0, self._light(satellite, t, "sunlight"))

    def array_power_w(self, satellite: str, t: float) -> float:
        """Power of the solar array that the header's config describes, W (modelled)."""
        return self._light(satellite, t, "array")

    def position_km(self, time_s: Float) -> Float:
        """[N, S, 3] positions between the track knots by cubic Hermite: under 1 m off at knots of 60 s."""
        knots, a = self.arrays.track_time_s, self.arrays
        if knots.size < 2:
            raise DataFileError("schedule: holds no tracks", HINT)
        t = np.clip(np.asarray(time_s, dtype=np.float64), knots[0], knots[-1])
        at = np.clip(np.searchsorted(knots, t, side="right") - 1, 0, knots.size - 2)
        width = (knots[at + 1] - knots[at])[:, None, None]
        u = (t - knots[at])[:, None, None] / width
        p0, p1 = (a.track_position_km[at + n].astype(np.float64) for n in (0, 1))
        v0, v1 = (a.track_velocity_km_s[at + n] * width for n in (0, 1))
        h01 = u * u * (3.0 - 2.0 * u)
        moved: Float = (1.0 - h01) * p0 + h01 * p1 + u * (1.0 - u) * ((1.0 - u) * v0 - u * v1)
        return moved


def _require(holds: bool | np.bool_, problem: str) -> None:
    if not holds:
        raise DataFileError(f"schedule: {problem}", HINT)


class _Groups(NamedTuple):
    """Rows of each number, in order: `order[ends[n]:ends[n + 1]]`."""

    order: NDArray[np.int64]
    ends: NDArray[np.int64]

    def rows(self, number: int) -> NDArray[np.int64]:
        return self.order[self.ends[number] : self.ends[number + 1]]


def _grouped(number: NDArray[np.uint32], count: int) -> _Groups:
    return _Groups(
        np.argsort(number, kind="stable"), np.append(0, np.cumsum(np.bincount(number, minlength=count)))
    )  # fmt: skip
