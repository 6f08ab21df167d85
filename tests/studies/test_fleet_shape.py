"""How a fleet is laid out: what copies weigh, and what stays on one satellite."""

from __future__ import annotations

import json

from ground_controller.studies.fleet_shape import COPIES, SHAPES, architecture_study, storage_study


def test_copies_weigh_what_they_hold() -> None:
    study = storage_study(1, 20.0, lambda line: None, COPIES[:2])
    once, twice = study.numbers["held_mb"]
    assert abs(twice - 2.0 * once) < 1e-9 and once > 3.0
    assert [row[0] for row in study.tables[0].rows] == [case.name for case in COPIES[:2]]
    assert study.provenance.startswith("modelled")
    assert study.command == "hil study storage --seeds 1 --duration-s 20"


def test_what_the_table_shows_is_in_the_numbers_and_an_unknown_energy_says_why() -> None:
    """Two seconds of samples allow no joules; none of it may be `nan`."""
    study = architecture_study(1, 20.0, lambda line: None, SHAPES[:1])
    ((name, tpot, p95, rate, size, energy),) = study.tables[0].rows
    found = study.numbers["figures"][name]
    assert [f"{found[key][0]:.1f}" for key in ("tpot_ms_p50", "tpot_ms_p95", "tokens_per_s")] == [tpot, p95, rate]
    assert found["bytes_per_token"] == [0.0] == [float(size)]
    assert (energy, found["gross_j_per_token"], study.charts) == ("not known", [None], ())
    assert "Energy is not known: 1.9 s hold 19.0 sample periods" in study.text[-1]
    longer = architecture_study(1, 40.0, lambda line: None, SHAPES[:1])
    (joules,) = longer.numbers["figures"][name]["gross_j_per_token"]
    assert longer.tables[0].rows[0][-1] == f"{joules:.3f}" and len(longer.charts) == 1
    json.dumps([study.numbers, longer.numbers], allow_nan=False)


def test_one_satellite_sends_nothing_and_four_do() -> None:
    study = architecture_study(1, 20.0, lambda line: None, SHAPES[:2])
    (_, alone_ms, _, _, alone_bytes, _), (_, ring_ms, _, _, ring_bytes, _) = study.tables[0].rows
    assert float(alone_bytes) == 0.0 < float(ring_bytes)
    assert float(alone_ms) < float(ring_ms), "every layer of the ring waits for light"
