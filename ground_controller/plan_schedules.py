"""From the contact plans that a campaign names to its schedules: one predicted, and one factual if it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ground_controller.formats.plan import Imported
from ground_controller.formats.plan_schedule import Sky, Window, early_end, schedule_of_plan
from ground_controller.formats.registry import read_plan
from hil_config.errors import ConfigError
from hil_config.schema.orbit import Orbit
from hil_config.wire.link_schedule import LinkSchedule


def schedules_of_plans(
    orbit: Orbit, compile_sky: Callable[[], LinkSchedule]
) -> tuple[LinkSchedule, LinkSchedule, tuple[str, ...]]:
    """(predicted, factual, warnings): schedules of `orbit.plan` and `orbit.plan_factual`, the same where there is no
    such.

    Args:
        compile_sky: compiles the campaign's elements; asked for sunlight where `orbit.plan_sunlight` states none.

    Raises:
        ConfigError: the campaign asks for what a plan cannot have, or a satellite that the plan does not name.
        DataFileError: a plan is malformed, overlaps, or ends before the campaign does.
    """
    assert orbit.plan is not None
    if orbit.faults:
        raise ConfigError(
            "orbit.faults: a campaign that replays a contact plan cannot have faults too",
            "write what really happens into a second plan: orbit.plan_factual",
        )
    window = Window(tuple(orbit.satellites), orbit.epoch_utc, orbit.duration_s, orbit.step_s)
    stated = orbit.plan_sunlight
    sky = Sky(stated=stated) if stated is not None else Sky(compiled=compile_sky())
    expected = _plan(orbit.plan)
    predicted = schedule_of_plan(expected.plan, orbit.plan, window, sky)
    warnings = (*expected.warnings, *early_end(expected.plan, orbit.plan, window))
    if orbit.plan_factual is None:
        return predicted, predicted, warnings
    flown = _plan(orbit.plan_factual)
    factual = schedule_of_plan(flown.plan, orbit.plan_factual, window, sky, predicted)
    return predicted, factual, (*warnings, *flown.warnings, *early_end(flown.plan, orbit.plan_factual, window))


def _plan(path: str) -> Imported:
    return read_plan(Path(path), "csv", {})
