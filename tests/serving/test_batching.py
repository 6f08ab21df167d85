"""Who goes through a layer together, and that everybody does within a bounded number of batches."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from models.serving.batching import BATCH_ROWS, FAIR_S, take_batch

Key = tuple[int, int]


@dataclass(eq=False)
class Waiter:
    rows: int
    ready_s: float = 0.0
    stale: bool = False


waiters = st.builds(Waiter, st.integers(1, 2 * BATCH_ROWS), st.floats(0.0, 1.0), st.booleans())
queues = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 2)), st.lists(waiters, min_size=1, max_size=6))


@given(queues, st.floats(0.0, 2.0))
def test_all_go_once_in_their_order_and_no_batch_is_too_long(waiting: dict[Key, list[Waiter]], now_s: float) -> None:
    wanted = {key: [one for one in ones if not one.stale] for key, ones in waiting.items()}
    where = {one: key for key, ones in waiting.items() for one in ones}
    found: dict[Key, list[Waiter]] = {key: [] for key in waiting}
    for _ in range(len(where)):
        if not waiting:
            break
        batch = take_batch(waiting, now_s)
        assert len({where[one] for one in batch}) <= 1, "of one layer and plan"
        assert len(batch) <= 1 or sum(one.rows for one in batch) <= BATCH_ROWS
        assert all(waiting.values()), "no empty list stays"
        for one in batch:
            found[where[one]].append(one)
    assert found == wanted and not waiting and take_batch(waiting, now_s) == []


def test_the_lowest_layer_goes_first_until_another_has_waited_too_long() -> None:
    low, high = Waiter(1, ready_s=FAIR_S), Waiter(1, ready_s=0.0)
    waiting: dict[Key, list[Waiter]] = {(2, 0): [high], (1, 7): [low]}
    assert take_batch({key: list(ones) for key, ones in waiting.items()}, FAIR_S) == [low], "not longer than FAIR_S yet"
    assert take_batch(waiting, 1.01 * FAIR_S) == [high]
    assert take_batch(waiting, 1.01 * FAIR_S) == [low]


def test_a_batch_ends_before_the_row_that_is_too_many() -> None:
    ones = [Waiter(BATCH_ROWS - 1), Waiter(1), Waiter(1), Waiter(BATCH_ROWS + 1), Waiter(1)]
    waiting: dict[Key, list[Waiter]] = {(0, 0): list(ones)}
    cut = [take_batch(waiting, 0.0) for _ in range(4)]
    assert cut == [ones[:2], ones[2:3], ones[3:4], ones[4:]], "one step goes however long it is"
