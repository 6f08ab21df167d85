"""Two trade-offs that the policy study's machinery answers: work against wear, and accuracy against heat and bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import msgspec
import numpy as np

from ground_controller.report.intervals import paired_interval
from ground_controller.studies.chart import Chart, Curve, Study, Table
from ground_controller.studies.policy_cells import IDLE, Cell, Effort, run_all
from ground_controller.studies.policy_scene import Scene
from ground_controller.studies.policy_verdicts import Found
from hil_config.schema.load import default_path, load_campaign

Told = Callable[[str], None]
LOADS = (0.25, 0.5, 0.75, 1.0, 1.25)
WEAR_POLICIES = ("topk", "horizon", "horizon coverage=0.8")
ACCURACY = {
    "top_p": ("top_p p=0.5", "top_p p=0.6", "top_p p=0.7", "top_p p=0.8", "top_p p=0.9"),
    "dtop_p": ("dtop_p target_experts=1.2", "dtop_p target_experts=1.4", "dtop_p target_experts=1.6",
               "dtop_p target_experts=1.8"),
    "des": ("des z=0.6", "des z=0.7", "des z=0.8", "des z=0.9", "des z=1.0"),
    "horizon": ("horizon coverage=0.6", "horizon coverage=0.7", "horizon coverage=0.8", "horizon coverage=0.9",
                "horizon"),
}  # fmt: skip
MODELLED = "modelled: orbits, boards, heat, batteries, wear, links, energy and times; nothing here ran on a board"
MEASURED = f"{MODELLED}. Measured: nats, of the real quantised reference model in one process under the modelled plans"


def wear_study(scene: Scene, effort: Effort, jobs: int, told: Told, loads: Sequence[float] = LOADS) -> Study:
    """Throughput and latency now against battery wear over a year."""
    found: dict[str, list[tuple[float, Found]]] = {policy: [] for policy in WEAR_POLICIES}
    cells: list[dict[str, object]] = []
    for load in loads:
        loaded = replace(scene, tokens_s=scene.tokens_s * load)
        told(f"{loaded.tokens_s:g} tokens a second")
        ran, _ = run_all(loaded, WEAR_POLICIES, effort, jobs, False, told)
        cells += [{"tokens_s": loaded.tokens_s, **row} for row in _plain(ran)]
        for policy in WEAR_POLICIES:
            found[policy].append((loaded.tokens_s, Found(ran)))
    rows, wear, latency = [], [], []
    for policy, each in found.items():
        served = [asked * (1.0 - f.mean(policy, "unserved")) for asked, f in each]
        added = [paired_interval(f.values(policy, "wear_year"), f.values(IDLE, "wear_year")) for _, f in each]
        times = [f.mean(policy, "latency_ms") for _, f in each]
        low, high = tuple(a.low for a in added), tuple(a.high for a in added)
        wear.append(Curve(policy, tuple(served), tuple(a.estimate for a in added), low, high))
        latency.append(Curve(policy, tuple(a.estimate for a in added), tuple(times)))
        for (asked, f), got, life, ms in zip(each, served, added, times, strict=True):
            rows.append((
                policy, f"{asked:g}", f"{got:.1f}", f"{ms:.0f}", life.text("{:.2f}"), _against(f, policy),
                f"{f.mean(policy, 'wear_rainflow_year'):.4f}", f"{f.mean(policy, 'over_k_s'):.1f}",
            ))  # fmt: skip
    head = ("policy", "tokens/s asked", "tokens/s served", "ms/token", "work's wear, full discharges/y",
            "over topk's", "share of life/y, rainflow, work and bus",
            "K s over the limit, satellite and orbit")  # fmt: skip
    charts = (
        Chart("throughput-wear", "Wear that the work adds in a year against throughput (modelled, extrapolated)",
              "tokens/s served", "full discharges a year", tuple(wear)),
        Chart("wear-latency", "Time a token against wear that the work adds in a year (modelled, extrapolated)",
              "full discharges a year", "ms a token", tuple(latency)),
    )  # fmt: skip
    text = (
        f"Scene {scene.name}: {scene.about}; {effort.seeds} seeds. Wear is the mean over satellites in the orbits after"
        " the first, times the number of such orbits in a year; the work's is what it adds to that of the same bench"
        " without work, seed by seed, with 95 % intervals over seeds. It ranks policies and predicts no battery.",
        dropped(found),
        waiting(found),
    )
    numbers = {"scene": scene.name, "loads": list(loads), "effort": asdict(effort), "cells": cells}
    return Study(
        "wear", "Throughput and latency now against battery wear", MODELLED,
        f"hil study wear --scene {scene.name} --seeds {effort.seeds}",
        (Table("Load turned up, policy by policy", head, tuple(rows)),), charts, text, numbers,
    )  # fmt: skip


def _against(found: Found, policy: str) -> str:
    """Wear over top-k's at the same load, seed by seed."""
    if policy == "topk":
        return ""
    gap = paired_interval(found.values(policy, "wear_year"), found.values("topk", "wear_year"))
    return gap.text("{:+.2f}") + ("" if gap.distinguishable else ", not distinguishable")


def dropped(found: Mapping[str, Sequence[tuple[float, Found]]]) -> str:
    """Where boards left service for heat, by what was not served."""
    told = [
        f"{policy} at {asked:g} tokens a second ({share:.1%})"
        for policy, each in found.items()
        for asked, f in each
        if (share := f.mean(policy, "unserved")) >= 0.0005
    ]
    if not told:
        return "Every policy served all tokens at every load."
    return "Boards that reach their limit of heat leave service, and tokens are dropped: " + "; ".join(told) + "."


def waiting(found: Mapping[str, Sequence[tuple[float, Found]]]) -> str:
    """How much of a token's time can be waiting: by how much it moves with load."""
    moved = []
    for policy, each in found.items():
        times = [f.mean(policy, "latency_ms") for _, f in each]
        moved.append(max(times) / min(times) - 1.0)
    busiest = max(f.mean(policy, "busiest") for policy, each in found.items() for _, f in each)
    return (
        f"A time a token moves by at most {max(moved):.1%} with the load: it is links and work, hardly waiting, though"
        f" the busiest board uses {busiest:.0%} of its cores. Waiting is approximated, nothing is batched; for queues"
        " in detail there is hil simulate."
    )


def accuracy_study(
    scene: Scene, effort: Effort, jobs: int, told: Told, families: Mapping[str, Sequence[str]] = ACCURACY
) -> Study:
    """Accuracy against heat and bytes: each policy's knob turned."""
    texts = ["topk", *(text for family in families.values() for text in family)]
    cells, _ = run_all(scene, texts, effort, jobs, False, told)
    found = Found(cells)
    idle_c = found.mean(IDLE, "mean_c")
    rows = [
        (t, f"{np.exp(found.mean(t, 'nats')):.3f}", f"{found.mean(t, 'nats') - found.mean('topk', 'nats'):+.4f}",
         f"{found.mean(t, 'mean_c') - idle_c:.2f}", f"{found.mean(t, 'peak_c'):.1f}",
         f"{found.mean(t, 'bytes_token'):.0f}", f"{found.mean(t, 'active_j_token'):.3f}",
         f"{found.mean(t, 'experts'):.2f}", f"{found.mean(t, 'unserved'):.2%}")
        for t in texts
    ]  # fmt: skip
    head = ("policy and knob", "perplexity (measured)", "nats over topk's", "K above idle", "peak C", "bytes/token",
            "J/token above idle", "experts", "dropped")  # fmt: skip
    charts = (
        _family_chart(
            "accuracy-heat", "the mean warming of a board by its work", "K", found, families, "mean_c", idle_c
        ),
        _family_chart("accuracy-peak", "the hottest die", "C", found, families, "peak_c", 0.0),
        _family_chart(
            "accuracy-bytes", "bytes between satellites", "bytes a token", found, families, "bytes_token", 0.0
        ),
    )
    limit_c = load_campaign(default_path("campaign")).twin.limits.temperature_soft_c
    best = min(texts[1:], key=lambda t: found.mean(t, "nats"))
    text = (
        f"Scene {scene.name}, {effort.seeds} seeds. Nats are those of the real int8 reference model under plans sampled"
        f" over the orbit, on {effort.tokens} tokens of held-out text a domain. It is one small model: a larger one may"
        " mind a skipped expert more, or less.",
        f"Lowest nats of all knobs: {best} with {found.mean(best, 'nats'):.4f}, topk has"
        f" {found.mean('topk', 'nats'):.4f}. All read the same texts, and how another choice of texts would move them"
        " is not known: differences of a few thousandths of a nat mean nothing.",
        "Mean warming follows the joules of the work, wherever it is done; where a policy puts it shows in the hottest"
        f" die, a mean over seeds (soft limit {limit_c:g} C).",
    )
    numbers = {"scene": scene.name, "effort": asdict(effort), "cells": _plain(cells)}
    return Study(
        "accuracy", "Accuracy against heat and bytes", MEASURED,
        f"hil study accuracy --scene {scene.name} --seeds {effort.seeds}",
        (Table("One knob of each policy", head, tuple(rows)),), charts, text, numbers,
    )  # fmt: skip


def _family_chart(
    name: str, what: str, unit: str, found: Found, families: Mapping[str, Sequence[str]], key: str, less: float
) -> Chart:
    curves = [Curve("topk", (found.mean("topk", key) - less,), (found.mean("topk", "nats"),))]
    for family, texts in families.items():
        curves.append(
            Curve(family, tuple(found.mean(t, key) - less for t in texts), tuple(found.mean(t, "nats") for t in texts))
        )
    title = f"Nats a token (measured under modelled plans) against {what} (modelled)"
    return Chart(name, title, unit, "nats a token", tuple(curves))


def _plain(cells: Sequence[Cell]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = msgspec.to_builtins(list(cells))
    return [{k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()} for row in rows]
