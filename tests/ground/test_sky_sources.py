from __future__ import annotations

from ground_controller.report.sky_sources import sky_sources


def test_geometry_is_named_only_where_it_was_used() -> None:
    assert list(sky_sources({"plan": None})) == ["orbit, links, sunlight"]
    moved = sky_sources({"plan": None, "elements": "/a/sats.oem"})
    assert moved == {"orbit, links, sunlight": "modelled(ephemeris sats.oem, line of sight, conical eclipse)"}
    stated = sky_sources({"plan": "/a/plan.csv", "plan_sunlight": 0.6})
    assert stated["links"] == "modelled(contact plan plan.csv)"
    assert stated["sunlight"] == "modelled(stated by the campaign: 0.6 of the disc)"
    both = sky_sources({"plan": "p.csv", "plan_factual": "f.csv", "plan_sunlight": None})
    assert both == {
        "links": "modelled(contact plan f.csv, predicted by p.csv)",
        "sunlight": "modelled(SGP4, conical eclipse)",
    }
