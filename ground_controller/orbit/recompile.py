"""A schedule compiled again from what its own header says: the proof that it is what it says."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

from ground_controller.orbit.attitude import Array
from ground_controller.orbit.compile import compile_factual, compile_schedule
from ground_controller.orbit.elements import Elements
from ground_controller.orbit.faults import ScheduleFault
from ground_controller.orbit.ground import GroundStation
from ground_controller.orbit.schedule_config import ScheduleConfig
from ground_controller.orbit.walker import WalkerShell
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.schedule_file import encode_schedule, schedule_hash

_PARTS: dict[str, Any] = {"shells": WalkerShell, "stations": GroundStation, "faults": ScheduleFault}


def config_of(schedule: LinkSchedule) -> tuple[ScheduleConfig, tuple[Elements, ...]] | None:
    """Configuration and elements in a schedule's header; None if it was not compiled from elements or shells."""
    content = json.loads(schedule.header.config)
    if "elements" not in content or "satellites" not in content:
        return None
    if any(set(one) != {"name", "line1", "line2"} for one in content["elements"]):
        return None  # an ephemeris: the header names it and does not hold its states
    elements = tuple(Elements(**one) for one in content.pop("elements"))
    content.pop("frame", None)
    known = {field.name for field in fields(ScheduleConfig)}
    values = {key: _tuples(_unlimited(value)) for key, value in content.items() if key in known}
    for key, kind in _PARTS.items():
        values[key] = tuple(kind(**{k: _tuples(_unlimited(v)) for k, v in one.items()}) for one in content[key])
    values["array"] = Array(**content["array"])
    return ScheduleConfig(**values), elements


def _unlimited(value: Any) -> Any:
    return math.inf if value is None else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def compile_again(schedule: LinkSchedule) -> LinkSchedule | None:
    """The schedule that its header describes; None if the header describes none."""
    found = config_of(schedule)
    if found is None:
        return None
    config, elements = found
    predicted = compile_schedule(config, elements, schedule.header.source)
    if schedule.header.kind == "predicted":
        return predicted
    digest = schedule_hash(encode_schedule(predicted))
    return compile_factual(config, elements, schedule.header.source, predicted, digest)
