"""The tables against the schedule they are made of, to the bit, forwards and back."""

from __future__ import annotations

import numpy as np
import pytest

from ground_controller.now_table import DelayTable, LightTable
from hil_config.wire.link_schedule import LIGHT, LINK, LinkSchedule, ScheduleArrays, ScheduleHeader

NAMES = ("a", "b", "c", "d")
ORDER = ("c", "a", "d")
"""Of the bench: fewer satellites than the schedule has, in another order."""


def drawn(seed: int) -> LinkSchedule:
    """Some pairs are not named, some begin late, one changes twice in the same instant."""
    rng = np.random.default_rng(seed)
    pairs = [(a, b) for a in NAMES for b in NAMES if a != b and rng.random() > 0.2]
    links = np.zeros(60, LINK)
    links["time_s"] = np.sort(rng.choice(np.arange(40.0), 60))
    links["pair"] = rng.integers(0, len(pairs), 60)
    links["delay_s"] = rng.uniform(0.0, 0.01, 60)
    links["delay_drift"] = rng.uniform(-2e-3, 2e-3, 60)
    links["up"] = rng.random(60) > 0.2
    lights = np.zeros(30, LIGHT)
    lights["time_s"] = np.sort(rng.choice(np.arange(1.0, 40.0), 30))
    lights["satellite"] = rng.permutation(np.arange(30) % len(NAMES))
    lights["sunlight"] = rng.random(30)
    lights["sunlight_drift"] = rng.uniform(-0.1, 0.1, 30)
    header = ScheduleHeader(
        epoch_utc="2026-01-01T00:00:00Z", duration_s=45.0, step_s=1.0, satellites=NAMES, pairs=tuple(pairs)
    )
    none = np.empty((0, len(NAMES), 3), np.float32)
    return LinkSchedule(
        header, ScheduleArrays(links, lights, np.empty(0), none, none, np.zeros(2, np.uint32), np.empty(0, np.uint32))
    )


@pytest.mark.parametrize("seed", range(8))
def test_tables_say_what_the_schedule_says(seed: int) -> None:
    schedule = drawn(seed)
    delays, light = DelayTable(schedule, ORDER), LightTable(schedule, ORDER)
    rng = np.random.default_rng(seed)
    forwards = np.sort(np.append(rng.uniform(-2.0, 50.0, 30), [0.0, 7.0, 7.0, 45.0]))
    for t in [*forwards.tolist(), *rng.uniform(0.0, 45.0, 10).tolist()]:
        wanted = np.zeros((3, 3))
        for i, a in enumerate(ORDER):
            for j, b in enumerate(ORDER):
                link = schedule.link(a, b, t)
                wanted[i, j] = 0.0 if i == j else link.delay_s if link.up else np.inf
        assert np.array_equal(delays.at(t), wanted)
        sun = [schedule.illumination(name, t) for name in ORDER]
        assert light.at(t).tolist() == sun
        assert light.many(np.array([t, 3.0]))[0].tolist() == sun


def test_every_answer_is_an_array_of_its_own() -> None:
    table = DelayTable(drawn(1), ORDER)
    first = table.at(10.0)
    before = first.copy()
    table.at(30.0)
    assert np.array_equal(first, before)
