from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground_controller.preparation import platform_of
from ground_controller.twin import Twin, work_power_w
from hil_config.schema.platforms import PlatformChoice

watts = st.floats(0.0, 20.0)


@given(watts, watts)
def test_both_accountings_are_the_same_at_rate_1(power: float, idle: float) -> None:
    duty, once = (work_power_w(kind, np.array([power]), np.array([idle]), 1.0) for kind in ("duty", "once"))
    assert duty == pytest.approx(once, rel=1e-12)


def test_once_spends_work_in_host_time_and_idle_power_in_orbit_time() -> None:
    power = work_power_w("once", np.array([5.0, 2.0]), np.array([3.0, 3.0]), 10.0)
    assert power.tolist() == pytest.approx([3.0 + 0.2, 2.0])


def test_the_twin_steps_alike_however_time_is_cut() -> None:
    twin = Twin(platform_of(PlatformChoice()), 1.0)
    light, power = np.array([0.0, 1.0]), np.array([4.0, 5.0])
    whole = twin.step(twin.start([40.0, 50.0], [0.5, 0.6]), power, light, 60.0)
    parts = twin.start([40.0, 50.0], [0.5, 0.6])
    for _ in range(6):
        parts = twin.step(parts, power, light, 10.0)
    assert parts.nodes_c == pytest.approx(whole.nodes_c, rel=1e-9)
    assert parts.charge == pytest.approx(whole.charge, rel=1e-9)
    assert parts.wear == pytest.approx(whole.wear, rel=1e-9)
