"""Where a run's links and sunlight are from, for the report's first line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sky_sources(orbit: Mapping[str, Any]) -> dict[str, str]:
    """Sources by quantity: the geometry, or a contact plan and what was said of the Sun.

    Args:
        orbit: the `orbit` section of a campaign, as the run keeps it.
    """
    ephemeris = str(orbit.get("elements", "")).lower().endswith(".oem")
    moved = f"ephemeris {Path(orbit['elements']).name}" if ephemeris else "SGP4"
    if not orbit.get("plan"):
        return {"orbit, links, sunlight": f"modelled({moved}, line of sight, conical eclipse)"}
    names = [Path(orbit[key]).name for key in ("plan_factual", "plan") if orbit.get(key)]
    stated = orbit.get("plan_sunlight")
    sun = f"{moved}, conical eclipse" if stated is None else f"stated by the campaign: {stated:g} of the disc"
    return {"links": f"modelled(contact plan {', predicted by '.join(names)})", "sunlight": f"modelled({sun})"}
