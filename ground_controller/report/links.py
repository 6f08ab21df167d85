"""What each link carried, what became of the frames it did not carry, and how well its shaper kept the schedule."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from ground_controller.report.passed import Span
from ground_controller.telemetry.tables import histogram_of
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.messages import ERROR_EDGES_US

SHORT_BY = 4
SHORT_SHARE = 0.02
"""A histogram may lack so many frames, and this share: a run's last frames may be counted and not shaped yet."""


class LinkResult(msgspec.Struct, frozen=True):
    """One direction of a link over the run.

    `frames` and `bytes` went out; `refused` were not sent (down, or no room), `lost` fell to the link's loss, `cut`
    waited when it went down. `scheduled_us`: mean over frames. `error_p50_us`: mean of the reports' medians, by frames;
    `error_p99_us`, `error_max_us`: the worst report. `histogram`: shaped frames by achieved minus scheduled delay,
    between `ERROR_EDGES_US`. `used`: share of what the link could have carried while it was up, None if not known.
    """

    source: str
    target: str
    frames: int
    bytes: int
    refused: int
    lost: int
    cut: int
    scheduled_us: float
    error_p50_us: float
    error_p99_us: float
    error_max_us: float
    histogram: tuple[int, ...]
    used: float | None

    @property
    def whole(self) -> bool:
        """The histogram holds the frames, but for a few of the last interval; nothing is asked of unshaped links."""
        return not any(self.histogram) or abs(self.frames - sum(self.histogram)) <= SHORT_BY + SHORT_SHARE * self.frames


def link_results(
    links: dict[str, list[Any]], schedule: LinkSchedule | None, satellites: dict[str, str], spans: Iterable[Span],
    rate_scale: float = 1.0,
) -> tuple[LinkResult, ...]:  # fmt: skip
    """From the table `links` by column, in the order of first use.

    Args:
        schedule: of the run; None where it is not there any more.
        satellites: of each node.
        spans: the run's host time, in which frames go at the schedule's rates times `rate_scale`.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for i, pair in enumerate(zip(links["node"], links["peer"], strict=True)):
        rows.setdefault(pair, []).append(i)
    passed = tuple(spans)
    carried = {
        (a, b): rate_scale * _capacity(schedule, (satellites[a], satellites[b]), passed)
        for a, b in rows
        if schedule is not None and a in satellites and b in satellites
    }
    return tuple(_one(pair, [{k: v[i] for k, v in links.items()} for i in at], carried) for pair, at in rows.items())


def _one(pair: tuple[str, str], reports: list[dict[str, Any]], carried: dict[tuple[str, str], float]) -> LinkResult:
    total = {name: sum(r[name] for r in reports) for name in ("frames", "bytes", "refused", "lost", "cut")}
    frames = max(1, total["frames"])
    counts = np.zeros(len(ERROR_EDGES_US) + 1, int)
    for report in reports:
        counts += histogram_of(report["error_histogram"])
    could = carried.get(pair, 0.0)
    return LinkResult(
        *pair, **total,
        scheduled_us=round(sum(r["scheduled_us"] * r["frames"] for r in reports) / frames, 1),
        error_p50_us=round(sum(r["error_p50_us"] * r["frames"] for r in reports) / frames, 1),
        error_p99_us=round(max(r["error_p99_us"] for r in reports), 1),
        error_max_us=round(max(r["error_max_us"] for r in reports), 1),
        histogram=tuple(counts.tolist()), used=round(8.0 * total["bytes"] / could, 6) if could else None,
    )  # fmt: skip


def _capacity(schedule: LinkSchedule, pair: tuple[str, str], passed: tuple[Span, ...]) -> float:
    """Bits that the direction from one satellite to another could have carried in the host time of a run."""
    bits = 0.0
    for one in passed:
        left_s, at_s, rate = one
        while left_s > 0.0:
            span = schedule.span(*pair, at_s)
            ends = rate > 0.0 and at_s < span.end_s < at_s + left_s * rate
            here_s = (span.end_s - at_s) / rate if ends else left_s
            bits += span.rate_bit_s * here_s if span.up else 0.0
            at_s, left_s = (span.end_s, left_s - here_s) if ends else (at_s, 0.0)
    return bits


def bin_labels() -> tuple[str, ...]:
    """Of a histogram's counts, in microseconds or milliseconds."""
    names = [f"{edge} us" if edge < 1000 else f"{edge // 1000} ms" for edge in ERROR_EDGES_US]
    inner = [f"{a.removesuffix(' us') if b.endswith('us') else a} to {b}" for a, b in pairwise(names)]
    return (f"below {names[0]}", *inner, f"over {names[-1]}")
