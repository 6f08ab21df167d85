"""What the page is told: everything once, then what changed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.live.events import Event
from ground_controller.live.follower import Follower, Moment
from ground_controller.live.nodes import NodeRow, Reading
from ground_controller.live.run_facts import RunFacts
from ground_controller.live.sky import Sky
from ground_controller.live.text import RequestSeen, TokenSeen

MOST_CURVES = 12
"""Nodes with a curve of their own; of more, the page gets least, median and most."""

Numbers = list[Any]
"""Of floats and None."""


class SkyTold(msgspec.Struct, frozen=True):
    """`latitude_deg[s]`, `longitude_deg[s]`: the ground track of satellite s at `track_s`."""

    names: tuple[str, ...]
    pairs: list[tuple[int, int]]
    track_s: Numbers
    latitude_deg: list[Numbers]
    longitude_deg: list[Numbers]


class Curves(msgspec.Struct, frozen=True):
    """Columns over time. `power_w` and the others: one list a node, or least, median and most of all (`spread`)."""

    spread: bool
    host_s: Numbers
    tokens_per_s: Numbers
    power_w: list[Numbers]
    temperature_c: list[Numbers]
    charge: list[Numbers]


class Hello(msgspec.Struct, frozen=True, tag_field="kind", tag="hello"):
    """What does not change, and the curves so far."""

    facts: RunFacts
    sky: SkyTold | None
    curves: Curves


class NodeTold(msgspec.Struct, frozen=True, tag_field="kind", tag="node"):
    """One node in full: what its board said last, and its curves (as lists of one)."""

    node: int
    readings: tuple[Reading, ...]
    curves: Curves


class Picture(msgspec.Struct, frozen=True, tag_field="kind", tag="picture", omit_defaults=True):
    """A moment, or what changed since the picture before (`whole` is false).

    `rows`: [node, W, C, charge, sunlit, calls/s]; `states`: [node, state, cause, provenance of the watts, orbit second
    of the last ones if there are none now].
    `links_on`, `links_off`: indices into the sky's pairs. `counts`: [layers * experts], empty if unchanged.
    """

    whole: bool
    past: bool
    standing: str
    host_s: float
    last_host_s: float
    scenario_s: float
    tokens_per_s: float
    token_count: int
    plan_policy: str = ""
    plan_reason: str = ""
    rows: tuple[tuple[Any, ...], ...] = ()
    states: tuple[tuple[int, str, str, str, float | None], ...] = ()
    links_on: Numbers = []
    links_off: Numbers = []
    under_sun_deg: tuple[float, float] | None = None
    requests: tuple[RequestSeen, ...] = ()
    tokens: tuple[TokenSeen, ...] = ()
    events: tuple[Event, ...] = ()
    counts: Numbers = []


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page sends: `token` comes first where one is wanted; `at` goes back to a host second, `live` comes
    again to what is newest; `node` asks for one node in full."""

    ask: Literal["token", "at", "live", "node"]
    token: str = ""
    host_s: float = 0.0
    node: int = 0


def hello(follower: Follower) -> Hello:
    """For a page that has just connected."""
    return Hello(follower.facts, _sky(follower.sky), curves(follower, None))


def _sky(sky: Sky | None) -> SkyTold | None:
    if sky is None:
        return None
    return SkyTold(
        sky.names, sky.pairs, sky.track_s.round(1).tolist(),
        sky.latitude_deg.T.round(2).tolist(), sky.longitude_deg.T.round(2).tolist(),
    )  # fmt: skip


def curves(follower: Follower, node: int | None) -> Curves:
    """Of all nodes, or of one."""
    points, count = follower.history.points, len(follower.facts.nodes)
    spread = node is None and count > MOST_CURVES

    def lines(field: str, digits: int) -> list[Numbers]:
        values = np.array([getattr(point, field) for point in points], np.float64).reshape(len(points), count)
        if node is not None:
            values = values[:, [node]]
        return [_told(line, digits) for line in (_spread(values) if spread else values.T)]

    return Curves(
        spread, [round(point.host_s, 2) for point in points], [round(point.tokens_per_s, 2) for point in points],
        lines("power_w", 2), lines("temperature_c", 2), lines("charge", 4),
    )  # fmt: skip


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, T]: least, median and most over the nodes [T, N]; NaN where no node has a value."""
    empty: NDArray[np.bool_] = np.asarray(np.isnan(values).all(axis=1))
    filled = np.where(empty[:, None], 0.0, values)
    found = np.stack([np.nanmin(filled, axis=1), np.nanmedian(filled, axis=1), np.nanmax(filled, axis=1)])
    found[:, empty] = np.nan
    return found


def _told(values: NDArray[np.float64], digits: int) -> Numbers:
    return [None if np.isnan(value) else value for value in values.round(digits).tolist()]


def picture(now: Moment, before: Moment | None, standing: str, last_host_s: float, past: bool = False) -> Picture:
    """A moment whole, or its changes since the moment `before`."""
    links, last = set(now.links.tolist()), set() if before is None else set(before.links.tolist())
    last_event = before.events[-1].id if before is not None and before.events else 0
    same_counts = before is not None and np.array_equal(now.counts, before.counts)
    return Picture(
        whole=before is None, past=past, standing=standing, host_s=round(now.tick.host_s, 3),
        last_host_s=round(last_host_s, 3), scenario_s=round(now.tick.scenario_s, 3),
        tokens_per_s=round(now.tokens_per_s, 2), token_count=now.token_count,
        plan_policy=now.plan_policy, plan_reason=now.plan_reason,
        rows=_changed(now.nodes, before.nodes if before else (), _row),
        states=_changed(now.nodes, before.nodes if before else (), _state),
        links_on=sorted(links - last), links_off=sorted(last - links), under_sun_deg=now.under_sun_deg,
        requests=_new_requests(now, before),
        tokens=tuple(one for one in now.tokens if before is None or one.number > before.token_count),
        events=tuple(one for one in now.events if one.id > last_event),
        counts=[] if same_counts else now.counts.ravel().tolist(),
    )  # fmt: skip


def _row(index: int, row: NodeRow) -> tuple[Any, ...]:
    return (
        index, _rounded(row.power_w, 2), _rounded(row.temperature_c, 2), _rounded(row.charge, 4),
        _rounded(row.sunlit, 2), _rounded(row.calls_per_s, 1),
    )  # fmt: skip


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _state(index: int, row: NodeRow) -> tuple[int, str, str, str, float | None]:
    return index, row.state, row.cause, row.power_by, _rounded(row.last_read_s, 1)


def _changed(now: tuple[NodeRow, ...], before: tuple[NodeRow, ...], told: Any) -> tuple[Any, ...]:
    found = [told(i, row) for i, row in enumerate(now)]
    last = [told(i, row) for i, row in enumerate(before)] or [None] * len(now)
    return tuple(one for one, other in zip(found, last, strict=True) if one != other)


def _new_requests(now: Moment, before: Moment | None) -> tuple[RequestSeen, ...]:
    last = {} if before is None else {one.request: one for one in before.requests}
    return tuple(one for one in now.requests if last.get(one.request) != one)
