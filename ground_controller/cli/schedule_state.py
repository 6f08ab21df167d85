"""The part of `hil schedule export` that writes a constellation: Hypatia's network state."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ground_controller.cli.schedule_files import write_folder
from ground_controller.formats.hypatia import write_hypatia
from ground_controller.formats.hypatia_export import Exported, export_hypatia
from ground_controller.orbit.elements import Elements
from ground_controller.orbit.recompile import config_of
from ground_controller.orbit.schedule_config import ScheduleConfig
from ground_controller.schedules import orbit_sources
from hil_config.errors import UsageError
from hil_config.schema.load import load_campaign
from hil_config.wire.schedule_file import read_schedule

_FROM = "give --campaign FILE, or a schedule file that was compiled from elements or shells"


def export_state(path: Path | None, campaign_file: Path | None, out: Path, as_json: bool) -> None:
    """Write the state of a campaign's constellation, or of the one that a schedule file was compiled from.

    Raises:
        UsageError: both or neither are given, or what is given has no elements.
    """
    if (path is None) == (campaign_file is None):
        raise UsageError("Hypatia's state is made from one constellation", _FROM)
    config, elements, warnings = _of_campaign(campaign_file) if campaign_file else _of_schedule(path)
    found = export_hypatia(config, elements)
    files = write_hypatia(found.state)
    write_folder(out, files)
    _tell(found, (*warnings, *found.warnings), out, as_json)


def _of_campaign(path: Path) -> tuple[ScheduleConfig, tuple[Elements, ...], tuple[str, ...]]:
    campaign = load_campaign(path)
    orbit = campaign.orbit
    for key in ("schedule", "plan"):
        if getattr(orbit, key) is not None:
            raise UsageError(
                f"{path}: the links of this campaign are from orbit.{key}, not from a constellation", _FROM
            )
    return orbit_sources(orbit, campaign.seed)


def _of_schedule(path: Path | None) -> tuple[ScheduleConfig, tuple[Elements, ...], tuple[str, ...]]:
    assert path is not None
    if path.suffix.lower() == ".csv":
        raise UsageError(f"{path}: a contact plan has no orbits to write", _FROM)
    found = config_of(read_schedule(path)[0])
    if found is None:
        raise UsageError(f"{path}: was not compiled from elements or shells: it has no orbits to write", _FROM)
    return *found, ()


def _tell(found: Exported, warnings: tuple[str, ...], out: Path, as_json: bool) -> None:
    state = found.state
    counts = {"satellites": len(state.elements), "planes": state.planes, "per_plane": state.per_plane,
              "isls": len(state.isls), "stations": len(state.stations), "steps": len(state.steps)}  # fmt: skip
    if as_json:
        apart = round(found.apart_km, 6)
        click.echo(json.dumps({**counts, "apart_km": apart, "warnings": list(warnings), "out": str(out)}))
        return
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{counts['satellites']} satellites ({state.planes} x {state.per_plane}), {counts['isls']} links,"
               f" {counts['stations']} stations, {counts['steps']} forwarding states")  # fmt: skip
    click.echo(f"the written elements stay within {found.apart_km * 1e3:.0f} m of the campaign's satellites")
    click.echo(f"wrote {out}")
