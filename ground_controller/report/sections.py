"""The parts of a run's report page, each from `Metrics` alone."""

from __future__ import annotations

from ground_controller.report.evaluation import HEADINGS, evaluation_rows
from ground_controller.report.html_parts import paragraph, table
from ground_controller.report.links import LinkResult
from ground_controller.report.metrics import Metrics
from ground_controller.report.terminal import summary_rows
from ground_controller.report.waterfall import MEANING

MOST_MODELS = 12
CAUSES = {
    "rerouted": "another expert served in the place of one that was picked",
    "lost": "nobody served an expert: its part of the sum is missing",
    "re-prefilled": "first token after the request began again at other gateways",
}


def _or_unknown(value: float | None, pattern: str) -> str:
    return "not known" if value is None else pattern.format(value)


def answer(m: Metrics) -> str:
    """The answer with its intervals, then everything else in one table."""
    rows = [(one.name, one.text() if one.estimate is not None else "not known", one.kind, one.how) for one in m.answers]
    head = ("", "estimate [95 % interval]", "", "how")
    note = (
        "An interval speaks of this run: its machine, its minutes, its heat. What other runs of the same settings would"
        " give needs runs with other seeds (hil compare)."
    )
    shown = paragraph("NOT ENDED: the run goes on or was interrupted; figures cover what was recorded.", "bad")
    first = "" if m.complete else shown
    return first + table(rows, head, "answer") + paragraph(note) + table(summary_rows(m))


def models(m: Metrics) -> str:
    """The model nodes beside the real ones, apart from them; empty where there are none."""
    if m.models is None:
        return ""
    rows = [*((one.name, f"{one.text()} ({one.kind})") for one in m.models.answers), *summary_rows(m.models)]
    hottest = sorted(m.models.nodes, key=lambda n: -n.temperature_peak_c)[:MOST_MODELS]
    shown = [(n.node, n.satellite, f"{n.temperature_peak_c:.1f}", f"{n.out_of_service_s:.0f}",
              f"{n.charge_start:.1%} to {n.charge_end:.1%}", str(n.expert_rows)) for n in hottest]  # fmt: skip
    head = ("node", "satellite", "peak C", "no new work s", "charge", "expert rows")
    note = f"The {len(shown)} warmest of {len(m.models.nodes)}; all of them are in report.json and export/models."
    return (
        "<h2>Model nodes</h2>" + paragraph(m.models.provenance) + table(rows) + paragraph(note) + table(shown, head)
    )  # fmt: skip


def requirements(m: Metrics) -> str:
    """What the campaign required, met or not; empty when it required nothing."""
    if not m.requirements:
        return ""
    rows = [("met" if one.met else "NOT MET", one.text, one.source) for one in m.requirements]
    return "<h2>Requirements</h2>" + table(rows, ("", "requirement", "source of the figure"))


def where_time_goes(m: Metrics) -> str:
    """The waterfall as a table: parts, shares, meanings; they add up to the last line."""
    if not m.waterfall_tokens:
        return paragraph("No decoded token has a full record of its steps.")
    whole = m.waterfall_whole_ms
    rows = [
        (part, f"{round(ms, 3) + 0.0:.3f}", f"{round(ms / whole, 3) + 0.0:.1%}", MEANING[part])  # no -0.000
        for part, ms in m.waterfall_ms.items()
    ]
    rows.append(("token", f"{whole:.3f}", "100 %", f"between tokens at the client, mean of {m.waterfall_tokens}"))
    return table(rows, ("part", "ms", "share", "what it is"))


def energy(m: Metrics) -> str:
    """Gross and net of each node, how they were integrated, and what was subtracted."""
    rows = [
        (
            n.node, _or_unknown(n.gross_j, "{:.2f}"), _or_unknown(n.gross_uncertainty_j, "{:.2g}"),
            _or_unknown(n.idle_w, "{:.3f}"), n.idle_from or "none", _or_unknown(n.net_j, "{:.2f}"), n.energy_note,
        )
        for n in m.nodes
    ]  # fmt: skip
    rows.append((
        "all", _or_unknown(m.energy_gross_j, "{:.2f}"), _or_unknown(m.energy_gross_uncertainty_j, "{:.2g}"), "", "",
        _or_unknown(m.energy_net_j, "{:.2f}"), "",
    ))  # fmt: skip
    used = sorted({n.idle_from for n in m.nodes if n.idle_from})
    told = {
        "profile": "Net is above the idle power of the boards' profiles: that was not measured in this run.",
        "idle windows": "Net is above the idle power measured in this run's idle windows, before and after the work.",
    }
    source = m.sources.get("power_w", "not reported by any node")
    note = f"Power: {source}. Gross: {m.energy_method}. " + " ".join(told[one] for one in used)
    head = ("node", "gross J", "+- J (sampling)", "idle W", "idle from", "net J", "note")
    return paragraph(note, "") + table(rows, head)


def limits(m: Metrics) -> str:
    """Temperature and charge against their limits, and wear: all the twin's."""
    rows = [
        (
            n.node + ("" if n.ended == "alive" else " (lost)"), n.satellite, f"{n.temperature_peak_c:.1f}",
            f"{n.temperature_margin_soft_k:+.1f}", f"{n.temperature_margin_hard_k:+.1f}", f"{n.over_soft_limit_s:.0f}",
            f"{n.charge_start:.1%} to {n.charge_end:.1%}", f"{n.charge_least:.1%}",
            f"{100 * n.charge_margin_soft:+.1f}",
            f"{100 * n.charge_margin_hard:+.1f}", f"{n.out_of_service_s:.0f}", f"{n.voltage_least_v:.2f}",
        )
        for n in m.nodes
    ]  # fmt: skip
    head = (
        "node", "satellite", "peak C", "to soft K", "to hard K", "over soft s", "charge", "least", "to soft %",
        "to hard %", "no new work s", "least V",
    )  # fmt: skip
    line = (
        f"Modelled by the twin. Limits: {m.limits['temperature_soft_c']:g} C soft, {m.limits['temperature_hard_c']:g} C"
        f" hard; charge {m.limits['charge_soft']:.0%} soft, {m.limits['charge_hard']:.0%} hard. A margin below 0 was"
        " passed. Times are orbit time."
    )
    return paragraph(line, "") + table(rows, head, "dense")


def wear(m: Metrics) -> str:
    """Three models beside each other, and what each node served."""
    rows = [
        (
            n.node, f"{n.wear:.3e}", f"{n.wear_rainflow:.3e}", f"{n.wear_xu:.3e}", f"{n.sunlit_share:.0%}",
            str(n.expert_rows),
        )
        for n in m.nodes
    ]  # fmt: skip
    head = (
        "node", "depth of discharge, full discharges", "rainflow, Woehler, of life", "Xu et al., of life", "sunlit",
        "expert rows",
    )  # fmt: skip
    note = (
        "Battery wear by three models of the twin: the closed form counts full discharges, rainflow and Xu et al. are"
        " shares of life. Compare policies with it; do not predict from it."
    )
    return paragraph(note, "") + table(rows, head)


def links(m: Metrics) -> str:
    """Each direction of each link."""
    if not m.links:
        return paragraph("No frame went over a link.")
    rows = [
        (
            f"{one.source} to {one.target}", str(one.frames), f"{one.bytes / 1e6:.3f}",
            _or_unknown(None if one.used is None else 100 * one.used, "{:.3f} %") if any(one.histogram) else "no limit",
            str(one.refused), str(one.lost), str(one.cut), f"{one.scheduled_us / 1e3:.3f}", *_errors(one),
        )
        for one in m.links
    ]  # fmt: skip
    head = (
        "link", "frames", "MB", "of what it could carry", "refused", "lost", "cut", "scheduled ms", "error p50 us",
        "p99 us (worst report)", "max us",
    )  # fmt: skip
    note = (
        "Error is achieved minus scheduled delay at the sender. Refused frames were not sent (link down or no room),"
        " lost ones fell to the link's loss, cut ones waited when it went down."
    )
    return paragraph(note, "") + table(rows, head, "dense")


def _errors(one: LinkResult) -> tuple[str, str, str]:
    if not any(one.histogram):
        return "not shaped", "", ""
    return f"{one.error_p50_us:.0f}", f"{one.error_p99_us:.0f}", f"{one.error_max_us:.0f}"


def degraded(m: Metrics) -> str:
    """Tokens that are not what undisturbed serving gives, by cause."""
    if not m.degraded_tokens:
        return paragraph(f"None of {m.tokens}.")
    rows = [
        (cause, str(count), f"{count / m.tokens:.2%}", CAUSES.get(cause, ""))
        for cause, count in m.degraded_causes.items()
    ]
    shown = table(rows, ("cause", "tokens", "share", "what happened"))
    lines = [(f"begun again {count} times", why) for why, count in m.restarts.items()]
    lines += [("node lost", node) for node in m.lost_nodes]
    return (
        paragraph(f"{m.degraded_tokens} of {m.tokens} tokens; one may have several causes.", "")
        + shown
        + (table(lines, ("what led to it", "")) if lines else "")
    )


def evaluation(m: Metrics) -> str:
    """Perplexity and cloze accuracy by domain beside the yardstick's; empty when none was asked for."""
    found = m.evaluation
    if found is None:
        return ""
    rows = evaluation_rows(found)
    note = found.note
    if found.degraded_items:
        note += f"; {found.degraded_items} items were served with experts rerouted or lost"
    return "<h2>Evaluation</h2>" + (table(rows, HEADINGS) if rows else "") + paragraph(note)
