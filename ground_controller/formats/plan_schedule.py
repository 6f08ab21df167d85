"""A contact plan as the compiled link schedule that nodes replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.formats.plan import Contact, ContactPlan, epoch_of
from ground_controller.orbit.attitude import Array
from ground_controller.orbit.instant import parse_instant
from ground_controller.physics.solar import solar_power_w
from hil_config.errors import ConfigError, DataFileError
from hil_config.wire.link_schedule import LIGHT, LINK, LinkSchedule, ScheduleArrays, ScheduleHeader
from hil_config.wire.link_state import LinkState
from hil_config.wire.schedule_file import encode_schedule, schedule_hash  # fmt: skip

_SAME_DELAY_S = 1e-9


@dataclass(frozen=True)
class Sky:
    """Where the sunlight of the satellites comes from: a schedule compiled from their elements, or a share of the
    Sun's disc (0 to 1) that somebody states for all of them and all the time."""

    compiled: LinkSchedule | None = None
    stated: float | None = None


@dataclass(frozen=True)
class Window:
    """The part of a plan that a campaign replays: which nodes, from which instant, for how long."""

    satellites: tuple[str, ...]
    epoch_utc: str
    duration_s: float
    step_s: float


def schedule_of_plan(
    plan: ContactPlan, source: str, window: Window, sky: Sky, predicted: LinkSchedule | None = None
) -> LinkSchedule:
    """The schedule of the links that a plan has between the satellites of `window`.

    A link is up for its contacts, with their rate, delay and loss, and down between them; nothing is relayed. A plan
    that is dated is shifted to the window's instant; second 0 of one that is not is second 0 of the campaign.
    Confidence is no part of a schedule: a contact that it names is taken to happen.

    Args:
        source: the plan's file, for errors and the header.
        predicted: with it the schedule is the factual one, and records that differ from the prediction are marked.

    Raises:
        ConfigError: a satellite that the plan does not name.
        DataFileError: contacts of a pair overlap, or the plan ends before the window does.
    """
    _check_names(plan, source, window)
    shift = _shift_s(plan, window)
    last = max(plan.contacts, key=lambda one: one.end_s, default=None)
    if last is None or last.end_s - shift < window.duration_s:
        end = 0.0 if last is None else last.end_s - shift
        raise DataFileError(
            f"{source}:{last.line if last else 1}: the plan ends at {end:g} s of the campaign, which lasts"
            f" {window.duration_s:g} s",
            "lower orbit.duration_s, or give a plan that lasts as long",
        )
    kind: Literal["predicted", "factual"] = "predicted" if predicted is None else "factual"
    content = {"plan": source, "shift_s": shift, "plan_epoch_utc": plan.epoch_utc or None,
               "sunlight": "compiled from elements" if sky.compiled else f"stated: {sky.stated}"}  # fmt: skip
    if sky.compiled is not None:
        content["sky"] = sky.compiled.header.config
    header = ScheduleHeader(
        kind=kind, epoch_utc=f"{parse_instant(window.epoch_utc):%Y-%m-%dT%H:%M:%S.%f}Z",
        duration_s=window.duration_s, step_s=window.step_s, satellites=window.satellites,
        pairs=tuple(permutations(window.satellites, 2)), nodes=window.satellites, source=source,
        config=msgspec.json.encode(content).decode(),
        predicted_sha256="" if predicted is None else schedule_hash(encode_schedule(predicted)),
    )  # fmt: skip
    links = _links(plan.contacts, source, header, shift)
    if predicted is not None:
        links = _marked(links, header, predicted)
    return LinkSchedule(header, _arrays(links, sky, len(window.satellites)))


def _shift_s(plan: ContactPlan, window: Window) -> float:
    """Second of the plan at which the window begins."""
    zero = epoch_of(plan)
    return 0.0 if zero is None else (parse_instant(window.epoch_utc) - zero).total_seconds()


def early_end(plan: ContactPlan, source: str, window: Window) -> tuple[str, ...]:
    """A warning where the plan goes on, and the contacts of the window's satellites end before the window does."""
    shift = _shift_s(plan, window)
    own = [one for one in plan.contacts if {one.source, one.target} <= set(window.satellites)]
    if not own:
        return (f"{source}: none of its {len(plan.contacts)} contacts is between satellites of the campaign",)
    last = max(own, key=lambda one: one.end_s)
    if last.end_s - shift >= window.duration_s:
        return ()
    return (
        f"{source}:{last.line}: the last contact between satellites of the campaign ends at {last.end_s - shift:g} s of"
        f" {window.duration_s:g} s",
    )


def _check_names(plan: ContactPlan, source: str, window: Window) -> None:
    known = plan.nodes
    for name in window.satellites:
        if name not in known:
            close = get_close_matches(name, known, n=5, cutoff=0.5) or list(known[:8])
            raise ConfigError(
                f"orbit.satellites: {source} has no node {name!r} among {len(known)}", f"its nodes: {', '.join(close)}"
            )


def _links(contacts: Sequence[Contact], source: str, header: ScheduleHeader, shift: float) -> NDArray[np.void]:
    by_pair: defaultdict[tuple[str, str], list[Contact]] = defaultdict(list)
    for one in contacts:
        by_pair[one.source, one.target].append(one)
    rows: list[tuple[float, int, float, float, float, int]] = []  # time, pair, delay, rate, loss, up
    for number, pair in enumerate(header.pairs):
        until = -np.inf  # the end of what is said so far
        for one in sorted(by_pair[pair]):
            start, end = one.start_s - shift, one.end_s - shift
            if start < until:
                raise DataFileError(
                    f"{source}:{one.line}: contact {one.source} -> {one.target} at {one.start_s:g} s overlaps the one"
                    " before it: a link cannot have two rates at once",
                    "cut one of them short in the plan",
                )
            if start >= header.duration_s:
                break
            if end <= 0.0:
                until = end
                continue
            if start > max(until, 0.0):
                rows.append((max(until, 0.0), number, 0.0, 0.0, 1.0, 0))
            up = one.rate_bit_s > 0.0
            rows.append((max(start, 0.0), number, one.delay_s, one.rate_bit_s, one.loss, 1) if up
                        else (max(start, 0.0), number, 0.0, 0.0, 1.0, 0))  # fmt: skip
            until = end
        if until < header.duration_s:
            rows.append((max(until, 0.0), number, 0.0, 0.0, 1.0, 0))
    rows.sort(key=lambda row: row[:2])
    out = np.zeros(len(rows), LINK)
    for name, column in zip(("time_s", "pair", "delay_s", "rate_bit_s", "loss", "up"), zip(*rows, strict=True),
                            strict=True):  # fmt: skip
        out[name] = column
    out["hops"] = out["up"]
    return out


def _marked(links: NDArray[np.void], header: ScheduleHeader, predicted: LinkSchedule) -> NDArray[np.void]:
    """With `fault` set where a link is not what was predicted, also from where only the prediction changes: a contact
    that never comes is a change that was not made."""
    found: list[np.void] = []
    for number, pair in enumerate(header.pairs):
        own = links[links["pair"] == number]
        theirs = predicted.arrays.links[predicted.arrays.links["pair"] == predicted.header.pairs.index(pair)]
        before = False
        for time_s in np.union1d(own["time_s"], theirs["time_s"]).tolist():
            if time_s >= header.duration_s:
                break
            at = int(np.searchsorted(own["time_s"], time_s, "right")) - 1
            row = own[at].copy()
            row["time_s"], row["fault"] = time_s, not _as_predicted(row, predicted.link(*pair, time_s))
            if own["time_s"][at] == time_s or bool(row["fault"]) != before:
                found.append(row)
            before = bool(row["fault"])
    return np.array(sorted(found, key=lambda row: (row["time_s"], row["pair"])), LINK)


def _as_predicted(row: np.void, then: LinkState) -> bool:
    return then.up == bool(row["up"]) and (not then.up or (
        abs(then.delay_s - float(row["delay_s"])) <= _SAME_DELAY_S
        and then.rate_bit_s == float(row["rate_bit_s"]) and then.loss == float(row["loss"])
    ))  # fmt: skip


def _arrays(links: NDArray[np.void], sky: Sky, satellites: int) -> ScheduleArrays:
    no_route, no_node = np.zeros(2, np.uint32), np.empty(0, np.uint32)
    if sky.compiled is not None:
        from_elements = sky.compiled.arrays
        return ScheduleArrays(
            links, from_elements.lights, from_elements.track_time_s, from_elements.track_position_km,
            from_elements.track_velocity_km_s, no_route, no_node,
        )  # fmt: skip
    lights = np.zeros(satellites, LIGHT)
    lights["satellite"] = np.arange(satellites)
    share = 1.0 if sky.stated is None else sky.stated
    lights["sunlight"] = share
    array = Array()
    lights["array_w"] = solar_power_w(share, 1.0, array.area_m2, array.efficiency)
    empty = np.empty((0, satellites, 3), np.float32)
    return ScheduleArrays(links, lights, np.empty(0), empty, empty, no_route, no_node)
