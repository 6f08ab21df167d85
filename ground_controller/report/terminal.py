"""The table a run ends with."""

from __future__ import annotations

from rich.console import Console, JustifyMethod
from rich.table import Table

from ground_controller.report.evaluation import HEADINGS, evaluation_rows
from ground_controller.report.metrics import Metrics

MOST_NAMED = 8


def _figure(value: float | None, pattern: str) -> str:
    return "not known" if value is None else pattern.format(value)


def _shaper(m: Metrics) -> str:
    return f"{m.shaper_error_us['p50']:.0f} / {m.shaper_error_us['p99']:.0f} us (a link's worst report)"


def _records(m: Metrics) -> str:
    refused = sum(m.records_refused.values())
    told = f"{m.records} committed, {sum(m.records_missing.values())} missing"
    unread = "".join(f", {count} messages of {node} COULD NOT BE READ" for node, count in m.messages_unread.items())
    return told + (f", {refused} REFUSED and not counted" if refused else "") + unread


def _three(values: dict[str, float]) -> str:
    return " / ".join(f"{values[q]:.1f}" for q in ("p50", "p95", "p99")) + " ms" if values else "none"


def summary_rows(m: Metrics) -> list[tuple[str, str]]:
    """(what, value) lines shared by terminal and page."""
    causes = ", ".join(f"{cause} {count}" for cause, count in m.degraded_causes.items())
    rows = [
        ("orbit replayed", f"{m.scenario_s:.0f} s in {m.host_s:.1f} s (x {m.rate:g})"),
        ("policies", f"placement {m.placement}, selection {m.selection}, seed {m.seed}"),
        *([("also deciding", ", ".join(f"{kind} {name}" for kind, name in m.further.items()))] if m.further else []),
        ("work accounting", m.accounting),
        *([("power modes", _modes(m))] if m.modes else []),
        ("generations", f"{m.requests} begun, {m.finished} finished"),
        ("tokens", f"{m.tokens} ({m.tokens_per_s:.1f} /s)"),
        ("degraded tokens", f"{m.degraded_tokens}" + (f" ({causes})" if causes else "")),
        ("TTFT p50/p95/p99", _three(m.ttft_ms)),
        ("TPOT p50/p95/p99", _three(m.tpot_ms)),
        ("same token as top-k", _beside_top_k(m)),
        *evaluation_summary(m),
        ("mixing mass served", _mass(m)),
        ("energy gross / net", f"{_figure(m.energy_gross_j, '{:.1f} J')} / {_figure(m.energy_net_j, '{:.1f} J')}"),
        ("sent between satellites", f"{m.link_bytes / 1e6:.2f} MB, {m.transmit_j:.2f} J modelled" + _further(m)),
        ("shaper error p50/p99", _shaper(m)),
        ("decision / lateness p99", f"{m.decide_ms.get('p99', 0):.1f} / {m.lateness_ms.get('p99', 0):.1f} ms"),
        ("records", _records(m)),
    ]  # fmt: skip
    rows += [("requirement met" if one.met else "REQUIREMENT NOT MET", one.text) for one in m.requirements]
    if not m.complete:
        rows.insert(0, ("NOT ENDED", "the run goes on or was interrupted; figures cover what was recorded"))
    rows += [
        (
            "interrupted, gone on with",
            f"at {one.scenario_s:.0f} s of the orbit, {one.gap_s:.1f} s without a controller; agents {one.agents}, "
            f"{one.requests} requests taken up again, epoch {one.epoch}",
        )
        for one in m.interruptions
    ]
    if m.lost_nodes:
        back = {one.node for one in m.nodes if one.ended != "lost"}
        rows.append(("nodes lost", ", ".join(f"{n} (came back)" if n in back else n for n in m.lost_nodes)))
    if m.broker_restarts:
        rows.append(("broker restarts", str(m.broker_restarts)))
    if m.restarts:
        rows.append(("generations begun again", "; ".join(f"{n} x {why}" for why, n in m.restarts.items())))
    return rows


def _beside_top_k(m: Metrics) -> str:
    if m.agreement is None and m.given_up_nats is None:
        return f"not known: {m.accuracy_note}"
    return f"{_figure(m.agreement, '{:.2%}')}; {_figure(m.given_up_nats, '{:.4f} nats')} given up a token"


def _mass(m: Metrics) -> str:
    if not m.tokens:
        return "not known: no token came"
    return f"{m.kept_mass:.4f} of top-k; {m.experts_per_token:.3f} experts a token and layer"


def _modes(m: Metrics) -> str:
    """Shares of all nodes' time, and who was lowered for some of it."""
    whole: dict[str, float] = {}
    for shares in m.modes.values():
        for mode, share in shares.items():
            whole[mode] = whole.get(mode, 0.0) + share / len(m.modes)
    changed = [node for node, shares in m.modes.items() if len(shares) > 1]
    told = ", ".join(f"{mode} {share:.1%}" for mode, share in whole.items())
    more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
    return told + (f" of the nodes' time; changed: {', '.join(changed[:MOST_NAMED])}{more}" if changed else "")


def _further(m: Metrics) -> str:
    """What the policies beyond selection did, empty where they did nothing."""
    parts = []
    for what, counts in (("calls", m.calls_by_codec), ("expert rows", m.rows_by_precision)):
        if counts:
            parts.append(f"{what}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if m.migrations:
        told = ", ".join(f"{count} {stage}" for stage, count in m.migrations.items())
        parts.append(f"experts moved: {told}, {m.migration_bytes / 1e6:.2f} MB, {m.migration_j:.2f} J")
    return "".join(f"; {part}" for part in parts)


def evaluation_summary(m: Metrics) -> list[tuple[str, str]]:
    """One line; none when the run was not asked to evaluate."""
    e = m.evaluation
    if e is None:
        return []
    if e.nats_delta is None and e.accuracy_delta is None:
        return [("evaluation", e.note)]
    parts = []
    if e.nats_delta is not None:
        parts.append(f"{e.nats_delta:+.4f} nats a token ({e.tokens} tokens)")
    if e.accuracy_delta is not None:
        parts.append(f"{e.accuracy_delta:+.1%} of {e.questions} cloze questions")
    return [("against fp32 top-k", ", ".join(parts))]


# Ten columns in eighty characters: seconds over the soft limit and out of new work, expert rows.
NODE_HEADINGS = (
    "node", "satellite", "peak C", "soft s", "out s", "charge %", "wear", "sunlit", "rows", "net J",
)  # fmt: skip


def node_rows(m: Metrics) -> list[tuple[str, ...]]:
    """One row a node, as text."""
    return [
        (
            n.node + ("" if n.ended == "alive" else " (lost)"), n.satellite, f"{n.temperature_peak_c:.1f}",
            f"{n.over_soft_limit_s:.0f}", f"{n.out_of_service_s:.0f}",
            f"{100 * n.charge_start:.1f}-{100 * n.charge_end:.1f}",
            f"{n.wear:.1e}", f"{n.sunlit_share:.0%}", str(n.expert_rows),
            "?" if n.net_j is None else f"{n.net_j:.1f}",
        )
        for n in m.nodes
    ]  # fmt: skip


def model_line(m: Metrics) -> str:
    """The model nodes of a fleet in one line; nothing of it is measured."""
    warmest = max(n.temperature_peak_c for n in m.nodes)
    out = sum(n.out_of_service_s > 0.0 for n in m.nodes)
    pace = _figure(m.tpot_ms.get("p50"), "{:.1f} ms")
    return (
        f"{len(m.nodes)}, all modelled: {m.tokens} tokens at TPOT p50 {pace}; energy gross"
        f" {_figure(m.energy_gross_j, '{:.1f} J')}; peak {warmest:.1f} C; {out} without"
        f" new work for a while; {sum(n.expert_rows for n in m.nodes)} expert rows"
    )


def print_metrics(metrics: Metrics, console: Console) -> None:
    """Provenance first, then the answer, then each node."""
    console.print(metrics.provenance, style="bold")
    console.print()
    summary = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for one in metrics.answers:
        summary.add_row(one.name, f"{one.text()} ({one.kind})")
    for what, value in summary_rows(metrics):
        summary.add_row(what, value)
    console.print(summary)
    console.print()
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in NODE_HEADINGS:
        side: JustifyMethod = "left" if heading in {"node", "satellite", "charge %"} else "right"
        table.add_column(heading, justify=side, overflow="fold" if heading == "satellite" else "ellipsis")
    for row in node_rows(metrics):
        table.add_row(*row)
    console.print(table)
    if metrics.models is not None:
        console.print(f"\nmodel nodes {model_line(metrics.models)}")
    if metrics.evaluation is not None and (rows := evaluation_rows(metrics.evaluation)):
        marks = Table(box=None, padding=(0, 2, 0, 0))
        for heading in HEADINGS:
            marks.add_column(heading, justify="left" if heading == "domain" else "right")
        for row in rows:
            marks.add_row(*row)
        console.print()
        console.print(marks)
        console.print(f"({metrics.evaluation.note})")
