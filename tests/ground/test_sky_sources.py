from __future__ import annotations

from ground_controller.report.sky_sources import sky_sources


def test_geometry_is_named_only_where_it_was_used() -> None:
    assert list(sky_sources({"plan": None})) == ["orbit, links, sunlight"]
    assert sky_sources({"plan": "/a/plan.csv", "plan_sunlight": 0.6}) == {
        "links": "modelled(contact plan plan.csv)", "sunlight": "modelled(stated by the campaign: 0.6 of the disc)"}  # fmt: skip
    both = sky_sources({"plan": "p.csv", "plan_factual": "f.csv", "plan_sunlight": None})
    assert both == {
        "links": "modelled(contact plan f.csv, predicted by p.csv)",
        "sunlight": "modelled(SGP4, conical eclipse)",
    }
