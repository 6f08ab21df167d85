"""How many batches are under way: what the pipe holds, and never none."""

from __future__ import annotations

import itertools

import pytest

from models.serving.window import FRESH_S, LEAST, STALE, STALE_S, Window


def most(window: Window, now_s: float = 0.0) -> int:
    """Begin batches until it says no."""
    for number in itertools.count():
        if not window.open(now_s):
            return number
        window.begun(number, now_s)
    raise AssertionError("unreachable")


def test_without_a_way_to_go_one_is_computed_and_one_waits() -> None:
    window = Window(lambda: 0.0)
    window.begun(-1, 0.0)
    window.ended(-1, 0.002)
    assert most(window) == LEAST


def test_a_long_way_holds_as_many_more_as_it_has_time_for() -> None:
    window = Window(lambda: 0.0241)
    window.begun(-1, 0.0)
    window.ended(-1, 0.002)
    assert most(window) == LEAST + 13  # 24.1 ms: twelve of 2 ms are on their way, and a part of one more
    window.ended(3, 0.002)
    assert window.open(0.0)


def test_what_a_batch_takes_is_learnt_slowly() -> None:
    window = Window(lambda: 0.010)
    for number, compute_s in enumerate((0.001, 0.001, 0.1)):
        window.begun(number, 0.0)
        window.ended(number, compute_s)
    assert LEAST < most(window) <= LEAST + 1, "0.0109 s a batch"


@pytest.mark.parametrize(("compute_s", "patience_s"), [(0.001, STALE_S), (0.100, STALE * 0.100)])
def test_batches_whose_hosts_do_not_answer_keep_nobody_waiting(compute_s: float, patience_s: float) -> None:
    window = Window(lambda: 0.020)
    window.begun(-1, 0.0)
    window.ended(-1, compute_s)
    count = most(window, 0.0)
    assert window.opens_s(0.0) == pytest.approx(patience_s + 0.020)
    assert not window.open(patience_s + 0.019) and window.open(patience_s + 0.021)
    for number in range(count):
        window.ended(number, compute_s)
    assert most(window, 1.0) == count


def test_a_round_trip_is_looked_up_now_and_then() -> None:
    trips = [0.0, 0.1]
    window = Window(lambda: trips.pop(0))
    window.begun(-1, 0.0)
    window.ended(-1, 0.1)
    assert most(window, 0.0) == LEAST
    assert not window.open(0.09) and len(trips) == 1
    assert window.open(FRESH_S) and not trips
