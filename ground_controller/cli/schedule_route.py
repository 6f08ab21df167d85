"""`hil schedule route`: the way of one message over a contact plan, and what becomes of it over another."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from ground_controller.formats.plan import ContactPlan
from ground_controller.formats.registry import read_plan
from ground_controller.routing.route import Hop, Message, Route, travel
from ground_controller.routing.routers import ROUTERS, make_router


@click.command("route")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--from", "source", required=True, help="Node that has the message.")
@click.option("--to", "target", required=True, help="Node that wants it.")
@click.option("--at-s", default=0.0, show_default=True, help="When it is there, seconds of the plan.")
@click.option("--size-mbit", type=click.FloatRange(min=0.0), default=0.0, show_default=True, help="Its size.")
@click.option("--router", type=click.Choice(list(ROUTERS)), default="cgr", show_default=True)
@click.option("--factual", type=click.Path(path_type=Path), help="A plan of what really happens; else the plan itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def route_command(
    path: Path,
    source: str,
    target: str,
    at_s: float,
    size_mbit: float,
    router: str,
    factual: Path | None,
    as_json: bool,
) -> None:
    """Find a route over a plan (CSV) and follow it over what really happens."""
    plan = _plan(path)
    message = Message(source, target, at_s, size_mbit * 1e6)
    found = make_router(router, plan).route(message)
    if found is None:
        click.echo(json.dumps({"router": router, "route": None}) if as_json else f"no route from {source} to {target}")
        return
    happened = travel(found, message, _plan(factual) if factual else plan)
    stranded = math.isinf(happened.arrived_s)
    if as_json:
        click.echo(json.dumps({
            "router": router, "predicted_arrival_s": found.arrival_s, "ends_s": found.ends_s,
            "route": [_hop(hop) for hop in found.hops], "hops_made": [_hop(hop) for hop in happened.hops],
            "arrived_s": None if stranded else happened.arrived_s, "stranded_at": happened.node if stranded else None,
        }))  # fmt: skip
        return
    _show(router, found)
    if stranded:
        click.echo(f"stranded at {happened.node}: the contact it waits for does not come, or ends too early")
    else:
        click.echo(f"arrives at {happened.arrived_s:g} s over the {'factual plan' if factual else 'plan'}")


def _plan(path: Path) -> ContactPlan:
    return read_plan(path, "csv", {"lenient": True}).plan


def _hop(hop: Hop) -> dict[str, object]:
    one = hop.contact
    return {"from": one.source, "to": one.target, "contact_s": [one.start_s, one.end_s], "leaves_s": hop.leaves_s,
            "arrives_s": hop.arrives_s}  # fmt: skip


def _show(router: str, found: Route) -> None:
    click.echo(f"{router}: {' - '.join(found.nodes)}, predicted at {found.arrival_s:g} s, gone at {found.ends_s:g} s")
    for hop in found.hops:
        one = hop.contact
        click.echo(
            f"  {one.source} -> {one.target}  contact {one.start_s:g}..{one.end_s:g} s, sent by {hop.leaves_s:g} s,"
            f" there at {hop.arrives_s:g} s"
        )
