from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ground_controller.orbit.compile import ScheduleConfig, compile_schedule
from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements, read_elements
from ground_controller.orbit.propagate import FRAME
from hil_config.errors import ConfigError
from hil_config.units import SPEED_OF_LIGHT_M_S
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import DOWN, LinkSamples
from hil_config.wire.schedule_file import decode_schedule, encode_schedule

GATEWAY, NEAR, SIDE, FAR = "STARLINK-2617", "STARLINK-1364", "STARLINK-1412", "STARLINK-3672"
DEMO = ScheduleConfig("2024-10-21T08:20:00Z", 600.0, 1.0, (GATEWAY, NEAR, SIDE, FAR), max_range_km=4_500.0, loss=0.01)
SECONDS = np.arange(601.0)


@pytest.fixture(scope="module")
def elements() -> tuple[Elements, ...]:
    return read_elements(DEMO_ELEMENTS)


@pytest.fixture(scope="module")
def demo(elements: tuple[Elements, ...]) -> LinkSchedule:
    return compile_schedule(DEMO, elements, "starlink_demo.tle")


def column(schedule: LinkSchedule, source: str, target: str) -> int:
    return schedule.header.pairs.index((source, target))


@pytest.fixture(scope="module")
def sampled(demo: LinkSchedule) -> LinkSamples:
    return demo.sample(SECONDS)


def test_the_demonstration_is_what_its_readme_says(demo: LinkSchedule, sampled: LinkSamples) -> None:
    down = SECONDS[~sampled.up[:, column(demo, GATEWAY, FAR)]]
    assert (down[0], down[-1], down.size) == (278.0, 433.0, 156)
    others = [p for p, pair in enumerate(demo.header.pairs) if set(pair) != {GATEWAY, FAR}]
    assert sampled.up[:, others].all()
    side = sampled.delay_s[:, column(demo, GATEWAY, SIDE)] * 1e3
    assert (side.min(), side.max()) == pytest.approx((9.07, 11.21), abs=0.01)
    assert demo.illumination(FAR, 172.0) == 1.0
    assert demo.illumination(FAR, 197.0) == 0.0
    assert demo.illumination(SIDE, 397.0) == 1.0
    assert demo.illumination(SIDE, 418.0) == 0.0
    assert demo.illumination(GATEWAY, 0.0) == demo.illumination(NEAR, 600.0) == 0.0


def test_links_are_symmetric(demo: LinkSchedule, sampled: LinkSamples) -> None:
    for p, (source, target) in enumerate(demo.header.pairs):
        back = column(demo, target, source)
        assert (sampled.delay_s[:, p] == sampled.delay_s[:, back]).all()
        assert (sampled.up[:, p] == sampled.up[:, back]).all()


def test_delay_is_the_distance_between_the_stored_tracks(demo: LinkSchedule, sampled: LinkSamples) -> None:
    place = demo.position_km(SECONDS)
    for p, (source, target) in enumerate(demo.header.pairs):
        a, b = place[:, DEMO.satellites.index(source)], place[:, DEMO.satellites.index(target)]
        light = np.linalg.norm(b - a, axis=1) * 1e3 / SPEED_OF_LIGHT_M_S
        on = sampled.up[:, p]
        assert sampled.delay_s[on, p] == pytest.approx(light[on], abs=DEMO.delay_tolerance_s + 1e-8)
        assert light.max() < 4_600e3 / SPEED_OF_LIGHT_M_S


def test_a_schedule_holds_changes_only(demo: LinkSchedule) -> None:
    """7,212 samples of 12 pairs become few records, and each moment's delay is within a microsecond."""
    assert len(demo.arrays.links) < 600
    exact = compile_schedule(replace(DEMO, delay_tolerance_s=0.0), read_elements(DEMO_ELEMENTS), "x").sample(SECONDS)
    found = demo.sample(SECONDS)
    assert (exact.up == found.up).all()
    assert np.abs(exact.delay_s - found.delay_s).max() <= DEMO.delay_tolerance_s + 1e-9


def test_a_down_link_has_no_rate_and_loses_all(sampled: LinkSamples) -> None:
    up = sampled.up
    assert (sampled.rate_bit_s[up] == DEMO.rate_bit_s).all()
    assert sampled.loss[up] == pytest.approx(0.01, rel=1e-6)
    assert (sampled.rate_bit_s[~up] == 0.0).all()
    assert (sampled.loss[~up] == 1.0).all()


def test_bytes_are_the_same_every_time_and_read_back(elements: tuple[Elements, ...], demo: LinkSchedule) -> None:
    data = encode_schedule(demo)
    again = compile_schedule(DEMO, tuple(reversed(elements)), "starlink_demo.tle")
    assert encode_schedule(again) == data
    assert decode_schedule(data).header == demo.header
    assert encode_schedule(decode_schedule(data)) == data


def test_the_header_holds_what_was_compiled(demo: LinkSchedule) -> None:
    config = json.loads(demo.header.config)
    assert config["frame"] == FRAME
    again = compile_schedule(DEMO, [Elements(**one) for one in config["elements"]], demo.header.source)
    assert encode_schedule(again) == encode_schedule(demo)
    for name in ("epoch_utc", "duration_s", "step_s", "max_range_km", "relay", "loss"):
        assert config[name] == getattr(DEMO, name)


def test_step_does_not_change_what_is_seen(elements: tuple[Elements, ...]) -> None:
    exact = replace(DEMO, delay_tolerance_s=0.0)
    fine = compile_schedule(exact, elements, "x").sample(SECONDS[::10])
    coarse = compile_schedule(replace(exact, step_s=10.0), elements, "x").sample(SECONDS[::10])
    assert (coarse.up == fine.up).all()
    assert coarse.delay_s == pytest.approx(fine.delay_s, abs=1e-9)


def test_relay_bridges_the_outage(elements: tuple[Elements, ...], demo: LinkSchedule, sampled: LinkSamples) -> None:
    schedule = compile_schedule(replace(DEMO, relay="mapped"), elements, "x")
    relayed = schedule.sample(SECONDS)
    assert relayed.up.all()
    p = column(demo, GATEWAY, FAR)
    out = ~sampled.up[:, p]
    assert relayed.delay_s[~out] == pytest.approx(sampled.delay_s[~out], abs=2e-6)
    over_side = sampled.delay_s[:, column(demo, GATEWAY, SIDE)] + sampled.delay_s[:, column(demo, SIDE, FAR)]
    over_near = sampled.delay_s[:, column(demo, GATEWAY, NEAR)] + sampled.delay_s[:, column(demo, NEAR, FAR)]
    assert relayed.delay_s[out, p] == pytest.approx(np.minimum(over_side, over_near)[out], abs=3e-6)
    assert relayed.loss[out, p] == pytest.approx(1.0 - 0.99**2, rel=1e-6)
    assert (relayed.hops[out, p] == 2).all() and (relayed.hops[~out, p] == 1).all()
    assert schedule.route(GATEWAY, FAR, 0.0) == (GATEWAY, FAR)
    assert schedule.route(GATEWAY, FAR, 300.0) in {(GATEWAY, SIDE, FAR), (GATEWAY, NEAR, FAR)}
    assert schedule.route(FAR, GATEWAY, 300.0) == schedule.route(GATEWAY, FAR, 300.0)[::-1]


def test_relay_over_several_hops_and_none(elements: tuple[Elements, ...]) -> None:
    tight = compile_schedule(replace(DEMO, relay="mapped", max_range_km=3_400.0, step_s=60.0), elements, "x")
    assert tight.link(NEAR, FAR, 0.0).loss == pytest.approx(1.0 - 0.99**3, rel=1e-6)
    assert tight.sample(SECONDS).up[:, column(tight, NEAR, FAR)].all()
    alone = compile_schedule(replace(DEMO, relay="mapped", max_range_km=1_000.0, step_s=60.0), elements, "x")
    assert not alone.sample(SECONDS).up.any()
    assert alone.link(GATEWAY, FAR, 5.0) == DOWN and alone.route(GATEWAY, FAR, 5.0) == ()


def test_the_whole_constellation_relays_and_others_count_as_hops(elements: tuple[Elements, ...]) -> None:
    config = replace(DEMO, relay="constellation", max_range_km=2_500.0, step_s=60.0)
    whole = compile_schedule(config, elements, "x")
    mapped = compile_schedule(replace(config, relay="mapped"), elements, "x")
    assert not mapped.link(GATEWAY, FAR, 0.0).up
    path = whole.route(GATEWAY, FAR, 0.0)
    assert len(path) > 2 and set(path[1:-1]) - set(DEMO.satellites)
    assert whole.link(GATEWAY, FAR, 0.0).loss == pytest.approx(1.0 - 0.99 ** (len(path) - 1), rel=1e-6)
    direct = compile_schedule(replace(config, relay="none", max_range_km=9_000.0), elements, "x")
    assert whole.link(GATEWAY, FAR, 0.0).delay_s > direct.link(GATEWAY, FAR, 0.0).delay_s


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"step_s": 7.0}, "not a whole number of steps"),
        ({"step_s": 0.0}, "step_s is 0.0"),
        ({"duration_s": 0.5}, "not a whole number of steps"),
        ({"duration_s": float("nan")}, "finite"),
        ({"step_s": 1e-4}, "samples"),
        ({"loss": 1.5}, "loss is 1.5"),
        ({"satellites": ("A",)}, "at least two"),
        ({"satellites": ("A", "A")}, "at least two"),
    ],
)
def test_configurations_that_cannot_be(change: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        replace(DEMO, **change)  # type: ignore[arg-type]


def test_satellites_and_epochs_must_fit_the_elements(elements: tuple[Elements, ...]) -> None:
    with pytest.raises(ConfigError, match="no elements for NOBODY"):
        compile_schedule(replace(DEMO, satellites=(GATEWAY, "NOBODY")), elements, "x")
    with pytest.raises(ConfigError, match="days from the elements"):
        compile_schedule(replace(DEMO, epoch_utc="2025-10-21T00:00:00Z"), elements, "x")
    with pytest.raises(ConfigError, match="more than one element set"):
        compile_schedule(DEMO, (*elements, *elements), "x")
