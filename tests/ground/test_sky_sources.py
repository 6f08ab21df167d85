from __future__ import annotations

from ground_controller.report.sky_sources import sky_sources


def test_geometry_is_named_only_where_it_was_used() -> None:
    assert list(sky_sources({"plan": None})) == ["orbit, links, sunlight"]
    moved = sky_sources({"plan": None, "elements": "/a/sats.oem"})
    assert moved == {"orbit, links, sunlight": "modelled(ephemeris sats.oem, line of sight, conical eclipse)"}
    stated = sky_sources({"plan": "/a/plan.csv", "plan_sunlight": 0.6})
    assert stated["links"] == "modelled(contact plan plan.csv)"
    assert stated["sunlight"] == "modelled(stated by the campaign: 0.6 of the disc)"
    assert sky_sources({"schedule": "/a/mine.hsched"}) == {
        "orbit, links, sunlight": "modelled(compiled before: mine.hsched)"
    }
    both = sky_sources({"plan": "p.csv", "plan_factual": "f.csv", "plan_sunlight": None})
    assert both == {
        "links": "modelled(contact plan f.csv, predicted by p.csv)",
        "sunlight": "modelled(SGP4, conical eclipse)",
    }


def test_the_propagator_that_was_used_is_named() -> None:
    shell = {"name": "w", "altitude_km": 550.0, "inclination_deg": 53.0, "planes": 2, "per_plane": 2}
    zurich = {"name": "Zurich", "latitude_deg": 47.4, "longitude_deg": 8.5}
    orbit = {"elements": "demo", "shells": [shell], "stations": [zurich]}

    def moved(**changes: object) -> str:
        (found,) = sky_sources({**orbit, **changes}).values()
        return found.removeprefix("modelled(").removesuffix(", line of sight, conical eclipse)")

    walker = ["w-P00S00", "w-P01S01"]
    assert moved(satellites=[*walker, "Zurich"], relay="constellation") == "two-body Walker shells"
    assert moved(satellites=[*walker, "STARLINK-1"]) == "SGP4 and two-body Walker shells"
    assert moved(satellites=["STARLINK-1", "STARLINK-2"]) == "SGP4"
    assert moved(satellites=["STARLINK-1"], relay="constellation") == "SGP4 and two-body Walker shells"
    assert moved(satellites=["A", "B"], elements="x/sats.oem.xml", shells=[]) == "ephemeris sats.oem.xml"
    assert moved(satellites=walker, elements="sats.oem") == "two-body Walker shells"
    assert moved(satellites=walker, elements="sats.oem", relay="constellation") == (
        "ephemeris sats.oem and two-body Walker shells"
    )
