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
from hil_config.wire.schedule_file import LinkSchedule, decode_schedule, encode_schedule

GATEWAY, NEAR, SIDE, FAR = "STARLINK-2617", "STARLINK-1364", "STARLINK-1412", "STARLINK-3672"
DEMO = ScheduleConfig("2024-10-21T08:20:00Z", 600.0, 1.0, (GATEWAY, NEAR, SIDE, FAR), max_range_km=4_500.0, loss=0.01)


@pytest.fixture(scope="module")
def elements() -> tuple[Elements, ...]:
    return read_elements(DEMO_ELEMENTS)


@pytest.fixture(scope="module")
def demo(elements: tuple[Elements, ...]) -> LinkSchedule:
    return compile_schedule(DEMO, elements, "starlink_demo.tle")


def column(schedule: LinkSchedule, source: str, target: str) -> int:
    return schedule.header.pairs.index((source, target))


def test_the_demonstration_is_what_its_readme_says(demo: LinkSchedule) -> None:
    down = demo.time_s[demo.up[:, column(demo, GATEWAY, FAR)] == 0]
    assert (down[0], down[-1], down.size) == (278.0, 433.0, 156)
    others = [p for p, pair in enumerate(demo.header.pairs) if set(pair) != {GATEWAY, FAR}]
    assert demo.up[:, others].all()
    side = demo.delay_s[:, column(demo, GATEWAY, SIDE)] * 1e3
    assert (side.min(), side.max()) == pytest.approx((9.07, 11.21), abs=0.01)
    assert demo.illumination(FAR, 172.0) == 1.0
    assert demo.illumination(FAR, 197.0) == 0.0
    assert demo.illumination(SIDE, 397.0) == 1.0
    assert demo.illumination(SIDE, 418.0) == 0.0
    assert demo.illumination(GATEWAY, 0.0) == demo.illumination(NEAR, 600.0) == 0.0


def test_links_are_symmetric(demo: LinkSchedule) -> None:
    for p, (source, target) in enumerate(demo.header.pairs):
        back = column(demo, target, source)
        assert (demo.delay_s[:, p] == demo.delay_s[:, back]).all()
        assert (demo.up[:, p] == demo.up[:, back]).all()


def test_delay_is_the_distance_between_the_stored_positions(demo: LinkSchedule) -> None:
    for p, (source, target) in enumerate(demo.header.pairs):
        a = demo.position_km[:, DEMO.satellites.index(source)].astype(np.float64)
        b = demo.position_km[:, DEMO.satellites.index(target)].astype(np.float64)
        light = np.linalg.norm(b - a, axis=1) * 1e3 / SPEED_OF_LIGHT_M_S
        assert demo.delay_s[:, p] == pytest.approx(light, abs=1e-8)
        assert light.max() < 4_600e3 / SPEED_OF_LIGHT_M_S


def test_a_down_link_has_no_rate_and_loses_all(demo: LinkSchedule) -> None:
    up = demo.up.astype(bool)
    assert (demo.rate_bit_s[up] == np.float32(DEMO.rate_bit_s)).all()
    assert (demo.loss[up] == np.float32(0.01)).all()
    assert (demo.rate_bit_s[~up] == 0.0).all()
    assert (demo.loss[~up] == 1.0).all()


def test_bytes_are_the_same_every_time_and_read_back(elements: tuple[Elements, ...], demo: LinkSchedule) -> None:
    data = encode_schedule(demo)
    again = compile_schedule(DEMO, tuple(reversed(elements)), "starlink_demo.tle")
    assert encode_schedule(again) == data
    assert decode_schedule(data).header == demo.header


def test_the_header_holds_what_was_compiled(demo: LinkSchedule) -> None:
    config = json.loads(demo.header.config)
    assert config["frame"] == FRAME
    lines = [Elements(**one) for one in config.pop("elements")]
    del config["frame"]
    config["satellites"] = tuple(config["satellites"])
    again = compile_schedule(ScheduleConfig(**config), lines, demo.header.source)
    assert encode_schedule(again) == encode_schedule(demo)


def test_step_does_not_change_what_is_seen(elements: tuple[Elements, ...], demo: LinkSchedule) -> None:
    coarse = compile_schedule(replace(DEMO, step_s=10.0), elements, "x")
    assert (coarse.delay_s == demo.delay_s[::10]).all()
    assert (coarse.up == demo.up[::10]).all()


def test_relay_bridges_the_outage(elements: tuple[Elements, ...], demo: LinkSchedule) -> None:
    relayed = compile_schedule(replace(DEMO, relay=True), elements, "x")
    assert relayed.up.all()
    p = column(demo, GATEWAY, FAR)
    out = demo.up[:, p] == 0
    assert (relayed.delay_s[~out] == demo.delay_s[~out]).all()
    over_side = demo.delay_s[:, column(demo, GATEWAY, SIDE)] + demo.delay_s[:, column(demo, SIDE, FAR)]
    over_near = demo.delay_s[:, column(demo, GATEWAY, NEAR)] + demo.delay_s[:, column(demo, NEAR, FAR)]
    assert relayed.delay_s[out, p] == pytest.approx(np.minimum(over_side, over_near)[out], rel=1e-6)
    assert relayed.loss[out, p] == pytest.approx(1.0 - 0.99**2, rel=1e-6)
    assert (relayed.delay_s >= demo.delay_s).all()


def test_relay_over_several_hops_and_none(elements: tuple[Elements, ...]) -> None:
    tight = compile_schedule(replace(DEMO, relay=True, max_range_km=3_400.0, step_s=60.0), elements, "x")
    p = column(tight, NEAR, FAR)
    assert tight.up[:, p].all()
    assert tight.loss[0, p] == pytest.approx(1.0 - 0.99**3, rel=1e-6)
    alone = compile_schedule(replace(DEMO, relay=True, max_range_km=1_000.0, step_s=60.0), elements, "x")
    assert not alone.up.any()
    assert (alone.delay_s > 0.0).all()


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
