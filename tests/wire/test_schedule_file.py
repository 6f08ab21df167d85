"""The schedule file: changes only, streamed, sought and mapped, with the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_config.errors import DataFileError
from hil_config.wire.link_schedule import LinkSchedule, ScheduleHeader
from hil_config.wire.link_state import DOWN
from hil_config.wire.schedule_changes import Samples, schedule_of
from hil_config.wire.schedule_file import decode_schedule, encode_schedule, map_schedule

N, NAMES = 400, ("A", "B", "C")
PAIRS = tuple((a, b) for a in NAMES for b in NAMES if a != b)


def header(duration_s: float, tolerance_s: float = 1e-6) -> ScheduleHeader:
    return ScheduleHeader(
        epoch_utc="2024-10-21T08:20:00Z", duration_s=duration_s, step_s=1.0, satellites=NAMES, pairs=PAIRS,
        nodes=NAMES, delay_tolerance_s=tolerance_s, source="test",
    )  # fmt: skip


def samples(seed: int, n: int = N) -> Samples:
    """Smooth delays, outages, rates that change, sunsets."""
    rng = np.random.default_rng(seed)
    t = np.arange(float(n))
    phase = rng.uniform(0, 6, len(PAIRS))
    delay = 0.01 + 0.005 * np.sin(t[:, None] / 90.0 + phase)
    up = np.sin(t[:, None] / 40.0 + 3 * phase) > -0.7
    rate = np.where(rng.random((n, len(PAIRS))) < 0.01, 5e7, 1e8)
    light = np.clip(0.5 + 8.0 * np.sin(t[:, None] / 60.0 + np.arange(3)), 0.0, 1.0)
    route = np.where(up, 1 + (t[:, None] > n / 2), 0)
    return Samples(
        t, delay, rate, np.full(delay.shape, 0.01), up, light, 30.0 * light, route=route, hops=route,
        routes=((0, 1), (0, 2, 1)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def schedule() -> LinkSchedule:
    return schedule_of(header(N - 1.0), samples(1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-6, 1e-4]))
def test_every_sample_is_met_within_the_tolerance(seed: int, tolerance_s: float) -> None:
    given_, n = samples(seed, 120), 120
    made = schedule_of(header(n - 1.0, tolerance_s), given_)
    found, up = made.sample(given_.time_s), np.asarray(given_.up)
    assert (found.up == up).all()
    assert np.abs(found.delay_s - given_.delay_s)[up].max() <= tolerance_s + 2e-9  # float32
    assert (found.rate_bit_s[up] == given_.rate_bit_s[up]).all()
    light = np.array([[made.illumination(name, t) for name in NAMES] for t in given_.time_s])
    assert np.abs(light - given_.sunlight).max() <= 1.01e-4
    assert ((light == 0.0) == (given_.sunlight == 0.0)).all()
    power = np.array([[made.array_power_w(name, t) for name in NAMES] for t in given_.time_s])
    assert np.abs(power - 30.0 * given_.sunlight).max() <= 3.1e-3


def test_it_is_much_smaller_than_its_samples(schedule: LinkSchedule) -> None:
    assert len(schedule.arrays.links) < N * len(PAIRS) / 6


def test_sampled_and_asked_one_by_one_are_the_same(schedule: LinkSchedule) -> None:
    t = np.random.default_rng(2).uniform(-5.0, N + 5.0, 200)
    table = schedule.sample(t)
    for n, when in enumerate(t.tolist()):
        for p, pair in enumerate(PAIRS):
            state = schedule.link(*pair, when)
            assert state.up == table.up[n, p]
            assert state.delay_s == pytest.approx(table.delay_s[n, p], abs=1e-15)
            assert (state.rate_bit_s, state.loss) == (table.rate_bit_s[n, p], table.loss[n, p])
    assert len(PAIRS) > 2
    for few, many in zip(schedule.sample(t[:2]), table, strict=True):  # fewer instants than pairs: another loop
        assert few.tobytes() == many[:2].tobytes()


def test_streaming_the_changes_gives_the_state_at_every_step(schedule: LinkSchedule) -> None:
    held: dict[int, np.void] = {}
    before = -1.0
    for t in np.arange(0.0, float(N), 7.0).tolist():
        for record in schedule.changes(before, t):
            held[int(record["pair"])] = record
        before = t
        for p, pair in enumerate(PAIRS):
            record = held[p]
            state = schedule.link(*pair, t)
            assert bool(record["up"]) == state.up
            if state.up:
                moved = float(record["delay_s"]) + (t - float(record["time_s"])) * float(record["delay_drift"])
                assert moved == pytest.approx(state.delay_s, abs=1e-12)


def test_next_change_walks_through_all_of_them(schedule: LinkSchedule) -> None:
    times, t = [], -1.0
    while (t := schedule.next_change_s(t)) != float("inf"):
        times.append(t)
    assert times == sorted(set(schedule.arrays.links["time_s"].tolist()))


def test_routes_change_with_the_records(schedule: LinkSchedule) -> None:
    for t, wanted in ((0.0, ("A", "B")), (N - 1.0, ("A", "C", "B"))):
        state = schedule.link("A", "B", t)
        assert schedule.route("A", "B", t) == (wanted if state.up else ())
    assert schedule.link("A", "nobody", 0.0) == DOWN and schedule.route("A", "nobody", 0.0) == ()


def test_a_mapped_file_answers_like_its_bytes(schedule: LinkSchedule, tmp_path: Path) -> None:
    path = tmp_path / "x.hsched"
    path.write_bytes(encode_schedule(schedule))
    mapped, read = map_schedule(path), decode_schedule(path.read_bytes())
    assert not mapped.arrays.links.flags.owndata and not mapped.arrays.links.flags.writeable
    for t in (0.0, 3.3, 200.0, 1e9):
        for pair in PAIRS:
            assert mapped.link(*pair, t) == read.link(*pair, t) == schedule.link(*pair, t)
    assert encode_schedule(mapped) == path.read_bytes()
    (tmp_path / "empty").touch()
    for name in ("empty", "none"):
        with pytest.raises(DataFileError, match="cannot be mapped"):
            map_schedule(tmp_path / name)


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("pair", 99, "pair is not among"),
        ("time_s", -1.0, "times must rise"),
        ("time_s", np.nan, "not finite"),
        ("delay_s", -1.0, "below 0"),
        ("loss", 1.5, "outside 0..1"),
        ("up", 2, "neither 0 nor 1"),
        ("route", 7, "unknown route"),
    ],
)
def test_records_that_cannot_be(schedule: LinkSchedule, field: str, value: float, part: str) -> None:
    from dataclasses import replace

    links = schedule.arrays.links.copy()
    links[field][3] = value
    with pytest.raises(DataFileError, match=part):
        LinkSchedule(schedule.header, replace(schedule.arrays, links=links))


def test_samples_must_begin_at_zero_and_rise() -> None:
    from dataclasses import replace

    one = samples(1, 10)
    for times in (one.time_s + 1.0, one.time_s[::-1], np.zeros(10)):
        with pytest.raises(DataFileError, match="start at 0 and rise"):
            schedule_of(header(9.0), replace(one, time_s=times))
