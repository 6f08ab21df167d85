from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from ground_controller.orbit.constellation import Constellation
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.orbit.visibility import EARTH_RADIUS_KM, longest_link_km
from ground_controller.orbit.walker import WalkerShell
from hil_config.errors import ConfigError

SHELL = WalkerShell(550.0, 53.0, 72, 22, phasing=39)
EPOCH = datetime(2024, 10, 21, tzinfo=timezone.utc)


def test_period_and_circle() -> None:
    assert SHELL.period_s == pytest.approx(5_739.0, abs=0.05)
    assert replace(SHELL, altitude_km=400.0).period_s == pytest.approx(5_553.6, abs=0.1)
    position, velocity = SHELL.states(np.array([0.0, 1_000.0, SHELL.period_s]))
    assert np.linalg.norm(position, axis=-1) == pytest.approx(np.full((3, 1_584), EARTH_RADIUS_KM + 550.0))
    assert position[2] == pytest.approx(position[0], abs=1e-5)
    assert np.einsum("...i,...i->...", position, velocity) == pytest.approx(np.zeros((3, 1_584)), abs=1e-7)


def test_velocity_is_the_change_of_position() -> None:
    ahead, behind = (SHELL.states(np.array([500.0 + dt]))[0] for dt in (0.5, -0.5))
    assert ahead - behind == pytest.approx(SHELL.states(np.array([500.0]))[1], abs=1e-6)


@pytest.mark.parametrize(("pattern", "spread"), [("delta", 360.0), ("star", 180.0)])
def test_planes_are_spread_evenly(pattern: str, spread: float) -> None:
    shell = WalkerShell(780.0, 86.4, 6, 11, phasing=2, pattern=pattern)  # type: ignore[arg-type]
    position, velocity = shell.states(np.array([0.0]))
    normal = np.cross(position[0], velocity[0])
    node = np.degrees(np.arctan2(normal[:, 0], -normal[:, 1]))[:: shell.per_plane]
    assert np.mod(np.diff(node), 360.0) == pytest.approx(np.full(5, spread / 6))
    tilt = np.degrees(np.arccos(normal[:, 2] / np.linalg.norm(normal, axis=1)))
    assert tilt == pytest.approx(np.full(66, 86.4))


def test_phasing_of_half_a_step_is_kuipers() -> None:
    shell = replace(SHELL, planes=34, per_plane=34, phasing=17)
    position, velocity = shell.states(np.array([0.0]))
    speed = np.linalg.norm(velocity[0], axis=1) / np.linalg.norm(position[0], axis=1)
    # argument of latitude from the height over the equator, first satellites of planes 0 and 1
    sine = position[0, [0, 34], 2] / np.linalg.norm(position[0, [0, 34]], axis=1) / np.sin(np.radians(53.0))
    assert np.degrees(np.arcsin(sine)) == pytest.approx([0.0, 0.5 * 360.0 / 34], abs=1e-9)
    assert speed == pytest.approx(np.full(1_156, shell.motion_rad_s))


def test_grid_gives_each_satellite_four_links_and_none_is_blocked() -> None:
    a, b = SHELL.grid()
    assert a.size == 2 * SHELL.count
    assert (np.bincount(np.r_[a, b]) == 4).all()
    position = SHELL.states(np.arange(0.0, 5_739.0, 300.0))[0]
    length = np.linalg.norm(position[:, a] - position[:, b], axis=-1)
    assert length.max() < longest_link_km(550.0)


def test_the_seam_of_a_star_has_no_links() -> None:
    star = WalkerShell(780.0, 86.4, 6, 11, phasing=2, pattern="star")
    a, b = star.grid()
    assert a.size == 66 + 5 * 11
    planes = np.sort(np.stack([a // 11, b // 11]), axis=0)
    assert not ((planes[0] == 0) & (planes[1] == 5)).any()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"altitude_km": 50.0}, "altitude_km is 50"),
        ({"planes": 0}, "planes is 0"),
        ({"phasing": 72.0}, "phasing is 72"),
        ({"inclination_deg": float("nan")}, "inclination_deg is nan"),
        ({"pattern": "rosette"}, "pattern is 'rosette'"),
    ],
)
def test_shells_that_cannot_be(change: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        replace(SHELL, **change)  # type: ignore[arg-type]


def test_a_constellation_of_elements_and_shells() -> None:
    elements = read_elements(DEMO_ELEMENTS)[:3]
    small = WalkerShell(600.0, 97.0, 2, 3, name="polar")
    whole = Constellation(EPOCH, elements, (small,))
    assert whole.names[3:5] == ("polar-P00S00", "polar-P00S01")
    states = whole.states(np.arange(0.0, 300.0, 10.0))
    assert states.position_km.shape == (30, 9, 3)
    assert states.position_km[:, 3:] == pytest.approx(small.states(np.arange(0.0, 300.0, 10.0))[0], abs=1e-3)
    assert whole.grid()[0].min() == 3
    with pytest.raises(ConfigError, match="more than one satellite"):
        Constellation(EPOCH, (), (small, small))
    with pytest.raises(ConfigError, match="name none"):
        Constellation(EPOCH, elements).grid()


def test_an_ephemeris_error_moves_one_satellite_along_its_track() -> None:
    elements = read_elements(DEMO_ELEMENTS)[:2]
    shell = WalkerShell(600.0, 97.0, 2, 2)
    true = Constellation(EPOCH, elements, (shell,)).exact(np.array([0.0, 60.0]))
    for at, name in ((1, elements[1].name), (3, "P00S01")):
        off = Constellation(EPOCH, elements, (shell,), {name: 60.0}).exact(np.array([0.0]))
        assert off.position_km[0, at] == pytest.approx(true.position_km[1, at], abs=1e-6)
        others = [i for i in range(6) if i != at]
        assert (off.position_km[0, others] == true.position_km[0, others]).all()
