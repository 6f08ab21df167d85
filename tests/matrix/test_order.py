"""The order of a matrix: whole blocks, drawn once, and the mean that decides when it is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground_controller.matrix.order import block, blocks_of, cells, next_seed
from ground_controller.matrix.summary import _mean

NAMES = ["topk", "lyapunov", "horizon"]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), st.integers(1, 3), st.integers(0, 99),
    st.integers(0, 2),
)  # fmt: skip
def test_every_block_is_whole(seeds: list[int], repeats: int, order_seed: int, warm_up: int) -> None:
    found = cells(NAMES, seeds, repeats, order_seed, warm_up)
    assert found == cells(NAMES, seeds, repeats, order_seed, warm_up)
    counted = [cell for cell in found if cell.block]
    assert [cell.block for cell in counted] == sorted(cell.block for cell in counted)
    for number in range(1, len(seeds) * repeats + 1):
        mine = [cell for cell in counted if cell.block == number]
        assert sorted(cell.variant for cell in mine) == sorted(NAMES)
        assert len({(cell.seed, cell.repeat) for cell in mine}) == 1
    assert {(c.variant, c.seed, c.repeat) for c in counted} == {
        (n, s, r) for n in NAMES for s in seeds for r in range(1, repeats + 1)
    }
    assert len({cell.name for cell in found}) == len(found)
    assert [cell.block for cell in found[:warm_up]] == [0] * warm_up


def test_orders_differ_between_blocks_and_seeds() -> None:
    many = [f"v{i}" for i in range(8)]
    orders = {tuple(cell.variant for cell in block(n, many, 1, 1, seed)) for n in range(1, 6) for seed in range(5)}
    assert len(orders) == 25
    assert len({tuple(blocks_of(range(8), 1, seed)) for seed in range(10)}) == 10


def test_a_further_block_leaves_the_others_as_they_were() -> None:
    few, more = cells(NAMES, [1, 2], 1, 7, 0), block(3, NAMES, next_seed([1, 2]), 1, 7)
    assert {cell.seed for cell in more} == {3}
    assert not {cell.name for cell in more} & {cell.name for cell in few}


def test_mean_over_seeds() -> None:
    """Repeats of a seed are one value: 2.0 and 4.0, whose interval is 3 +- 12.706 x sqrt(2) / sqrt(2)."""
    found = _mean([(1, 1.0), (1, 3.0), (2, 4.0)])
    assert found is not None
    assert (found.mean, found.seeds) == (3.0, 2)
    assert found.half == pytest.approx(12.7062, rel=1e-5)
    assert found.percent == pytest.approx(423.54, rel=1e-5)
    lone = _mean([(1, 5.0)])
    assert lone is not None
    assert (lone.half, lone.percent) == (None, None)
    assert _mean([(1, 5.0), (2, None)]) is None
