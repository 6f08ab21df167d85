"""From a campaign's `orbit` section to its link schedules: compiled, or read from a file that was compiled before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ground_controller.formats.element_file import is_ephemeris, read_element_file
from ground_controller.formats.oem import read_oem
from ground_controller.orbit.compile import MAX_AGE_DAYS, compile_factual, compile_schedule
from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements
from ground_controller.orbit.faults import ScheduleFault
from ground_controller.orbit.ground import GroundStation
from ground_controller.orbit.instant import parse_instant
from ground_controller.orbit.propagate import left_out
from ground_controller.orbit.schedule_config import ScheduleConfig
from ground_controller.orbit.walker import WalkerShell
from ground_controller.plan_schedules import schedules_of_plans
from hil_config.errors import ConfigError, DataFileError, UsageError
from hil_config.schema.campaign import Campaign
from hil_config.schema.orbit import Orbit
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.schedule_file import encode_schedule, read_schedule, schedule_hash


@dataclass(frozen=True)
class Schedules:
    """Of one orbit: what planners expect, and what happens (the same where there are no faults)."""

    predicted: LinkSchedule
    factual: LinkSchedule
    warnings: tuple[str, ...] = ()


def schedule_config(orbit: Orbit, seed: int = 0) -> ScheduleConfig:
    """What a campaign's `orbit` section asks to be compiled; `seed` draws which links survive."""
    return ScheduleConfig(
        epoch_utc=orbit.epoch_utc, duration_s=orbit.duration_s, step_s=orbit.step_s,
        satellites=tuple(orbit.satellites), grazing_km=orbit.grazing_km, max_range_km=orbit.max_range_km,
        rate_bit_s=orbit.link_rate_mbit_s * 1e6, ground_rate_bit_s=orbit.link_rate_mbit_s * 1e6,
        relay=orbit.relay, isl=orbit.isl, neighbours=orbit.neighbours, loss=orbit.frame_loss,
        max_turn_deg_s=math.inf if orbit.max_turn_deg_s is None else orbit.max_turn_deg_s, survival=orbit.survival,
        redraw_s=math.inf if orbit.redraw_s is None else orbit.redraw_s, ground_rule=orbit.ground_rule,
        seed=seed if orbit.survival < 1.0 else 0,
        shells=tuple(WalkerShell(**shell.model_dump()) for shell in orbit.shells),
        stations=tuple(GroundStation(**station.model_dump()) for station in orbit.stations),
        faults=tuple(
            ScheduleFault(**{**fault.model_dump(), "end_s": math.inf if fault.end_s is None else fault.end_s})
            for fault in orbit.faults
        ),
    )  # fmt: skip


def compile_orbit(campaign: Campaign) -> Schedules:
    """The link schedules of a campaign.

    Raises:
        ConfigError: satellites without elements, elements too old, a schedule file or plan for another orbit.
        DataFileError: a file is malformed, a plan ends too early, or SGP4 cannot carry a mapped satellite to the
            epoch.
    """
    orbit = campaign.orbit
    if orbit.schedule is not None:
        found = _read(orbit, Path(orbit.schedule))
        return Schedules(found, found)
    if orbit.plan is not None:
        return Schedules(*schedules_of_plans(orbit, lambda: _from_elements(orbit, campaign.seed).predicted))
    return _from_elements(orbit, campaign.seed)


def _from_elements(orbit: Orbit, seed: int) -> Schedules:
    config, names, path = _described(orbit, seed)
    if is_ephemeris(path.name):
        return _from_ephemerides(config, names, path)
    elements = _elements(config, names, path)
    source = path.name if elements else "Walker shells"
    warnings = _warnings(config, elements, path)
    predicted = compile_schedule(config, elements, source)
    if not config.faults:
        return Schedules(predicted, predicted, warnings)
    digest = schedule_hash(encode_schedule(predicted))
    idle: list[str] = []
    factual = compile_factual(config, elements, source, predicted, digest, tell=idle.append)
    return Schedules(predicted, factual, (*warnings, *idle))


def orbit_sources(orbit: Orbit, seed: int = 0) -> tuple[ScheduleConfig, tuple[Elements, ...], tuple[str, ...]]:
    """What is compiled, its element sets, and warnings. Raises as `compile_orbit`; UsageError for an ephemeris."""
    config, names, path = _described(orbit, seed)
    if is_ephemeris(path.name) and (names or config.relay == "constellation"):
        raise UsageError(
            f"{path}: an ephemeris holds states, no elements", "give element sets or Walker shells at orbit.shells"
        )
    elements = () if is_ephemeris(path.name) else _elements(config, names, path)
    return config, elements, _warnings(config, elements, path)


def _described(orbit: Orbit, seed: int) -> tuple[ScheduleConfig, list[str], Path]:
    """What to compile, which mapped satellites its file must have, and the file."""
    config = schedule_config(orbit, seed)
    path = DEMO_ELEMENTS if orbit.elements == "demo" else Path(orbit.elements)
    described = {name for shell in config.shells for name in shell.names}
    described |= {station.name for station in config.stations}
    names = [name for name in config.satellites if name not in described]
    return config, names, path


def _elements(config: ScheduleConfig, names: Sequence[str], path: Path) -> tuple[Elements, ...]:
    """All of the file's sets where all relay, those of `names` elsewhere. Shells alone do without the demonstration's,
    which are the default."""
    if config.relay == "constellation" and not (config.shells and not names and path == DEMO_ELEMENTS):
        read_element_file(path, names)  # says which name is close to a wrong one
        return read_element_file(path)
    return read_element_file(path, names) if names else ()


def _from_ephemerides(config: ScheduleConfig, names: Sequence[str], path: Path) -> Schedules:
    """Schedules of the objects of an OEM file."""
    tracks = read_oem(path)
    known = [one.name for one in tracks]
    for name in names:
        if name not in known:
            raise DataFileError(f"{path}: no ephemeris of {name!r}", f"it has {', '.join(known[:10])}")
    warnings = tracks[0].warnings
    predicted = compile_schedule(config, (), path.name, tracks)
    if not config.faults:
        return Schedules(predicted, predicted, warnings)
    digest = schedule_hash(encode_schedule(predicted))
    idle: list[str] = []
    factual = compile_factual(config, (), path.name, predicted, digest, tracks, idle.append)
    return Schedules(predicted, factual, (*warnings, *idle))


def _warnings(config: ScheduleConfig, elements: Sequence[Elements], path: Path) -> tuple[str, ...]:
    """What is odd: rounded elements, and satellites that only relay left out or with elements from another time."""
    rounded = tuple(one.warning for one in elements if one.warning)
    if config.relay != "constellation" or not elements:
        return rounded
    epoch = parse_instant(config.epoch_utc)
    lost = left_out([one for one in elements if one.name not in config.satellites], epoch, (0.0, config.duration_s))
    told = [f"{path}: {name} left out: {reason}" for name, reason in lost.items()]
    old = [one for one in elements if abs((epoch - one.epoch).total_seconds()) > MAX_AGE_DAYS * 86_400.0]
    if old:
        first = old[0]
        told.append(
            f"{path}:{first.line}: elements of {first.name!r} are of {first.epoch:%Y-%m-%d}, more than"
            f" {MAX_AGE_DAYS:.0f} days from the epoch; so are those of {len(old) - 1} more"
        )
    return (*rounded, *told)


def _read(orbit: Orbit, path: Path) -> LinkSchedule:
    """A compiled file, if it is of this orbit and lasts as long as the campaign."""
    if orbit.faults or orbit.shells or orbit.stations:
        raise ConfigError(
            f"orbit.schedule: {path} is compiled already: faults, shells and stations cannot be added to it",
            "compile a schedule with them: hil schedule build",
        )
    found, _ = read_schedule(path)
    head = found.header
    missing = [name for name in orbit.satellites if name not in head.satellites]
    if missing:
        raise ConfigError(
            f"orbit.schedule: {path} has no satellite {', '.join(missing)}; it has {', '.join(head.satellites[:10])}",
            f"hil schedule show {path}",
        )
    if head.duration_s < orbit.duration_s:
        raise ConfigError(
            f"orbit.schedule: {path} ends after {head.duration_s:g} s, the campaign lasts {orbit.duration_s:g} s",
            f"lower orbit.duration_s to {head.duration_s:g}, or compile a longer schedule",
        )
    if parse_instant(head.epoch_utc) != parse_instant(orbit.epoch_utc):
        raise ConfigError(
            f"orbit.schedule: {path} begins at {head.epoch_utc}, the campaign at {orbit.epoch_utc}",
            f"write orbit.epoch_utc: {head.epoch_utc}",
        )
    return found
