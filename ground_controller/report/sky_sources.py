"""Where a run's links and sunlight are from, for the report's first line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ground_controller.formats.element_file import is_ephemeris
from ground_controller.orbit.walker import WalkerShell


def sky_sources(orbit: Mapping[str, Any]) -> dict[str, str]:
    """Sources by quantity: the geometry and what moves the satellites, a compiled schedule, or a contact plan and
    what was said of the Sun.

    Args:
        orbit: the `orbit` section of a campaign, as the run keeps it.
    """
    if orbit.get("schedule"):
        return {"orbit, links, sunlight": f"modelled(compiled before: {Path(orbit['schedule']).name})"}
    if not orbit.get("plan"):
        return {"orbit, links, sunlight": f"modelled({_moved(orbit)}, line of sight, conical eclipse)"}
    names = [Path(orbit[key]).name for key in ("plan_factual", "plan") if orbit.get(key)]
    stated = orbit.get("plan_sunlight")
    sun = f"{_moved(orbit)}, conical eclipse" if stated is None else f"stated by the campaign: {stated:g} of the disc"
    return {"links": f"modelled(contact plan {', predicted by '.join(names)})", "sunlight": f"modelled({sun})"}


def _moved(orbit: Mapping[str, Any]) -> str:
    """What moves the satellites of a campaign: those it maps, and where all of its constellation relay those too."""
    elements, shells = str(orbit.get("elements", "demo")), [WalkerShell(**one) for one in orbit.get("shells") or ()]
    described = {name for shell in shells for name in shell.names}
    described |= {station["name"] for station in orbit.get("stations") or ()}
    named, relaying = set(orbit.get("satellites") or ()), orbit.get("relay") == "constellation"
    found = []
    if is_ephemeris(elements):
        if named - described or relaying or not shells:
            found.append(f"ephemeris {Path(elements).name}")
    elif named - described or not shells:
        found.append("SGP4")
    if shells and (relaying or named & {name for shell in shells for name in shell.names}):
        found.append("two-body Walker shells")
    return " and ".join(found) or "stations alone"
