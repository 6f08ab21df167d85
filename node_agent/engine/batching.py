"""Which rows go through a layer together: steps of different requests that wait for the same layer, plan and delta."""

from __future__ import annotations

from node_agent.engine.lines import Work

BATCH_ROWS = 256
FAIR_S = 0.05
"""Waiting longer than this goes before everything else."""

Key = tuple[int, int, bool, str]
"""Layer, plan version, whether that plan has expired, adapter."""


class ReadyRows:
    """Steps waiting for a layer.

    The lowest layer goes first, so that steps behind catch up with those ahead and share their calls from then
    on; a step that has waited for `FAIR_S` goes before that rule.
    """

    def __init__(self) -> None:
        self._waiting: dict[Key, list[Work]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, work: Work) -> None:
        plan = work.pinned
        self._waiting.setdefault((work.layer, plan.plan.version, plan.expired, work.frame.adapter), []).append(work)

    def take(self, now_s: float) -> list[Work]:
        """The next batch, at most `BATCH_ROWS` rows (or one step, however long); empty if nothing waits."""
        if not self._waiting:
            return []
        oldest = min(self._waiting, key=lambda key: self._waiting[key][0].ready_s)
        late = now_s - self._waiting[oldest][0].ready_s > FAIR_S
        key = oldest if late else min(self._waiting)
        works = self._waiting[key]
        rows, count = 0, 0
        for work in works:
            if count and rows + work.rows > BATCH_ROWS:
                break
            rows, count = rows + work.rows, count + 1
        taken, rest = works[:count], works[count:]
        if rest:
            self._waiting[key] = rest
        else:
            del self._waiting[key]
        return [work for work in taken if not work.stale]
