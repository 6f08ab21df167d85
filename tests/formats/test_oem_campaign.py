"""A campaign whose satellites come from an OEM file: the links are those of the elements it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.schedules import compile_orbit
from hil_config.errors import DataFileError
from hil_config.schema.load import default_path, load_campaign
from tests.formats import test_oem

NAMES = ("STARLINK-2617", "STARLINK-1364", "STARLINK-1412", "STARLINK-3672")


def write(path: Path, count: int) -> None:
    """An OEM of the demonstration's satellites, a state a minute."""
    bodies: list[str] = []
    for one in read_elements(DEMO_ELEMENTS, NAMES):
        text = test_oem.message(count=count, name=one.name, elements=(one,), method="LAGRANGE", degree=7)
        bodies.append(text if not bodies else text[text.index("META_START") :])
    path.write_text("".join(bodies))


def test_links_of_an_ephemeris_file(tmp_path: Path) -> None:
    write(tmp_path / "sats.oem", 11)
    path = tmp_path / "campaign.yaml"
    path.write_text(default_path("campaign").read_text().replace("elements: demo ", "elements: sats.oem "))
    found, wanted = (compile_orbit(load_campaign(one)).factual for one in (path, default_path("campaign")))
    for t in (0.0, 100.5, 300.0, 599.0):
        for pair in wanted.header.pairs:
            ours, its = found.link(*pair, t), wanted.link(*pair, t)
            assert ours.up == its.up and ours.delay_s == pytest.approx(its.delay_s, abs=3e-6)
        for name in NAMES:
            assert found.illumination(name, t) == pytest.approx(wanted.illumination(name, t), abs=1e-2)
    assert "sats.oem" in found.header.config
    write(tmp_path / "sats.oem", 6)
    with pytest.raises(DataFileError, match=r"sats\.oem:\d+: the ephemeris of 'STARLINK-2617' says nothing of"):
        compile_orbit(load_campaign(path))
    path.write_text(path.read_text().replace(NAMES[2], "STARLINK-1"))
    with pytest.raises(DataFileError, match="no ephemeris of 'STARLINK-1'"):
        compile_orbit(load_campaign(path))
