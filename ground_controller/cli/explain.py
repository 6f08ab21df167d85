"""`hil explain`: why a token came out of these experts on these hosts, and why a node was used as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ground_controller.cli.explain_node import show_node
from ground_controller.explain import LayerWhy, TokenWhy, explain_token, token_number
from ground_controller.explain_hops import Hop
from ground_controller.explain_node import explain_node
from hil_config.errors import UsageError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--token", "number", type=click.IntRange(1), help="The N-th token that came to the client.")
@click.option("--request", type=int, help="With --position: a token by its place in a request.")
@click.option("--position", type=int, help="Counted from the first token of the prompt, 0.")
@click.option("--node", help="With --at: why this node was in service or not, at which power, with which experts.")
@click.option("--at", "at_s", type=click.FloatRange(0.0), help="Scenario second.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def explain(
    run: Path, number: int | None, request: int | None, position: int | None, node: str | None, at_s: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Say why a token of RUN used these experts on these hosts, layer by layer; or why a node was used as it was at an
    instant. From the run's record alone."""
    if node is not None or at_s is not None:
        if node is None or at_s is None or not (number is request is position is None):
            raise UsageError("--node and --at belong together, and to no token", "hil explain RUN --node NAME --at 120")
        about = explain_node(run, node, at_s)
        click.echo(msgspec.json.encode(about).decode()) if as_json else show_node(about, Console(file=sys.stdout))
        return
    if number is None:
        if request is None or position is None:
            raise UsageError(
                "found no token to explain", "give --token N, or --request R --position P, or --node NAME --at S"
            )
        number = token_number(run, request, position)
    why = explain_token(run, number)
    if as_json:
        click.echo(msgspec.json.encode(why).decode())
        return
    show(why, Console(file=sys.stdout))


def show(why: TokenWhy, console: Console) -> None:
    """For a person."""
    name = f" {why.text!r}" if why.text else ""
    console.print(
        f"token {why.number}: {why.token}{escape(name)}, request {why.request} position {why.position}, "
        f"{why.since_us / 1e3:.1f} ms after {'its request began' if why.first else 'the one before'}"
    )
    console.print(f"times: {escape(why.times)}; scheduled delays: modelled", highlight=False)
    for reason in why.attempts:
        console.print(f"  begun again before it: {escape(reason)}")
    if why.degraded:
        console.print(f"  degraded: {', '.join(why.degraded)}")
    for plan in why.plans:
        expired = ", expired: plain top-k instead" if plan.expired else ""
        console.print(
            f"plan {plan.version} of scenario second {plan.issued_s:g}{expired}: {plan.policy}, {escape(plan.reason)}"
        )
        console.print(
            f"  {plan.k_min} to {plan.k_max} experts, coverage {plan.coverage:g}, threshold {plan.threshold:g}"
        )
    if why.nodes:
        console.print(_nodes(why))
    for layer in why.layers:
        console.print(_layer(layer))
        for hop in layer.hops:
            console.print(f"  {_hop(hop)}")
        for one in layer.passed_over:
            console.print(f"  expert {one.expert} (score {one.score:.3f}) not used: {one.why}")
        for count, what in ((layer.rerouted, "rerouted"), (layer.lost, "lost")):
            if count:
                console.print(f"  {count} {what}")
    for hop in why.hand_overs:
        console.print(f"hand-over {_hop(hop)}")


def _hop(hop: Hop) -> str:
    """Scheduled beside achieved."""
    ends = f"{hop.source} to {hop.target}" + (" and back" if hop.both_ways else "")
    over = f" over {', '.join(hop.over)}" if hop.over else ""
    told = "not known" if hop.scheduled_us is None else f"{hop.scheduled_us / 1e3:.2f} ms"
    took = "not known alone" if hop.achieved_us is None else f"{hop.achieved_us / 1e3:.2f} ms"
    return f"{ends}{over}: scheduled {told}, achieved {took}" + (f" ({hop.note})" if hop.note else "")


def _nodes(why: TokenWhy) -> Table:
    table = Table(title="nodes when the plan was made (temperature, charge and sunlight: the twin's)")
    for heading in ("node", "temperature", "charge", "sunlit", "in service"):
        table.add_column(heading)
    for node in why.nodes:
        state = "dead" if not node.alive else "yes" if node.in_service else "no"
        table.add_row(node.node, f"{node.temperature_c:.1f} C", f"{node.charge:.1%}", f"{node.sunlit:.0%}", state)
    return table


def _layer(layer: LayerWhy) -> Table:
    away = f", out of reach: {', '.join(layer.unreachable)}" if layer.unreachable else ""
    title = (
        f"layer {layer.layer} at {layer.gateway}: trunk {layer.trunk_us / 1e3:.2f} ms, link {layer.link_us / 1e3:.2f}, "
        f"queue {layer.queue_us / 1e3:.2f}, experts {layer.expert_us / 1e3:.2f}; "
        f"{layer.kept_mass:.1%} of the model's own mass{away}"
    )
    table = Table(title=escape(title), title_justify="left")
    for heading in ("expert", "score", "weight", "price", "utility", "host", "why there"):
        table.add_column(heading)
    for pick in layer.picks:
        star = "" if pick.expert in layer.top_k else " (not the model's own)"
        table.add_row(
            f"{pick.expert}{star}", f"{pick.score:.3f}", f"{pick.mixing:.3f}", f"{pick.price:.4f}",
            f"{pick.utility:.3f}", pick.host, pick.why_host,
        )  # fmt: skip
    return table
