"""What a fault makes of the factual schedule, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ground_controller.orbit.compile import ScheduleConfig, compile_factual, compile_schedule
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.orbit.faults import ScheduleFault
from ground_controller.orbit.ground import GroundStation
from hil_config.errors import ConfigError
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import LinkSamples
from hil_config.wire.schedule_file import encode_schedule, schedule_hash

A, B, C, D = "STARLINK-2617", "STARLINK-1364", "STARLINK-1412", "STARLINK-3672"
CONFIG = ScheduleConfig("2024-10-21T08:20:00Z", 600.0, 2.0, (A, B, C, D), max_range_km=4_500.0)
TIME = np.arange(0.0, 601.0, 2.0)
ELEMENTS = read_elements(DEMO_ELEMENTS)


def both(*faults: ScheduleFault, **changes: object) -> tuple[LinkSchedule, LinkSchedule]:
    config = replace(CONFIG, faults=faults, **changes)  # type: ignore[arg-type]
    predicted = compile_schedule(config, ELEMENTS, "x")
    factual = compile_factual(config, ELEMENTS, "x", predicted, schedule_hash(encode_schedule(predicted)))
    return predicted, factual


def pair(schedule: LinkSchedule, samples: LinkSamples, one: str, other: str) -> int:
    return schedule.header.pairs.index((one, other))


def test_an_outage_takes_a_link_down_both_ways_and_no_other() -> None:
    predicted, factual = both(ScheduleFault("outage", A, B, 100.0, 200.0))
    then, now = predicted.sample(TIME), factual.sample(TIME)
    during = (TIME >= 100.0) & (TIME < 200.0)
    for p, ends in enumerate(predicted.header.pairs):
        expected = then.up[:, p] & ~(during & (set(ends) == {A, B}))
        assert (now.up[:, p] == expected).all()
    assert factual.header.kind == "factual" and predicted.header.kind == "predicted"
    assert factual.header.predicted_sha256 == schedule_hash(encode_schedule(predicted))
    marked = factual.arrays.links[factual.arrays.links["fault"] == 1]
    assert set(marked["time_s"].tolist()) == {100.0}
    assert {predicted.header.pairs[p] for p in marked["pair"].tolist()} == {(A, B), (B, A)}


def test_a_rate_that_records_round_marks_nothing() -> None:
    _, factual = both(ScheduleFault("outage", A, B, 100.0, 200.0), rate_bit_s=123_456_789.0)
    marked = factual.arrays.links[factual.arrays.links["fault"] == 1]
    assert set(marked["time_s"].tolist()) == {100.0}


def test_an_outage_of_a_satellite_takes_all_its_links_and_others_go_round() -> None:
    _, factual = both(ScheduleFault("outage", C, start_s=0.0, end_s=300.0), relay="mapped")
    now = factual.sample(TIME)
    for p, ends in enumerate(factual.header.pairs):
        assert (now.up[:, p] == ((TIME >= 300.0) | (C not in ends))).all()
    assert factual.route(A, D, 280.0) == (A, B, D)  # its direct link is out of range, and C is dead


def test_a_rate_drop_is_a_factor() -> None:
    predicted, factual = both(ScheduleFault("rate_drop", A, B, 50.0, 60.0, 0.25))
    assert factual.link(A, B, 55.0).rate_bit_s == 0.25 * predicted.link(A, B, 55.0).rate_bit_s
    assert factual.link(A, C, 55.0) == predicted.link(A, C, 55.0)
    assert factual.link(A, B, 60.0).rate_bit_s == predicted.link(A, B, 60.0).rate_bit_s
    assert factual.sample(TIME).delay_s == pytest.approx(predicted.sample(TIME).delay_s, abs=3e-6)


def test_a_late_contact_rises_late_and_an_early_one_is_left_alone() -> None:
    predicted, factual = both(ScheduleFault("late_contact", A, D, value=30.0))
    then, now = predicted.sample(TIME), factual.sample(TIME)
    p = pair(predicted, then, A, D)
    gone = TIME[then.up[:, p] & ~now.up[:, p]]
    rise = TIME[1:][then.up[1:, p] & ~then.up[:-1, p]][0]
    assert (gone == np.arange(rise, rise + 30.0, 2.0)).all()
    assert now.up[0, p]


def test_an_ephemeris_error_shifts_delay_and_sunset() -> None:
    predicted, factual = both(ScheduleFault("ephemeris_error", D, value=5.0))
    for t in (0.0, 100.0):
        assert factual.illumination(D, t) == pytest.approx(predicted.illumination(D, t + 5.0), abs=1e-3)
        assert factual.link(A, D, t).delay_s != pytest.approx(predicted.link(A, D, t).delay_s, abs=1e-5)
        assert factual.link(A, B, t) == predicted.link(A, B, t)
    shift = np.linalg.norm(factual.position_km(TIME) - predicted.position_km(TIME), axis=-1)
    assert shift[:, 3] == pytest.approx(np.full(TIME.size, 5.0 * 7.58), rel=0.01)
    assert shift[:, :3].max() == 0.0


def test_no_fault_no_difference() -> None:
    predicted, factual = both()
    assert (factual.arrays.links == predicted.arrays.links).all()
    assert not factual.arrays.links["fault"].any()


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"kind": "meteor"}, "kind is 'meteor'"),
        ({"kind": "outage", "start_s": 5.0, "end_s": 5.0}, "start_s < end_s"),
        ({"kind": "rate_drop", "value": 2.0}, "a factor from 0 to 1"),
        ({"kind": "late_contact", "value": 2.0}, "the other end"),
        ({"kind": "ephemeris_error", "value": 601.0}, "along the track"),
        ({"kind": "outage", "value": 1.0}, "no value"),
        ({"kind": "outage", "other": A}, "both ends of the link are the same"),
        ({"kind": "ephemeris_error", "value": 1.0, "end_s": 60.0}, "lasts all the time"),
        ({"kind": "ephemeris_error", "value": 1.0, "start_s": 60.0}, "lasts all the time"),
        ({"kind": "ephemeris_error", "value": 1.0, "other": B}, "is of the satellite"),
    ],
)
def test_faults_that_cannot_be(values: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        ScheduleFault(**{"satellite": A, **values})  # type: ignore[arg-type]


def test_stations_move_with_the_earth_and_have_one_place_each() -> None:
    here = GroundStation("here", 0.0, 0.0)
    with pytest.raises(ConfigError, match="has no ephemeris"):
        replace(CONFIG, stations=(here,), faults=(ScheduleFault("ephemeris_error", "here", value=1.0),))
    with pytest.raises(ConfigError, match="wanted different names"):
        replace(CONFIG, stations=(here, replace(here, latitude_deg=10.0)))


def test_a_fault_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="called 'NOBODY'"):
        both(ScheduleFault("outage", "NOBODY"))


def test_a_fault_that_meets_no_link_is_told() -> None:
    """Of two that are too far apart for a link, or of a time after the orbit."""
    told: list[str] = []
    faults = (
        ScheduleFault("outage", A, B, 100.0, 200.0), ScheduleFault("outage", A, D, 300.0, 400.0),
        ScheduleFault("rate_drop", C, "", 700.0, 800.0, 0.5), ScheduleFault("ephemeris_error", B, value=1.0),
    )  # fmt: skip
    config = replace(CONFIG, faults=faults)
    compile_factual(config, ELEMENTS, "x", compile_schedule(config, ELEMENTS, "x"), "", tell=told.append)
    assert [text.partition(" changes")[0] for text in told] == [
        f"fault 'outage' of '{A}'",
        f"fault 'rate_drop' of '{C}'",
    ]
    assert f"no link of its own to '{D}' while it lasts" in told[0]
