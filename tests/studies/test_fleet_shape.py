"""How a fleet is laid out: what copies weigh, and what stays on one satellite."""

from __future__ import annotations

from ground_controller.studies.fleet_shape import COPIES, SHAPES, architecture_study, storage_study


def test_copies_weigh_what_they_hold() -> None:
    study = storage_study(1, 20.0, lambda line: None, COPIES[:2])
    once, twice = study.numbers["held_mb"]
    assert abs(twice - 2.0 * once) < 1e-9 and once > 3.0
    assert [row[0] for row in study.tables[0].rows] == [case.name for case in COPIES[:2]]
    assert study.provenance.startswith("modelled")


def test_one_satellite_sends_nothing_and_four_do() -> None:
    study = architecture_study(1, 20.0, lambda line: None, SHAPES[:2])
    (_, alone_ms, _, _, alone_bytes, _), (_, ring_ms, _, _, ring_bytes, _) = study.tables[0].rows
    assert float(alone_bytes) == 0.0 < float(ring_bytes)
    assert float(alone_ms) < float(ring_ms), "every layer of the ring waits for light"
