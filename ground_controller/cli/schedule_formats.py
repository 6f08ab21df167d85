"""`hil schedule import` and `export`: contact plans of others to the project's own CSV, and back."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ground_controller.cli.schedule_files import write_file, write_folder
from ground_controller.cli.schedule_state import export_state
from ground_controller.formats.hdtn import RATE_UNITS
from ground_controller.formats.plan import ContactPlan, Imported
from ground_controller.formats.registry import FORMATS, read_node_map, read_plan, renamed, write_plan
from ground_controller.formats.whole import rounded_away
from hil_config.errors import DataFileError, UsageError

SHOWN_WARNINGS = 8
NAMES = f"{', '.join(FORMATS)}, or module:NAME of your own"


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "name", required=True, help=f"What the file or folder is: {NAMES}.")
@click.option("--out", type=click.Path(path_type=Path), help="The plan (CSV) to write; without it only checks.")
@click.option("--lenient", is_flag=True, help="Leave out contacts that end before they begin, keep overlaps; warned.")
@click.option("--rate-unit", type=click.Choice(list(RATE_UNITS)), help="HDTN: what the rates are really in.")
@click.option("--epoch-utc", help="ION: the instant of +0, like 2024-10-21T08:20:00Z.")
@click.option("--hold-ranges", is_flag=True, help="ION: a pair's last range holds on after its end.")
@click.option("--until-s", type=float, help="NetSatBench, Hypatia: when the plan ends.")
@click.option("--rate-mbit-s", type=float, help="Hypatia: rate of its links.")
@click.option("--step-s", type=float, help="Hypatia: length of a step.")
@click.option("--node-map", type=click.Path(path_type=Path), help="CSV `name,number`: numbers become names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def import_command(
    path: Path, name: str, out: Path | None, lenient: bool, rate_unit: str | None, epoch_utc: str | None,
    hold_ranges: bool, until_s: float | None, rate_mbit_s: float | None, step_s: float | None, node_map: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Read a contact plan, check it, and write it as CSV with its units in the header."""
    options = {"lenient": lenient, "rate_unit": rate_unit, "epoch_utc": epoch_utc, "hold_ranges": hold_ranges,
               "until_s": until_s, "rate_mbit_s": rate_mbit_s, "step_s": step_s}  # fmt: skip
    found = read_plan(path, name, options)
    plan = _filled(found.plan)
    if node_map:
        plan = renamed(plan, {number: one for one, number in read_node_map(node_map).items()}, str(node_map))
    if out:
        text = write_plan(plan, "csv", {})
        assert isinstance(text, str)
        write_file(out, text)
    _tell(Imported(plan, found.warnings), out, as_json)


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--format", "name", required=True, help=f"What to write: {NAMES}.")
@click.option("--campaign", "campaign_file", type=click.Path(path_type=Path), help="Hypatia: whose constellation.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file or folder to write.")
@click.option("--round", "rounded", is_flag=True, help="ION, HDTN: times inward, delays up, rates down to whole units.")
@click.option("--epoch-utc", help="NetSatBench: the instant of second 0, where the plan does not say it.")
@click.option("--node-map", type=click.Path(path_type=Path), help="CSV `name,number`: names become numbers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def export_command(
    path: Path | None, name: str, campaign_file: Path | None, out: Path, rounded: bool, epoch_utc: str | None,
    node_map: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write a plan (CSV) in the format of others; for Hypatia a campaign's or a schedule file's constellation."""
    if name == "hypatia":
        if rounded or epoch_utc or node_map:
            raise UsageError("--round, --epoch-utc and --node-map mean nothing for hypatia", "leave them out")
        export_state(path, campaign_file, out, as_json)
        return
    if path is None or campaign_file is not None:
        raise UsageError(f"{name} is made from a contact plan", "give the path of a plan (CSV), without --campaign")
    found = read_plan(path, "csv", {"lenient": True})
    plan = _filled(found.plan)
    if node_map:
        plan = renamed(plan, read_node_map(node_map), str(node_map))
    content = write_plan(plan, name, {"rounded": rounded, "epoch_utc": epoch_utc})
    gone = sum(rounded_away(one.start_s, one.end_s) for one in plan.contacts) if rounded else 0
    if gone == len(plan.contacts):
        raise DataFileError("rounding to whole seconds leaves nothing of any contact", "export to csv or netsatbench")
    told = (f"left out: {gone} of {len(plan.contacts)} contacts, of which whole seconds leave nothing",) if gone else ()
    if isinstance(content, str):
        write_file(out, content)
    else:
        write_folder(out, content)
    _tell(Imported(plan, (*told, *found.warnings)), out, as_json)


def _filled(plan: ContactPlan) -> ContactPlan:
    """The plan, if there is anything in it to write."""
    if not plan.contacts:
        raise DataFileError("the plan holds no contact", "give a file with contacts")
    return plan


def _tell(found: Imported, out: Path | None, as_json: bool) -> None:
    plan = found.plan
    first = min(one.start_s for one in plan.contacts)
    rates = sorted({one.rate_bit_s for one in plan.contacts})
    delays = sorted({one.delay_s for one in plan.contacts})
    if as_json:
        click.echo(json.dumps({
            "nodes": len(plan.nodes), "contacts": len(plan.contacts), "epoch_utc": plan.epoch_utc or None,
            "start_s": first, "end_s": plan.end_s, "rate_bit_s": [rates[0], rates[-1]],
            "delay_s": [delays[0], delays[-1]], "warnings": list(found.warnings), "out": str(out) if out else None,
        }))  # fmt: skip
        return
    for warning in found.warnings[:SHOWN_WARNINGS]:
        click.echo(f"warning: {warning}", err=True)
    if len(found.warnings) > SHOWN_WARNINGS:
        click.echo(f"warning: ... and {len(found.warnings) - SHOWN_WARNINGS} more (--json lists all)", err=True)
    click.echo(f"{len(plan.contacts)} contacts of {len(plan.nodes)} nodes, {first:g} to {plan.end_s:g} s"
               f" after {plan.epoch_utc or 'a second 0 that the plan does not date'}")  # fmt: skip
    click.echo(f"rates {rates[0] / 1e6:g} to {rates[-1] / 1e6:g} Mbit/s, delays {delays[0]:g} to {delays[-1]:g} s")
    for what, count in _counts(plan):
        click.echo(f"{count} {what}")
    if out:
        click.echo(f"wrote {out}")


def _counts(plan: ContactPlan) -> list[tuple[str, int]]:
    both = (("registrations", len(plan.registered)), ("hypothetical contacts", len(plan.hypothetical)))
    return [(what, count) for what, count in both if count]
