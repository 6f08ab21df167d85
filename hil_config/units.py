"""Quantities whose mix-up would be silent: scenario and host time, and the SI factors used in files."""

from __future__ import annotations

from typing import NewType

ScenarioSeconds = NewType("ScenarioSeconds", float)
"""Seconds of orbit since the scenario's start. Runs `rate` times as fast as the host."""

HostSeconds = NewType("HostSeconds", float)
"""Seconds of a host's monotonic clock. Comparable only within one (host, boot)."""

SPEED_OF_LIGHT_M_S = 299_792_458.0
"""Exact, SI definition of the metre."""

NS_PER_S = 1_000_000_000
WH_PER_J = 1.0 / 3600.0
KELVIN_AT_0_C = 273.15


def mbit_to_bit(rate_mbit_s: float) -> float:
    """Mbit/s to bit/s (decimal megabit)."""
    return rate_mbit_s * 1e6
