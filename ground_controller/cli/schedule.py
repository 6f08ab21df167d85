"""`hil schedule`: build a link schedule file, look at it, check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ground_controller.cli.schedule_formats import export_command, import_command
from ground_controller.cli.schedule_route import route_command
from ground_controller.schedules import compile_orbit
from hil_config.durable_file import write_durably
from hil_config.errors import DataFileError
from hil_config.schema.load import default_path, load_campaign
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.schedule_file import decode_schedule, encode_schedule, read_schedule, schedule_hash

BAR = 60
"""Characters of a bar over the whole schedule."""
MOST_LINES = 30

_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group()
def schedule() -> None:
    """Compile, check and look at link schedules; contact plans of others in and out."""


schedule.add_command(import_command)
schedule.add_command(export_command)
schedule.add_command(route_command)


@schedule.command("build")
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The factual schedule file to write.")
@click.option("--predicted-out", type=click.Path(path_type=Path), help="Where to write what planners expect, too.")
@_JSON
def build_command(campaign_file: Path | None, out: Path, predicted_out: Path | None, as_json: bool) -> None:
    """Compile the orbit of a campaign (default: the embedded one)."""
    compiled = compile_orbit(load_campaign(campaign_file or default_path("campaign")))
    data = encode_schedule(compiled.factual)
    _write(out, data)
    if predicted_out is not None:
        _write(predicted_out, encode_schedule(compiled.predicted))
    for warning in compiled.warnings:
        click.echo(f"warning: {warning}", err=True)
    _tell(compiled.factual, schedule_hash(data), as_json)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    try:
        write_durably(path, data)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be written: {error.strerror}", "choose another place") from error


@schedule.command("show")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page that works offline.")
@click.option("--png", "picture", type=click.Path(path_type=Path), help="Write a picture (extra `plots`).")
@_JSON
def show_command(path: Path, page: Path | None, picture: Path | None, as_json: bool) -> None:
    """Ground tracks, contacts, delay, rate and eclipses of a schedule file."""
    found, data = read_schedule(path)
    digest = schedule_hash(data)
    if page is not None:
        from ground_controller.report.schedule_page import schedule_page

        _write(page, schedule_page(found, path.name, digest).encode())
    if picture is not None:
        from ground_controller.report.schedule_png import schedule_png

        _write(picture, schedule_png(found, path.name))
    _tell(found, digest, as_json)
    for written in (page, picture):
        if written is not None:
            click.echo(f"wrote {written}", err=True)


@schedule.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--campaign", "campaign_file", type=click.Path(path_type=Path), help="Must it do for this campaign?")
@_JSON
def validate_command(path: Path, campaign_file: Path | None, as_json: bool) -> None:
    """Read the whole file, compile it again from what it says of itself, and tell what looks odd."""
    from ground_controller.orbit.recompile import compile_again

    found, data = read_schedule(path)
    again = compile_again(found)
    if again is not None and encode_schedule(again) != data:
        raise DataFileError(
            f"{path}: compiled again from its own header it comes out as {schedule_hash(encode_schedule(again))[:16]},"
            f" not {schedule_hash(data)[:16]}",
            "it was made by another release, or edited: compile it again: hil schedule build",
        )
    if campaign_file is not None:
        campaign = load_campaign(campaign_file)
        whole = campaign.orbit.model_copy(update={"schedule": str(path), "faults": (), "shells": (), "stations": ()})
        compile_orbit(campaign.model_copy(update={"orbit": whole}))
    oddities = _oddities(decode_schedule(data, str(path)))
    if as_json:
        told = {"sha256": schedule_hash(data), "recompiled": again is not None, "warnings": oddities}
        click.echo(json.dumps(told))
        return
    same = "the same bytes come out when it is compiled again" if again is not None else "not compiled from elements"
    click.echo(f"{path}: sound; {same}")
    for text in oddities:
        click.echo(f"warning: {text}")


def _oddities(found: LinkSchedule) -> list[str]:
    from ground_controller.orbit.picture import contacts_of

    head, told = found.header, []
    linked = {frozenset(contact.pair) for contact in contacts_of(found)}
    never = [pair for pair in head.pairs if frozenset(pair) not in linked and pair[0] < pair[1]]
    if never:
        shown = ", ".join(f"{a} - {b}" for a, b in never[:5])
        told.append(f"{len(never)} pairs never have a path: {shown}{' ...' if len(never) > 5 else ''}")
    for name in head.satellites:
        if all(frozenset((name, other)) not in linked for other in head.satellites if other != name):
            told.append(f"{name} never has a path to anybody")
    return told


def _bar(spans: list[tuple[float, float]], duration_s: float, full: str = "█", part: str = "▒") -> str:
    """Which share of each of BAR slots the spans fill: nothing, some, all."""
    slot, text = duration_s / BAR, ""
    for n in range(BAR):
        low, high = n * slot, (n + 1) * slot
        covered = sum(max(0.0, min(end, high) - max(start, low)) for start, end in spans)
        text += full if covered > 0.999 * slot else part if covered > 0.0 else "·"
    return text


def _sun_bar(time_s: NDArray[np.float64], share: NDArray[np.float64]) -> str:
    """In each of BAR slots: the whole disc of the Sun, a part of it or for a part of the time, or nothing."""
    slots = np.interp(np.linspace(time_s[0], time_s[-1], BAR * 8 + 1), time_s, share)
    text = ""
    for n in range(BAR):
        slot = slots[n * 8 : n * 8 + 9]
        text += "█" if slot.min() > 0.999 else "▒" if slot.max() > 0.0 else "·"
    return text


def _tell(found: LinkSchedule, digest: str, as_json: bool) -> None:
    from ground_controller.orbit.picture import contacts_of, picture_of

    head, picture = found.header, picture_of(found)
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {pair: [] for pair in picture.links}
    for contact in contacts_of(found):
        spans[contact.pair].append((contact.start_s, contact.end_s))
    links: list[dict[str, Any]] = []
    for pair, column in zip(picture.links, picture.columns, strict=True):
        up = picture.samples.up[:, column]
        delay_ms, hops = picture.samples.delay_s[up, column] * 1e3, picture.samples.hops[up, column]
        share = sum(end - start for start, end in spans[pair]) / head.duration_s
        links.append(
            {
                "from": pair[0], "to": pair[1], "up_share": round(share, 4),
                "delay_ms": [round(float(delay_ms.min()), 3), round(float(delay_ms.max()), 3)] if up.any() else None,
                "hops": [int(hops.min()), int(hops.max())] if up.any() else None,
                "contacts": [[start, end] for start, end in spans[pair]],
            }
        )  # fmt: skip
    lit = {name: round(float(picture.sunlight[:, i].mean()), 4) for i, name in enumerate(head.satellites)}
    if as_json:
        told = {"sha256": digest, "kind": head.kind, "epoch_utc": head.epoch_utc, "duration_s": head.duration_s,
                "changes": len(found.arrays.links), "links": links, "sunlit_share": lit}  # fmt: skip
        click.echo(json.dumps(told))
        return
    click.echo(f"{head.kind} schedule: {head.epoch_utc}, {head.duration_s:g} s, {len(found.arrays.links)} changes")
    click.echo(f"source {head.source}, sha256 {digest[:16]}")
    click.echo(f"links (█ has a path, · has none, over {head.duration_s:g} s), both ways alike unless listed twice")
    for link in links[:MOST_LINES]:
        bar = _bar(spans[link["from"], link["to"]], head.duration_s)
        delay = "{:.2f} to {:.2f} ms".format(*link["delay_ms"]) if link["delay_ms"] else "never up"
        hops = "" if not link["hops"] or link["hops"] == [1, 1] else " {}-{} hops".format(*link["hops"])
        click.echo(f"  {link['from']} - {link['to']}\n    {bar} {link['up_share']:6.1%}  {delay}{hops}")
    if len(links) > MOST_LINES:
        click.echo(f"  ... and {len(links) - MOST_LINES} more: --json or --html show all")
    click.echo("sunlight (█ full, ▒ partly, · umbra)")
    for i, name in enumerate(head.satellites[:MOST_LINES]):
        bar = _sun_bar(picture.time_s, picture.sunlight[:, i])
        click.echo(f"  {name}\n    {bar} {lit[name]:6.1%}")
