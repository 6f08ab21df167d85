"""Moves of experts: named once confirmed, dropped after plans have let go, failed where they strand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import pytest

from ground_controller.migration import Migrations
from ground_controller.policies.further import Carried, Leg
from ground_controller.policies.resources import Move
from hil_config.wire.orders import DropShards, LoadShards

ALIVE = (True, True, True)
HELD = '[[0,1,"int8"]]'


class Ferry:
    """Ten seconds over one link; or never."""

    def __init__(self, arrives: bool = True) -> None:
        self._arrives = arrives

    def carry(self, source: int, target: int, at_s: float, bits: float, alive: Sequence[bool]) -> Carried | None:
        leg = Leg(source, target, at_s, at_s + 10.0)
        return Carried((leg,), at_s + 10.0, at_s + 10.0 if self._arrives else math.inf)


def moves(arrives: bool = True) -> Migrations:
    return Migrations(("a", "b", "c"), (((0,), (0,)),), ((("int8",), ("int8",)),), Ferry(arrives), 1e-6, 0.5, 5.0, 30.0)


def stage(found: Migrations) -> str:
    return found.numbers()[0].stage


def held_by(found: Migrations) -> list[int]:
    """Nodes that plans may name for the expert."""
    return list(found.holders[0][1])


def test_a_move_without_a_copy_goes_through_all_its_stages() -> None:
    found = moves()
    assert found.begin(Move(0, 1, 0, 2, copy=False), 0.0, 8e6, ALIVE)
    assert found.promised(2) == found.under_way == 1
    assert [(load.source, load.target, load.share) for load in found.loads(5.0)] == [(0, 2, 0.5)]
    orders, sent = found.step(0.0, 4.0, ALIVE)
    assert not orders and sent == {0: pytest.approx(3.2e6)}
    orders, sent = found.step(4.0, 12.0, ALIVE)
    assert sent == {0: pytest.approx(4.8e6)} and not found.loads(12.0)
    (node, order), *none = orders
    assert node == "c" and isinstance(order, LoadShards) and not none
    assert not found.step(12.0, 20.0, ALIVE)[0], "the order is not given twice in a row"
    assert found.step(20.0, 42.0, ALIVE)[0] == [(node, order)], "but again where no answer came"
    assert held_by(found) == [0]
    found.changed("c", "load", HELD, True)
    assert held_by(found) == [0, 2]
    assert not found.step(42.0, 43.0, ALIVE)[0]
    assert held_by(found) == [2], "plans let go first"
    assert not found.step(43.0, 46.0, ALIVE)[0]
    assert found.step(46.0, 48.5, ALIVE)[0] == [("a", DropShards(((0, 1),)))]
    found.changed("a", "drop", "[[0,1]]", True)
    assert stage(found) == "gone"
    assert found.numbers()[0].bytes == 1_000_000 and found.numbers()[0].joules == pytest.approx(8.0)


@pytest.mark.parametrize("dies_s", [13.0, 15.0, 16.5])
def test_a_target_that_dies_before_the_drop_leaves_the_expert_to_its_source(dies_s: float) -> None:
    """It served from 12 s on, plans let go of the source at the next tick, which is told to drop five seconds later."""
    found = moves()
    found.begin(Move(0, 1, 0, 2, copy=False), 0.0, 8e6, ALIVE)
    found.step(0.0, 12.0, ALIVE)
    found.changed("c", "load", HELD, True)
    if dies_s > 13.0:
        found.step(12.0, 13.0, ALIVE)
        assert held_by(found) == [2]
    for now_s in (dies_s, 30.0, 60.0):
        assert not found.step(now_s - 1.0, now_s, (True, True, False))[0], "nobody else holds it"
        assert 0 in held_by(found) and stage(found) == "failed"
    assert not found.step(60.0, 90.0, ALIVE)[0]


def test_what_strands_is_refused_or_loses_an_end_fails_and_is_never_named() -> None:
    stranded = moves(arrives=False)
    stranded.begin(Move(0, 1, 0, 2), 0.0, 8e6, ALIVE)
    assert not stranded.step(0.0, 11.0, ALIVE)[0] and stage(stranded) == "failed"
    orphan = moves()
    orphan.begin(Move(0, 1, 0, 2), 0.0, 8e6, ALIVE)
    orphan.step(0.0, 5.0, (False, True, True))
    assert stage(orphan) == "failed"
    refused = moves()
    refused.begin(Move(0, 1, 0, 2), 0.0, 8e6, ALIVE)
    refused.step(0.0, 11.0, ALIVE)
    refused.changed("c", "load", HELD, False)
    for found in (stranded, orphan, refused):
        assert stage(found) == "failed" and held_by(found) == [0] and not found.under_way
    assert msgspec.json.encode(stranded.numbers())
