"""Checks of policies' options."""

from __future__ import annotations

import math

from hil_config.errors import ConfigError


def within(policy: str, option: str, value: float, least: float, most: float = math.inf) -> None:
    """ConfigError unless `least` <= value <= `most`."""
    if not (math.isfinite(value) and least <= value <= most):
        wanted = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
        raise ConfigError(f"policy {policy}: {option} is {value}, wanted {wanted}")
