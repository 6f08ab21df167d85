"""What a matrix found: a row a run, and for each variant the mean over seeds with its interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ground_controller.matrix.order import Cell
from ground_controller.matrix.plan import Plan
from ground_controller.report.accounting import accounting_of_metrics
from ground_controller.report.intervals import student_quantile
from ground_controller.report.metrics import Metrics
from ground_controller.report.requirements import figure, source
from hil_config.durable_file import write_result

FIGURES: tuple[tuple[str, str], ...] = (
    ("tokens", "value"), ("tokens_per_s", "value"), ("ttft_ms", "p50"), ("tpot_ms", "p50"), ("tpot_ms", "p95"),
    ("gross_j_per_token", "value"), ("net_j_per_token", "value"), ("temperature_peak_c", "max"),
    ("charge_end", "min"), ("degraded_share", "value"),
)  # fmt: skip


class Mean(msgspec.Struct, frozen=True):
    """Over `seeds` (repeats of one seed are averaged first); `half` of the 95 % interval, None below two seeds."""

    mean: float
    half: float | None
    seeds: int

    @property
    def percent(self) -> float | None:
        """Half of the interval as a share of the mean."""
        if self.half is None or self.mean == 0.0:
            return 0.0 if self.half == 0.0 else None
        return 100.0 * self.half / abs(self.mean)


class Row(msgspec.Struct, frozen=True):
    """A finished run. `figures`: `tpot_ms p50` and so on; `required`: met, of so many."""

    cell: Cell
    figures: dict[str, float | None]
    met: int
    required: int
    lost_nodes: tuple[str, ...]


class Summary(msgspec.Struct, frozen=True):
    """`sources`: where each figure came from, of all runs. `means`: variant -> figure -> mean; warm-up left out."""

    campaign: str
    kind: str
    cells: int
    rows: tuple[Row, ...]
    sources: dict[str, tuple[str, ...]]
    means: dict[str, dict[str, Mean]]


def names_of(plan: Plan) -> tuple[tuple[str, str], ...]:
    """The figures of the table: the usual ones, and the one that the stop rule looks at."""
    stop = plan.matrix_of().stop
    extra = () if stop is None or (stop.metric, stop.statistic) in FIGURES else ((stop.metric, stop.statistic),)
    return (*FIGURES, *extra)


def key_of(metric: str, statistic: str) -> str:
    return metric if statistic == "value" else f"{metric} {statistic}"


def summarise(plan: Plan, found: Sequence[tuple[Cell, Metrics]]) -> Summary:
    """From the finished runs, in their order; InvalidRunError if they mix work accountings."""
    accounting_of_metrics((cell.name, metrics) for cell, metrics in found)
    names = names_of(plan)
    rows = [
        Row(
            cell, {key_of(*name): figure(*name, metrics) for name in names},
            sum(one.met for one in metrics.requirements), len(metrics.requirements), metrics.lost_nodes,
        )
        for cell, metrics in found
    ]  # fmt: skip
    sources = {key_of(*name): tuple(dict.fromkeys(source(name[0], metrics) for _, metrics in found)) for name in names}
    counted = [row for row in rows if row.cell.block > 0]
    means: dict[str, dict[str, Mean]] = {}
    for variant in plan.campaigns:
        mine = [row for row in counted if row.cell.variant == variant]
        pairs = {key: _mean([(row.cell.seed, row.figures[key]) for row in mine]) for key in sources}
        means[variant] = {key: value for key, value in pairs.items() if value is not None}
    return Summary(plan.campaign, plan.kind, len(plan.cells), tuple(rows), sources, means)


def _mean(values: list[tuple[int, float | None]]) -> Mean | None:
    """Student's interval of the mean over seeds; None if a run does not give the figure."""
    by_seed: dict[int, list[float]] = {}
    for seed, value in values:
        if value is None:
            return None
        by_seed.setdefault(seed, []).append(value)
    if not by_seed:
        return None
    each = [sum(mine) / len(mine) for mine in by_seed.values()]
    mean, count = sum(each) / len(each), len(each)
    if count < 2:
        return Mean(mean, None, count)
    spread = math.sqrt(sum((one - mean) ** 2 for one in each) / (count - 1))
    return Mean(mean, student_quantile(0.95, count - 1) * spread / math.sqrt(count), count)


def write_summary(folder: Path, plan: Plan, summary: Summary) -> None:
    """`summary.json` and `summary.csv`, each whole or not at all."""
    write_result(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
    text = io.StringIO()
    axes = list(dict.fromkeys(axis for labels in plan.labels.values() for axis in labels))
    keys = list(summary.sources)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "on", "block", *axes, "seed", "repeat", *keys, "requirements_met", "requirements"])
    for row in summary.rows:
        cell, labels = row.cell, plan.labels[row.cell.variant]
        writer.writerow([
            cell.name, summary.kind, cell.block, *(labels[axis] for axis in axes), cell.seed, cell.repeat,
            *(row.figures[key] for key in keys), row.met, row.required,
        ])  # fmt: skip
    write_result(folder / "summary.csv", text.getvalue().encode())
