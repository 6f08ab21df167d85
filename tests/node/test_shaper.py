"""The shaper on a clock of its own: what is sent when comes out when the link says; change drops nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_config.errors import DataFileError, EnvironmentFault
from hil_config.shaper import MAX_QUEUE_S, Flight, Shaper
from hil_config.wire.link_state import LinkState
from node_agent.link.frame_log import FrameLog, open_frame_log, read_frame_log

INF = float("inf")


def _up(delay_s: float = 0.0, rate_bit_s: float = INF, loss: float = 0.0) -> LinkState:
    return LinkState(delay_s, rate_bit_s, loss, True)


def _drain(shaper: Shaper[int], link: LinkState, until_s: float = 1e9) -> list[Flight[int]]:
    """Everything that comes out by `until_s`, each at its time."""
    out = []
    while (next_s := shaper.next_s()) is not None and next_s <= until_s:
        shaper.advance(link, next_s)
        while (flight := shaper.take_due(next_s)) is not None:
            out.append(flight)
    return out


@pytest.mark.parametrize("delay_ms", [1.0, 5.0, 12.05, 25.0])
def test_delay_alone(delay_ms: float) -> None:
    shaper: Shaper[int] = Shaper()
    assert shaper.admit(1, 8000, _up(delay_ms / 1e3), 100.0)
    assert shaper.take_due(100.0 + delay_ms / 1e3 - 1e-6) is None
    assert [f.due_s for f in _drain(shaper, _up(delay_ms / 1e3))] == [100.0 + delay_ms / 1e3]


@pytest.mark.parametrize("mbit_s", [1, 10, 50, 100])
def test_frames_wait_for_the_line_and_then_travel(mbit_s: int) -> None:
    shaper: Shaper[int] = Shaper()
    link = _up(0.01, mbit_s * 1e6)
    for n in range(50):
        assert shaper.admit(n, 5000, link, 7.0)
    serial_s = 40_000 / (mbit_s * 1e6)
    got = _drain(shaper, link)
    assert [f.item for f in got] == list(range(50))
    for n, flight in enumerate(got):
        assert flight.due_s == pytest.approx(7.0 + (n + 1) * serial_s + 0.01, abs=1e-9)


def test_a_new_rate_counts_for_what_waits_and_drops_nothing() -> None:
    shaper: Shaper[int] = Shaper()
    for n in range(10):
        assert shaper.admit(n, 125_000, _up(0.005, 1e6), 0.0)  # one second each
    first = _drain(shaper, _up(0.005, 1e6), until_s=2.0)  # the third is on the line
    rest = _drain(shaper, _up(0.001, 10e6))
    assert [f.item for f in first + rest] == list(range(10))
    assert [round(f.due_s, 6) for f in first] == [1.005]
    assert [round(f.due_s, 6) for f in rest[:2]] == [2.005, 3.005]
    assert [round(f.due_s, 6) for f in rest[2:]] == [round(3.0 + 0.1 * n + 0.001, 6) for n in range(1, 8)]
    assert (shaper.lost, shaper.cut) == (0, 0)


def test_an_outage_lets_arrive_what_is_under_way_and_cuts_what_waits() -> None:
    shaper: Shaper[int] = Shaper()
    for n in range(5):
        assert shaper.admit(n, 125_000, _up(0.5, 1e6), 0.0)
    assert not _drain(shaper, _up(0.5, 1e6), until_s=1.0)  # two have begun
    down = LinkState(0.5, 1e6, 0.0, False)
    assert not shaper.admit(9, 10, down, 1.2)
    assert [f.item for f in _drain(shaper, down)] == [0, 1]
    assert shaper.cut == 3
    assert shaper.admit(6, 125_000, _up(0.5, 1e6), 10.0)
    assert [f.due_s for f in _drain(shaper, _up(0.5, 1e6))] == [11.5]


def test_a_queue_that_is_too_long_refuses() -> None:
    shaper: Shaper[int] = Shaper()
    taken = sum(shaper.admit(n, 125_000, _up(0.0, 1e6), 0.0) for n in range(50))
    assert taken == MAX_QUEUE_S + 1
    assert not shaper.admit(99, 1, LinkState(0.0, 0.0, 0.0, True), 0.0), "a line without rate takes nothing"


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_loss_is_as_often_as_it_says_and_the_same_for_the_same_seed(loss: float) -> None:
    fates = []
    for seed in ("1 a b", "1 a b", "1 b a"):
        shaper: Shaper[int] = Shaper(seed)
        for n in range(20_000):
            assert shaper.admit(n, 100, _up(0.001, loss=loss), n * 1e-3), "the sender does not learn of it"
        fates.append([f.item for f in _drain(shaper, _up())])
        assert shaper.lost == 20_000 - len(fates[-1])
    assert fates[0] == fates[1] != fates[2]
    sigma = (20_000 * loss * (1 - loss)) ** 0.5
    assert abs(20_000 - len(fates[0]) - 20_000 * loss) < 4 * sigma


def test_a_lost_frame_occupies_the_line_all_the_same() -> None:
    shaper: Shaper[int] = Shaper()
    assert shaper.admit(1, 125_000, LinkState(0.0, 1e6, 1.0, True), 0.0)
    assert shaper.admit(2, 125_000, LinkState(0.0, 1e6, 0.0, True), 0.0)
    assert [(f.item, f.due_s) for f in _drain(shaper, _up(0.0, 1e6))] == [(2, 2.0)]


def test_jitter_stays_within_its_bounds_and_never_reorders() -> None:
    shaper: Shaper[int] = Shaper("x", jitter_s=0.004)
    chance = random.Random(1)
    now_s = 0.0
    for n in range(3000):
        now_s += chance.uniform(0.0, 0.02)
        assert shaper.admit(n, 100, _up(0.010), now_s)
    got = _drain(shaper, _up(0.010))
    delays = [f.due_s - f.sent_s for f in got]
    assert [f.item for f in got] == list(range(3000))
    assert 0.006 <= min(delays) < 0.0065 and 0.0135 < max(delays) <= 0.014 + 1e-12
    assert len(set(delays)) > 2900


_LINKS = st.builds(
    LinkState,
    st.floats(0.0, 0.1),
    st.floats(1e4, 1e9),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([True, True, False]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 0.2), st.integers(1, 100_000), _LINKS), max_size=40))
def test_whatever_happens_every_frame_has_one_fate_and_none_is_early(steps: list[tuple[float, int, LinkState]]) -> None:
    shaper: Shaper[int] = Shaper("p")
    now_s, taken, out = 0.0, [], list[Flight[int]]()
    for n, (wait_s, size, link) in enumerate(steps):
        now_s += wait_s
        shaper.advance(link, now_s)
        while (flight := shaper.take_due(now_s)) is not None:
            out.append(flight)
        if shaper.admit(n, size, link, now_s):
            taken.append(n)
    out += _drain(shaper, _up())
    assert [f.item for f in out] == sorted({f.item for f in out}), "in order, each once"
    assert len(out) + shaper.lost + shaper.cut == len(taken)
    assert all(f.due_s >= f.sent_s for f in out)
    assert [f.due_s for f in out] == sorted(f.due_s for f in out)


_SOMETIMES_FREE = st.one_of(_LINKS, st.just(_up()), st.just(_up(delay_s=0.001)))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1e-4, 0.2]), st.integers(1, 10_000), _SOMETIMES_FREE), max_size=40),
    st.sampled_from([0.0, 0.001]),
)
def test_a_frame_that_passes_is_one_that_would_be_due_at_once(
    steps: list[tuple[float, int, LinkState]], jitter_s: float
) -> None:
    """One shaper admits every frame, the other leaves out those that pass: the same fates at the same times."""
    whole, short = Shaper[int]("p", jitter_s), Shaper[int]("p", jitter_s)
    now_s = 0.0
    fates: list[list[tuple[int, float]]] = [[], []]
    for n, (wait_s, size, link) in enumerate([*steps, (1e3, 1, _up()), (0.0, 1, _up())]):
        now_s += wait_s
        passed = short.passes(link, now_s)
        assert whole.admit(n, size, link, now_s) == (passed or short.admit(n, size, link, now_s))
        if passed:
            fates[1].append((n, now_s))
        for shaper, fate in zip((whole, short), fates, strict=True):
            shaper.advance(link, now_s)
            while (flight := shaper.take_due(now_s)) is not None:
                fate.append((flight.item, flight.due_s))
    assert fates[0] == fates[1]
    assert (whole.lost, whole.cut) == (short.lost, short.cut)
    assert jitter_s or short.passes(_up(), now_s + 1e3), "an idle link without limits lets pass"


def test_the_frame_log_reads_back_and_says_when_it_cannot(tmp_path: Path) -> None:
    log = open_frame_log(str(tmp_path), "run", "a")
    assert log is not None and open_frame_log("", "run", "a") is None
    for n in range(600):
        log.write("peer-with-a-very-long-name", n, n + 0.0, n + 0.5, n + 0.75)
    log.close()
    log.write("b", 1, 0.0, 0.0, 0.0)  # a thread that comes late is no trouble
    rows = list(read_frame_log(tmp_path / "run-a.0.frames"))
    assert len(rows) == 600 and rows[5] == ("peer-with-a-very", 5, 5.0, 5.5, 5.75)
    second = open_frame_log(str(tmp_path), "run", "a")
    assert second is not None and (tmp_path / "run-a.1.frames").exists()
    second.close()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        FrameLog(tmp_path / "run-a.0.frames")
    (tmp_path / "bad").write_bytes(b"nonsense")
    with pytest.raises(DataFileError, match="not a frame log"):
        list(read_frame_log(tmp_path / "bad"))
