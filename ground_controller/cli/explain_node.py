"""What `hil explain RUN --node N --at T` prints for a person."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.markup import escape

from ground_controller.explain_node import Act, ExpertThere, NodeWhy


def show_node(why: NodeWhy, console: Console) -> None:
    """Duty and its history, power, what it served, and the policies' reasons."""
    n, limits = why.numbers, why.limits
    console.print(
        f"{why.node} at scenario second {why.asked_s:g}: tick {why.tick} of second {why.scenario_s:g}"
        + ("" if why.record_ends_s is None else f" (the record ends at second {why.record_ends_s:g})"),
        highlight=False,
    )
    console.print(
        f"  {n.temperature_c:.1f} C (limits {limits['temperature_soft_c']:g} soft, {limits['temperature_hard_c']:g}"
        f" hard), charge {n.charge:.1%} (limits {limits['charge_soft']:.0%} soft, {limits['charge_hard']:.0%} hard),"
        f" sunlit {n.sunlit:.0%}: the twin's, modelled",
        highlight=False,
    )
    console.print(
        f"  {n.power_w:.2f} W ({escape(why.power_source)}), {n.calls_per_s:.1f} expert rows a second", highlight=False
    )
    console.print("duty")
    for one in why.changes:
        console.print(f"  from second {one.scenario_s:g}: {one.state} ({escape(one.why)})", highlight=False)
    console.print("power setting")
    console.print(
        f"  {_act(why.power)}" if why.power else "  as the board had it: nothing was set in this run", highlight=False
    )
    if why.acts:
        console.print("what the node said of itself")
        for act in why.acts:
            console.print(f"  {_act(act)}", highlight=False)
    trunk = ", ".join(f"layers {first} to {last}" for first, last in why.slices) or "none"
    console.print(f"gateway of: {trunk}", highlight=False)
    console.print(f"experts in the plan: {len(why.experts) or 'none'}", highlight=False)
    for layer, row in groupby(why.experts, key=lambda one: one.layer):
        console.print(f"  layer {layer}: " + ", ".join(map(_expert, row)), highlight=False)
    if why.removed:
        told = ", ".join(f"{layer}.{expert}" for layer, expert in why.removed)
        console.print(f"  named in the first plan and not now (layer.expert): {told}", highlight=False)
    for move in why.moves:
        kind = "copied" if move.copy else "moved"
        console.print(
            f"  {move.layer}.{move.expert} {kind} from {move.source} to {move.target} since second {move.begun_s:g}:"
            f" {move.stage}",
            highlight=False,
        )
    console.print("reasons of the policies at this tick")
    for reason in why.reasons:
        console.print(f"  {escape(reason)}", highlight=False)


def _act(act: Act) -> str:
    details = ", ".join(f"{key} {value}" for key, value in act.details.items() if value != "")
    return escape(f"second {act.scenario_s:g}: {act.event}" + (f" ({details})" if details else ""))


def _expert(one: ExpertThere) -> str:
    kind = f" {one.precision}" if one.precision else ""
    share = f" ({one.share:.0%} among {one.hosts} hosts)" if one.hosts > 1 else ""
    price = f" price {one.price:.3g}" if one.price else ""
    return f"{one.expert}{kind}{share}{price}"
