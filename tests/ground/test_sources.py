"""A column that is measured on one board and modelled on another is never called measured."""

from __future__ import annotations

from ground_controller.telemetry.sources import by_provenance, combined
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import Provenance, fake, measured, modelled

METER, MODEL = measured("INA3221"), modelled("CPU time")


def power(provenance: Provenance) -> Quantity:
    return Quantity("power_w", "W", 10.0, provenance)


def test_nodes_that_agree_have_one_provenance() -> None:
    groups = by_provenance({"b": power(METER), "a": power(METER)})
    assert groups == {METER: ("a", "b")}
    assert combined(groups.items()) == METER


def test_the_weakest_kind_stands_for_the_column_and_each_node_is_named() -> None:
    groups = by_provenance({"a": power(METER), "b": power(MODEL), "c": power(METER)})
    assert list(groups.items()) == [(MODEL, ("b",)), (METER, ("a", "c"))]
    found = combined(groups.items())
    assert found.kind == "modelled"
    assert found.by == "differs by node, b: modelled(CPU time); a, c: measured(INA3221)"
    assert combined(by_provenance({"a": power(MODEL), "b": power(fake("a board"))}).items()).kind == "fake"
