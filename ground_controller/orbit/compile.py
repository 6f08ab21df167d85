"""From element sets and shells to the link schedules that nodes replay. Offline, deterministic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import permutations
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.attitude import array_power_w
from ground_controller.orbit.constellation import KNOT_S, Constellation, Track
from ground_controller.orbit.earth import ROTATION_RAD_S, place_km, sidereal_angle_rad, turned
from ground_controller.orbit.elements import Elements
from ground_controller.orbit.faults import FaultedEdges, ScheduleFault
from ground_controller.orbit.ground import Choice, in_view, look
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date, parse_instant
from ground_controller.orbit.kernels import illumination
from ground_controller.orbit.propagate import FRAME, Ephemeris, left_out
from ground_controller.orbit.reduction import Reduction
from ground_controller.orbit.schedule_config import ScheduleConfig
from ground_controller.orbit.sunlight import sun_position_km
from ground_controller.orbit.topology import Edges, edges, pairs_that_stand
from hil_config.errors import ConfigError
from hil_config.wire.link_schedule import LinkSchedule, ScheduleHeader
from hil_config.wire.schedule_changes import Samples, schedule_of

__all__ = ["MAX_AGE_DAYS", "ScheduleConfig", "compile_factual", "compile_schedule", "constellation_of"]

MAX_AGE_DAYS = 30.0
"""Elements further than this from the epoch are refused: SGP4 then errs by hundreds of kilometres."""

CHUNK_BYTES = 64 << 20
"""Positions and velocities held at a time."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class _Scene:
    """What is compiled: satellites, who of them is mapped, and time."""

    config: ScheduleConfig
    constellation: Constellation
    names: tuple[str, ...]
    mapped: NDArray[np.int64]

    @property
    def offset_s(self) -> Float:
        return np.arange(self.config.samples, dtype=np.float64) * self.config.step_s

    def julian(self, offset_s: Float) -> Float:
        day, fraction = julian_date(self.constellation.epoch)
        return np.asarray(day + fraction + offset_s / 86_400.0)

    def sun_km(self, offset_s: Float) -> Float:
        return sun_position_km(self.julian(offset_s + TERRESTRIAL_MINUS_UTC_S))

    def chunks(self, backwards: bool = False) -> Iterator[tuple[Float, Ephemeris]]:
        """Offsets and states, a piece at a time; pieces begin at multiples of the knots."""
        step, offset = self.config.step_s, self.offset_s
        fit = max(1, CHUNK_BYTES // (48 * len(self.names)))
        per_knot = round(KNOT_S / step)
        whole = per_knot if per_knot and abs(per_knot * step - KNOT_S) < 1e-9 else 1
        size = max(whole, fit // whole * whole)
        begins = range(0, offset.size, size)
        for first in reversed(begins) if backwards else begins:
            part = offset[first : first + size]
            yield part, self.constellation.states(part)


def compile_schedule(
    config: ScheduleConfig, elements: Sequence[Elements], source: str, tracks: Sequence[Track] = ()
) -> LinkSchedule:
    """The predicted schedule of the satellites of `config`, for every ordered pair of them; its faults are ignored.

    Args:
        elements: element sets; those of `config.satellites` must be among them or among its shells. The others
            count with relay `constellation` only; those of them that SGP4 cannot carry are left out and named.
        source: where the elements are from; kept in the header.
        tracks: ephemerides; those of `config.satellites` count, and with relay `constellation` the others too. They
            must cover the whole duration.

    The header's config text holds the configuration, the frame of the positions and the element lines used,
    so the file can be compiled again from itself; of tracks it holds the name alone.

    Raises:
        ConfigError: a satellite without elements, or elements older than `MAX_AGE_DAYS`.
        DataFileError: SGP4 cannot carry a mapped satellite's set to the epoch.
    """
    scene = _scene(config, elements, tracks)
    samples, reduction = _samples(scene, ())
    return schedule_of(_header(scene, reduction, source, "predicted"), samples)


def compile_factual(
    config: ScheduleConfig, elements: Sequence[Elements], source: str, predicted: LinkSchedule, predicted_sha256: str,
    tracks: Sequence[Track] = (), tell: Callable[[str], None] = lambda _: None,
) -> LinkSchedule:  # fmt: skip
    """What really happens: the schedule with the faults of `config`, each change that departs marked.

    Args:
        tell: gets a sentence on each fault that changes nothing.
    """
    scene = _scene(config, elements, tracks)
    samples, reduction = _samples(scene, config.faults, tell)
    then = predicted.sample(samples.time_s)
    up = np.asarray(samples.up) > 0
    apart = np.abs(np.where(up, samples.delay_s, 0.0) - then.delay_s) > 4.0 * config.delay_tolerance_s + 1e-9
    rate = np.where(up, samples.rate_bit_s, 0.0).astype(np.float32)  # as records hold it
    changed = (up != then.up) | (rate != then.rate_bit_s) | apart
    header = _header(scene, reduction, source, "factual")
    header = msgspec.structs.replace(header, predicted_sha256=predicted_sha256)
    return schedule_of(header, replace(samples, fault=changed))


def constellation_of(config: ScheduleConfig, elements: Sequence[Elements]) -> Constellation:
    """The satellites that a schedule of `config` is compiled from; the mapped ones of `elements` are first.

    Raises as `compile_schedule`.
    """
    return _scene(config, elements).constellation


def _scene(config: ScheduleConfig, elements: Sequence[Elements], tracks: Sequence[Track] = ()) -> _Scene:
    epoch = parse_instant(config.epoch_utc)
    shells = {name for shell in config.shells for name in shell.names}
    grounded = tuple(station.name for station in config.mapped_stations)  # numbered in this order, as `_sky` does
    relaying = config.relay == "constellation"
    tracks = tuple(one for one in tracks if relaying or one.name in config.satellites)
    elsewhere = {*shells, *grounded, *(one.name for one in tracks)}
    chosen = _choose(config, [n for n in config.satellites if n not in elsewhere], elements, epoch)
    members = chosen
    if relaying:
        known = {one.name for one in chosen}
        others = [one for one in elements if one.name not in known]
        lost = left_out(others, epoch, (0.0, config.duration_s))
        members = (*chosen, *(one for one in others if one.name not in lost))
    constellation = Constellation(epoch, members, config.shells, tracks=tracks)
    names = (*constellation.names, *grounded)
    index = {name: i for i, name in enumerate(names)}
    return _Scene(config, constellation, names, np.array([index[name] for name in config.satellites]))


def _choose(
    config: ScheduleConfig, wanted: Sequence[str], elements: Sequence[Elements], epoch: datetime
) -> tuple[Elements, ...]:
    by_name = {one.name: one for one in elements}
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise ConfigError(
            f"schedule: no elements for {', '.join(missing)}; the set has {len(by_name)} satellites",
            "use names of the element file, exactly as it writes them",
        )
    chosen = tuple(by_name[name] for name in wanted)
    twice = [one.name for one in chosen if sum(other.name == one.name for other in elements) > 1]
    if twice:
        raise ConfigError(
            f"schedule: more than one element set is called {', '.join(twice)}",
            "keep one of them under that name",
        )
    for one in chosen:
        age = (epoch - one.epoch).total_seconds() / 86_400.0
        if abs(age) > MAX_AGE_DAYS:
            at = f" in line {one.line}" if one.line else ""
            raise ConfigError(
                f"schedule: the epoch {config.epoch_utc} is {age:.1f} days from the elements of {one.name!r}{at}"
                f" ({one.epoch:%Y-%m-%dT%H:%M:%SZ}), at most {MAX_AGE_DAYS:.0f}",
                "choose an epoch near the elements, or newer elements",
            )
    return chosen


def _header(scene: _Scene, reduction: Reduction, source: str, kind: Literal["predicted", "factual"]) -> ScheduleHeader:
    config, epoch = scene.config, scene.constellation.epoch
    used = [{"name": e.name, "line1": e.line1, "line2": e.line2} for e in scene.constellation.elements]
    used += [{"name": one.name, "ephemeris": one.source} for one in scene.constellation.tracks]
    content = {"frame": FRAME, **_finite(asdict(config)), "elements": used}
    return ScheduleHeader(
        kind=kind, epoch_utc=f"{epoch:%Y-%m-%dT%H:%M:%S.%f}Z", duration_s=config.duration_s, step_s=config.step_s,
        satellites=config.satellites, stations=len(config.mapped_stations),
        pairs=tuple(permutations(config.satellites, 2)), nodes=tuple(scene.names[n] for n in reduction.nodes),
        delay_tolerance_s=config.delay_tolerance_s, source=source, config=msgspec.json.encode(content).decode(),
    )  # fmt: skip


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is unlimited is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _samples(
    scene: _Scene, faults: Sequence[ScheduleFault], tell: Callable[[str], None] = lambda _: None
) -> tuple[Samples, Reduction]:
    config = scene.config
    ahead = {fault.satellite: fault.value for fault in faults if fault.kind == "ephemeris_error"}
    scene = replace(scene, constellation=replace(scene.constellation, ahead_s=ahead))
    faulted = FaultedEdges(faults, {name: i for i, name in enumerate(scene.names)})
    satellites = len(scene.constellation.names)
    reduction = Reduction(satellites, len(scene.names), scene.mapped, config.loss, config.relay != "none")
    choices = _choices(scene)
    light, power = [], []
    for offset, states in scene.chunks():
        for n, linked in enumerate(_linked(scene, offset, states, choices)):
            rate = np.full(linked.a.shape, config.rate_bit_s)
            rate[linked.b >= len(scene.constellation.names)] = config.ground_rate_bit_s
            up, rate = faulted.apply(linked.a, linked.b, rate, float(offset[n]))
            reduction.add(Edges(linked.a[up], linked.b[up], linked.distance_km[up]), rate[up])
        lit, watts = _sunlight(scene, offset, states)
        light.append(lit)
        power.append(watts)
    for sentence in faulted.unmet:
        tell(sentence)
    found = reduction.finish()
    knots = np.append(np.arange(0.0, config.duration_s - 1e-6, KNOT_S), config.duration_s)
    tracks = _mapped_states(scene, knots, scene.constellation.exact(knots))
    return Samples(
        time_s=scene.offset_s, delay_s=found.delay_s, rate_bit_s=found.rate_bit_s, loss=found.loss,
        up=found.up, hops=found.hops, route=found.route, routes=found.routes,
        sunlight=np.concatenate(light), array_w=np.concatenate(power), track_time_s=knots,
        track_position_km=tracks.position_km.astype(np.float32),
        track_velocity_km_s=tracks.velocity_km_s.astype(np.float32),
    ), reduction  # fmt: skip


def _linked(scene: _Scene, offset: Float, states: Ephemeris, choices: Sequence[Choice]) -> Iterator[Edges]:
    """Links of all nodes, instant by instant, those of stations last."""
    config = scene.config
    satellites = len(scene.constellation.names)
    if config.relay == "constellation":
        grid = scene.constellation.grid() if config.isl == "grid" else None
        between = edges(config.link_rule, grid, *states, offset)
    else:
        chosen = np.sort(scene.mapped[scene.mapped < satellites])
        a, b = np.triu_indices(chosen.size, 1)
        between = pairs_that_stand(config.link_rule, chosen[a], chosen[b], *states, offset)
    sky = _sky(scene, offset, states, choices)
    for n, linked in enumerate(between):
        downs = [linked]
        for station, (seen, distance) in enumerate(sky, start=satellites):
            at = np.nonzero(seen[n])[0]
            downs.append(Edges(at, np.full(at.size, station), distance[n, at]))
        yield Edges(*(np.concatenate(part) for part in zip(*downs, strict=True)))


def _views(scene: _Scene, offset: Float, states: Ephemeris) -> Iterator[tuple[NDArray[np.bool_], Float]]:
    """Per mapped station: which satellites are in view [T, S], and their distances."""
    angle = sidereal_angle_rad(scene.julian(offset))
    for station in scene.config.mapped_stations:
        seen = look(station, states.position_km, states.velocity_km_s, angle)
        yield in_view(station, seen, scene.config.max_range_km), seen.range_km


def _choices(scene: _Scene) -> list[Choice]:
    """Per mapped station what it chooses by, with all that must be known beforehand."""
    found = [Choice(scene.config.ground_rule) for _ in scene.config.mapped_stations]
    if any(one.looks_ahead for one in found):
        for offset, states in scene.chunks(backwards=True):
            for one, (visible, _) in zip(found, _views(scene, offset, states), strict=True):
                one.foresee(visible)
    return found


def _sky(
    scene: _Scene, offset: Float, states: Ephemeris, choices: Sequence[Choice]
) -> list[tuple[NDArray[np.bool_], Float]]:
    """Per mapped station: which satellites it has links to [T, S], and their distances."""
    views = zip(choices, _views(scene, offset, states), strict=True)
    return [(one.links(visible, distance), distance) for one, (visible, distance) in views]


def _mapped_states(scene: _Scene, offset: Float, states: Ephemeris) -> Ephemeris:
    """States [T, M, 3] of the mapped satellites and stations, inertial."""
    satellites = len(scene.constellation.names)
    own = scene.mapped[scene.mapped < satellites]
    position, velocity = [states.position_km[:, own]], [states.velocity_km_s[:, own]]
    angle = sidereal_angle_rad(scene.julian(offset))
    for station in scene.config.mapped_stations:
        fixed = place_km(station.latitude_deg, station.longitude_deg, station.height_m / 1e3)
        place = turned(np.broadcast_to(fixed, (offset.size, 3)), -angle)
        turning = np.stack([-place[:, 1], place[:, 0], np.zeros(offset.size)], axis=-1) * ROTATION_RAD_S
        position.append(place[:, None])
        velocity.append(turning[:, None])
    return Ephemeris(np.concatenate(position, axis=1), np.concatenate(velocity, axis=1))


def _sunlight(scene: _Scene, offset: Float, states: Ephemeris) -> tuple[Float, Float]:
    """Illumination and array power [T, M]; a station has daylight (0 or 1) and no array."""
    mapped, sun = _mapped_states(scene, offset, states), scene.sun_km(offset)
    grounded = len(scene.config.mapped_stations)
    lit = illumination(mapped.position_km, sun)
    power = array_power_w(scene.config.array, lit, mapped.position_km, mapped.velocity_km_s, sun)
    if grounded:
        day = np.einsum("tmi,ti->tm", mapped.position_km[:, -grounded:], sun) > 0.0
        lit[:, -grounded:], power[:, -grounded:] = day, 0.0
    return lit, power
