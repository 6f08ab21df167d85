"""Hypatia's network state of a campaign's constellation: element sets of one epoch, links, forwarding states.

Hypatia's links stand all the time, so those are written that stand at every step. Forwarding states are the shortest
paths over them towards each ground station, from the element sets that are written: the folder agrees with itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground_controller.formats.hypatia import Forward, HypatiaState, Station, Step
from ground_controller.orbit.compile import constellation_of
from ground_controller.orbit.constellation import KNOT_S, Constellation
from ground_controller.orbit.earth import sidereal_angle_rad
from ground_controller.orbit.elements import Elements
from ground_controller.orbit.ground import Choice, GroundStation, in_view, look
from ground_controller.orbit.instant import julian_date
from ground_controller.orbit.propagate import Ephemeris
from ground_controller.orbit.refit import at_epoch, shell_elements
from ground_controller.orbit.schedule_config import ScheduleConfig
from ground_controller.orbit.topology import edges, pairs_that_stand
from ground_controller.routing.forwarding import DROPPED, Forwarding, changed_hops, forwarding
from ground_controller.routing.shortest import Graph, undirected
from hil_config.errors import ConfigError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

WGS72_RADIUS_M, WGS72_FLATTENING = 6_378_135.0, 1.0 / 298.26
COMPARED_INSTANTS = 25
TOLD_FROM_KM = 1.0
_CHUNK_BYTES = 64 << 20
_MOST_NUMBER = 99_999


@dataclass(frozen=True)
class Exported:
    """A state, by how much its satellites are at most elsewhere than the campaign's, and what it does not say."""

    state: HypatiaState
    apart_km: float
    warnings: tuple[str, ...]


def export_hypatia(config: ScheduleConfig, elements: Sequence[Elements]) -> Exported:
    """The state of what `config` compiles: of its mapped satellites, with relay `constellation` of all.

    Args:
        elements: as for `compile_schedule`.

    Raises:
        ConfigError: as `compile_schedule`; or a name that Hypatia's files cannot hold.
        DataFileError: a set cannot be carried to the epoch.
    """
    ours = constellation_of(config, elements)
    if config.relay != "constellation" and config.shells:
        mapped = [n for n, name in enumerate(ours.names) if name in config.satellites]
    else:
        mapped = list(range(len(ours.names)))
    written = _sets(ours, mapped)
    theirs = Constellation(ours.epoch, written)
    at = np.linspace(0.0, config.duration_s, COMPARED_INSTANTS)
    here, there = ours.exact(at).position_km[:, mapped], theirs.exact(at).position_km
    apart_km = float(np.linalg.norm(here - there, axis=-1).max())
    stations = tuple(_station(one) for one in config.stations)
    ends, partly = _links(config, ours, theirs)
    warnings = []
    if partly:
        warnings.append(f"{partly} links stand only part of the time and are left out: Hypatia's stand always")
    if apart_km >= TOLD_FROM_KM:
        warnings.append(
            f"SGP4 moves the written sets up to {apart_km:.1f} km away from the campaign's satellites within"
            f" {config.duration_s:g} s ({COMPARED_INSTANTS} instants compared)"
        )
    if config.faults:
        warnings.append(f"{len(config.faults)} faults are left out: the state is the predicted one")
    if not stations:
        warnings.append("no ground stations, so no forwarding states: they lead to stations only")
    planes, per_plane = _planes(config, len(written))
    folder = f"dynamic_state_{config.step_s * 1e3:.0f}ms_for_{config.duration_s:.0f}s" if stations else ""
    steps = tuple(_steps(config, theirs, ends)) if stations else ()
    links = tuple((a, b) for a, b in ends.tolist())
    return Exported(HypatiaState(planes, per_plane, written, links, stations, steps, folder), apart_km, tuple(warnings))


def _sets(ours: Constellation, kept: Sequence[int]) -> tuple[Elements, ...]:
    """Sets of one epoch; names end in their number."""
    found = list(at_epoch(ours.elements, ours.epoch))
    taken = max((int(one.line1[2:7]) for one in found if one.line1[2:7].strip().isdigit()), default=0)
    for shell in ours.shells:
        if taken + shell.count > _MOST_NUMBER:
            raise ConfigError(f"constellation: catalogue numbers up to {taken + shell.count}, at most {_MOST_NUMBER}")
        found += shell_elements(shell, ours.epoch, taken + 1)
        taken += shell.count
    out = []
    for index, number in enumerate(kept):
        words = found[number].name.split()
        head = words[:-1] if len(words) > 1 and words[-1] == str(index) else words
        out.append(Elements(f"{'-'.join(head)} {index}", found[number].line1, found[number].line2))
    return tuple(out)


def _planes(config: ScheduleConfig, count: int) -> tuple[int, int]:
    """Planes and satellites in a plane, where the whole is a shell; else one plane."""
    whole = config.shells[0] if len(config.shells) == 1 else None
    return (whole.planes, whole.per_plane) if whole and whole.count == count else (1, count)


def _station(one: GroundStation) -> Station:
    """With Earth-fixed metres on WGS-72, as Hypatia computes them."""
    if "," in one.name or not one.name.isprintable():
        raise ConfigError(f"station {one.name!r}: Hypatia's files part names by commas", "give it another name")
    latitude, longitude = np.radians(one.latitude_deg), np.radians(one.longitude_deg)
    e2 = WGS72_FLATTENING * (2.0 - WGS72_FLATTENING)
    normal = WGS72_RADIUS_M / np.sqrt(1.0 - e2 * np.sin(latitude) ** 2)
    across = (normal + one.height_m) * np.cos(latitude)
    place = (across * np.cos(longitude), across * np.sin(longitude),
             (normal * (1.0 - e2) + one.height_m) * np.sin(latitude))  # fmt: skip
    values = (one.latitude_deg, one.longitude_deg, one.height_m, *place)
    return Station(one.name, *(float(f"{value:f}") for value in values))


def _chunks(
    config: ScheduleConfig, satellites: Constellation, backwards: bool = False
) -> Iterator[tuple[Float, Ephemeris]]:
    """Offsets of the steps (the end is none) and states, a piece at a time, from knot to knot."""
    offset = np.arange(config.samples - 1, dtype=np.float64) * config.step_s
    whole = max(1, round(KNOT_S / config.step_s))
    size = max(whole, _CHUNK_BYTES // (48 * max(1, len(satellites.names))) // whole * whole)
    begins = range(0, offset.size, size)
    for first in reversed(begins) if backwards else begins:
        yield offset[first : first + size], satellites.states(offset[first : first + size])


def _links(config: ScheduleConfig, ours: Constellation, theirs: Constellation) -> tuple[Int, int]:
    """[L, 2] links that stand at every step, by rising ends, and how many others stand at some."""
    count = len(theirs.names)
    always: Int | None = None
    ever = np.empty(0, np.int64)
    for offset, states in _chunks(config, theirs):
        if config.relay == "constellation":
            between = edges(config.link_rule, ours.grid() if config.isl == "grid" else None, *states, offset)
        else:
            between = pairs_that_stand(config.link_rule, *np.triu_indices(count, 1), *states, offset)
        for one in between:
            codes = np.minimum(one.a, one.b) * count + np.maximum(one.a, one.b)
            always = np.unique(codes) if always is None else np.intersect1d(always, codes)
            ever = np.union1d(ever, codes)
    kept = always if always is not None else np.empty(0, np.int64)
    return np.stack([kept // count, kept % count], axis=1), ever.size - kept.size


def _steps(config: ScheduleConfig, satellites: Constellation, ends: Int) -> Iterator[Step]:
    count = len(satellites.names)
    graph = undirected(count, ends[:, 0], ends[:, 1])
    interfaces = _interfaces(graph, ends)
    before: Forwarding | None = None
    choices = [Choice(config.ground_rule) for _ in config.stations]
    if any(one.looks_ahead for one in choices):
        for offset, states in _chunks(config, satellites, backwards=True):
            for one, (visible, _) in zip(choices, _views(config, satellites, offset, states), strict=True):
                one.foresee(visible)
    for offset, states in _chunks(config, satellites):
        views = zip(choices, _views(config, satellites, offset, states), strict=True)
        ranges = [np.where(one.links(visible, distance), distance, np.inf) for one, (visible, distance) in views]
        for n, t in enumerate(offset.tolist()):
            place = states.position_km[n]
            length = np.linalg.norm(place[ends[:, 0]] - place[ends[:, 1]], axis=-1)
            after = forwarding(graph, length, np.stack([distance[n] for distance in ranges]))
            yield Step(round(t * 1e9), _rows(changed_hops(before, after), count, interfaces))
            before = after


def _views(
    config: ScheduleConfig, satellites: Constellation, offset: Float, states: Ephemeris
) -> Iterator[tuple[NDArray[np.bool_], Float]]:
    """Per station: which satellites are in view [T, S], and their distances."""
    day, fraction = julian_date(satellites.epoch)
    angle = sidereal_angle_rad(day + fraction + offset / 86_400.0)
    for station in config.stations:
        seen = look(station, states.position_km, states.velocity_km_s, angle)
        yield in_view(station, seen, config.max_range_km), seen.range_km


def _interfaces(graph: Graph, ends: Int) -> dict[tuple[int, int], int]:
    """(node, next hop) -> interface, counted by the order of links; (node, -1): the one to the ground, after them."""
    used, found = [0] * graph.nodes, dict[tuple[int, int], int]()
    for a, b in ends.tolist():
        for one, other in ((a, b), (b, a)):
            found[one, other] = used[one]
            used[one] += 1
    found.update({(node, -1): most for node, most in enumerate(used)})
    return found


def _rows(changed: NDArray[np.int32], satellites: int, interfaces: dict[tuple[int, int], int]) -> tuple[Forward, ...]:
    """Rows in Hypatia's order: from satellites, then from stations, each by node and goal."""
    found = []
    for station, node, hop in changed[np.lexsort((changed[:, 0], changed[:, 1]))].tolist():
        if node == satellites + station:
            continue
        if hop == DROPPED:
            own, its = -1, -1
        elif node >= satellites:
            own, its = 0, interfaces[hop, -1]
        elif hop >= satellites:
            own, its = interfaces[node, -1], 0
        else:
            own, its = interfaces[node, hop], interfaces[hop, node]
        found.append(Forward(node, satellites + station, hop, own, its))
    return tuple(found)
