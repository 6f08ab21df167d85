"""The policy study as tables, plots and plain words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from ground_controller.policies.registry import SELECTION
from ground_controller.report.intervals import paired_interval
from ground_controller.studies.chart import Chart, Curve, Study, Table
from ground_controller.studies.offline_bound import Bound
from ground_controller.studies.policy_cells import BESIDE, IDLE, Cell, Effort, named
from ground_controller.studies.policy_gap import gap_table, gap_text
from ground_controller.studies.policy_scene import Scene
from ground_controller.studies.policy_verdicts import AXES, EQUAL_NATS, Axis, Found, Rival, Win, rivals, wins

OURS = "horizon"
PROVENANCE = (
    "modelled: orbits, boards, heat, batteries, wear, links and energy. Measured: nats and perplexity, of the real"
    " quantised reference model in one process under the modelled plans. Nothing here ran on a board"
)
PLOTS = (
    ("energy-perplexity", "active_j_token", "nats"),
    ("wear-perplexity", "added", "nats"),
    ("heat-perplexity", "over_k_s", "nats"),
    ("latency-energy", "latency_ms", "active_j_token"),
    ("bytes-perplexity", "bytes_token", "nats"),
)
_TITLES = {axis.key: axis.title for axis in AXES} | {"added": "wear that the work adds, full discharges a year"}


def compose(
    scene: Scene, effort: Effort, policies: Sequence[str], cells: Sequence[Cell], bounds: Sequence[Bound]
) -> Study:
    """The study from its cells. `bounds`: the offline ones of seed 0, without and with the limit on heat, or none."""
    found = Found(cells)
    won = wins(found, policies)
    others = [p for p in policies if named(p)[0] != OURS]
    beside = {p: rivals(found, p, others) for p in policies if named(p)[0] == OURS}
    tables = [_cost_table(found, policies), _wear_table(found, policies), _wins_table(won)]
    tables += [_rivals_table(ours, each) for ours, each in beside.items() if each]
    tables += [gap_table(found, policies, bounds)] if bounds else []
    text = [*_read(scene, effort), *_won_text(won, found, policies)]
    text += [claim_text(found, ours, each) for ours, each in beside.items()]
    text += [*([gap_text(found, bounds)] if bounds else []), *_limits_text()]
    numbers = {
        "scene": {**asdict(scene), "platform": scene.platform.model_dump(exclude_none=True)},
        "effort": asdict(effort), "cells": [_finite(msgspec.to_builtins(cell)) for cell in cells],
        "wins": [{"axis": w.axis.key, "best": w.best, "not_distinguishable": w.tied} for w in won],
        "beside": {ours: [_rival_numbers(rival) for rival in each] for ours, each in beside.items()},
        "bounds": [_finite(asdict(bound)) for bound in bounds],
    }  # fmt: skip
    command = f"hil study policies --scene {scene.name} --seeds {effort.seeds} --orbits {effort.orbits}"
    named_ones = () if sorted(policies) == sorted([*SELECTION, *BESIDE]) else policies
    command += f" --plans {effort.plans}" + "".join(f" --policy {shlex.quote(one)}" for one in named_ones)
    command += "" if bounds else " --no-bound"
    return Study(
        "policies", "What every selection policy costs over an orbit", PROVENANCE, command, tuple(tables),
        tuple(_charts(found, policies)), tuple(text), numbers,
    )  # fmt: skip


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no number for what is none."""
    return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in row.items()}


def _rival_numbers(rival: Rival) -> dict[str, Any]:
    gaps = {"nats": rival.nats, "wear_year": rival.wear, "over_k_s": rival.over}
    return {"rival": rival.policy, "equal_perplexity": rival.equal, **{key: asdict(gap) for key, gap in gaps.items()}}


def _cost_table(found: Found, policies: Sequence[str]) -> Table:
    head = (
        "policy", "perplexity (measured)", "mass kept", "experts", "unserved", "J/token above idle", "J/token gross",
        "B/token", "ms/token", "cores",
    )  # fmt: skip
    rows = []
    for p in policies:
        m = {key: found.mean(p, key) for key in Cell.__struct_fields__[2:]}
        rows.append((
            p, f"{np.exp(m['nats']):.3f}", f"{m['kept']:.4f}", f"{m['experts']:.2f}", f"{m['unserved']:.2%}",
            f"{m['active_j_token']:.3f}", f"{m['gross_j_token']:.2f}", f"{m['bytes_token']:.0f}",
            f"{m['latency_ms']:.0f}", f"{m['busiest']:.0%}",
        ))  # fmt: skip
    return Table("Quality, energy, bytes, time: means over seeds (all modelled but perplexity)", head, tuple(rows))


def _wear_table(found: Found, policies: Sequence[str]) -> Table:
    head = (
        "policy", "K s over limit", "s over limit", "peak C", "mean C", "full discharges/y", "work's, over topk's",
        "of the most worn", "life/y, rainflow", "life/y, Xu", "least charge",
    )  # fmt: skip
    rows = []
    base = found.added("topk", IDLE).mean() if "topk" in policies else float("nan")
    for p in (IDLE, *policies):
        m = {key: found.mean(p, key) for key in Cell.__struct_fields__[2:]}
        rows.append((
            p, f"{m['over_k_s']:.1f}", f"{m['over_s']:.0f}", f"{m['peak_c']:.1f}", f"{m['mean_c']:.1f}",
            f"{m['wear_year']:.1f}", f"{found.added(p, IDLE).mean() / base:.3f}", f"{m['wear_worst_year']:.1f}",
            f"{m['wear_rainflow_year']:.4f}", f"{m['wear_xu_year']:.3f}", f"{m['charge_least']:.2f}",
        ))  # fmt: skip
    title = "Heat by satellite and orbit, and wear by satellite, extrapolated over a year (modelled)"
    return Table(title, head, tuple(rows))


def _wins_table(won: Sequence[Win]) -> Table:
    rows = [
        (w.axis.title, w.axis.source, w.best, ", ".join(w.tied) or "none", ", ".join(w.left_out) or "none") for w in won
    ]
    head = ("lowest is best", "values are", "lowest mean", "not distinguishable from it", "left out: drop tokens")
    return Table("Who wins on what (paired 95 % intervals over seeds)", head, tuple(rows))


def _rivals_table(ours: str, beside: Sequence[Rival]) -> Table:
    rows = []
    for r in beside:
        rows.append((
            r.policy, "equal" if r.equal else _word(ours, r.nats.verdict), r.nats.text("{:+.4f}"),
            r.wear.text("{:+.3f}"), r.wear.verdict, r.over.text("{:+.1f}"), r.over.verdict,
        ))  # fmt: skip
    head = (
        f"{ours} minus", f"perplexity (equal: within {EQUAL_NATS:.0%})", "nats a token", "wear a year", "wear is",
        "K s over", "heat is",
    )  # fmt: skip
    return Table(f"{ours} beside each policy that serves all tokens, paired by seed", head, tuple(rows))


def _word(ours: str, verdict: str) -> str:
    word = {"lower": "better", "higher": "worse"}.get(verdict)
    return f"{ours} {word}" if word else "cannot be told: too few seeds"


def _won_text(won: Sequence[Win], found: Found, policies: Sequence[str]) -> list[str]:
    parts = []
    for w in won:
        tied = f", not distinguishable from {', '.join(w.tied)}" if w.tied else ""
        parts.append(f"{w.axis.title.split(',')[0]}: {w.best}{tied}")
    lost = [f"{p} ({found.mean(p, 'unserved'):.1%})" for p in policies if not found.serves_all(p)]
    text = ["Lowest mean by axis, among policies that serve every token: " + "; ".join(parts) + "."]
    if lost:
        text.append(
            "Left out of these comparisons because they dropped tokens (no gateway of a layer was within its limits):"
            f" {', '.join(lost)}. Their energy and wear are those of serving less."
        )
    return text


def claim_text(found: Found, ours: str, beside: Sequence[Rival]) -> str:
    """The claim of decision 51, held against the rivals of equal perplexity."""
    if not found.serves_all(ours):
        return f"{ours} itself dropped {found.mean(ours, 'unserved'):.1%} of the tokens, so it is not compared."
    equal = [r for r in beside if r.equal]
    if not equal:
        return (
            f"No other policy was shown to have the perplexity of {ours} (within {EQUAL_NATS:.0%}), so the claim cannot"
            " be tried here."
        )
    wear = {verdict: [r.policy for r in equal if r.wear.verdict == verdict] for verdict in _VERDICTS}
    over = {verdict: [r.policy for r in equal if r.over.verdict == verdict] for verdict in _VERDICTS}
    holds = len(wear["lower"]) == len(equal) and not over["higher"]
    says = "is borne out here" if holds else "is NOT borne out here"
    return (
        f"The claim that {ours} beats every other policy on wear and over-temperature at equal perplexity {says}. Of"
        f" {len(equal)} policies of equal perplexity it wears less than {_names(wear['lower'])}, not distinguishably"
        f" from {_names(wear[_VERDICTS[2]])}, more than {_names(wear['higher'])}; it overheats less than"
        f" {_names(over['lower'])}, not distinguishably from {_names(over[_VERDICTS[2]])}, more than"
        f" {_names(over['higher'])}. {ours} itself is {found.mean(ours, 'over_k_s'):.1f} K s over the limit a satellite"
        " and orbit."
    )


_VERDICTS = ("lower", "higher", "not distinguishable")


def _names(policies: Sequence[str]) -> str:
    return ", ".join(policies) or "none"


def _read(scene: Scene, effort: Effort) -> list[str]:
    return [
        f"Scene {scene.name}: {scene.about}. {scene.satellites} boards on satellites of a shell of 256 (550 km, 53"
        f" degrees), {effort.seeds} seeds (day of the year, satellites, charges, tokens), {effort.orbits} orbits of"
        f" which the first is left out. {scene.tokens_s:g} tokens a second ask for {scene.call_j:g} J a row and expert."
        " Every policy with its default options meets the same conditions of a seed; intervals pair seeds, and each"
        " comparison stands for itself: with many of them one in twenty is a chance finding.",
        f"Perplexity: at {effort.plans} instants of the measured orbits of every seed the plan in force is given to the"
        f" gate of the real int8 reference model, which then reads {effort.tokens} tokens of held-out text a domain;"
        " nats are the mean over domains, plans and seeds. It is a measured figure of the real quantised model under"
        " modelled plans. Equal plans are measured once; no interval for the choice of texts is in it.",
    ]


def _limits_text() -> list[str]:
    return [
        "Wear by the closed form counts full discharges; rainflow and Xu are shares of life, Xu at the die's"
        " temperature, which is warmer than a battery. Wear a year is that of the measured orbits times the number of"
        " them in a year, as if the day's eclipses lasted all year; it ranks policies and predicts no battery. Most of"
        " it is the bus's own. Where 'cores' is above 100 % a board was given more than it could do, and the wait for"
        " a core is cut off there.",
        "Tokens arrive evenly; keys and values do not move when a gateway changes; boards are alike. A time a token has"
        " no batching in it: for queues and frames in detail there is hil simulate.",
    ]


def _charts(found: Found, policies: Sequence[str]) -> list[Chart]:
    if "topk" not in policies:
        return []
    charts = []
    for name, x, y in PLOTS:
        curves = []
        for p in policies:
            xs, ys = _axis(found, p, x), _axis(found, p, y)
            if not (np.isfinite(xs).all() and np.isfinite(ys).all()) or not found.serves_all(p):
                continue
            gap = paired_interval(ys, _axis(found, "topk", y))
            middle, base = float(ys.mean()), float(_axis(found, "topk", y).mean())
            curves.append(Curve(p, (float(xs.mean()),), (middle,), (base + gap.low,), (base + gap.high,), labels=(p,)))
        if curves:
            said = "nats measured under modelled plans" if "nats" in (x, y) else "modelled"
            title = f"{_TITLES[y]} against {_TITLES[x]}\n({said}; bars: 95 % interval of the difference to topk)"
            charts.append(Chart(name, title, _TITLES[x], _TITLES[y], tuple(curves), "points", front=True))
    return charts


def _axis(found: Found, policy: str, key: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(found.added(policy, IDLE) if key == "added" else found.values(policy, key))


__all__ = ["Axis", "claim_text", "compose"]
