"""What goes through the gateways of a simulated run: steps of requests, and what is noted of them on the way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ground_controller.simulation.traces import Trace
from hil_config.wire.messages import LayerEvidence
from hil_config.wire.plan import GatewaySlice, SelectionPlan
from models.serving.batching import CHUNK_ROWS


class SimStep(NamedTuple):
    """Rows [start, start + rows) of a request on their way to the gateway of trunk slice `stage`."""

    request: int
    attempt: int
    start: int
    rows: int
    remaining: int
    route: tuple[str, ...]
    trace: Trace
    stage: int = 0
    plan_version: int = -1
    degraded: frozenset[str] = frozenset()


class SimToken(NamedTuple):
    """A token on its way to the client."""

    request: int
    attempt: int
    position: int
    degraded: tuple[str, ...]


@dataclass(eq=False, slots=True)
class SimWork:
    """One step under way in a slice."""

    step: SimStep
    line: SimLine
    slice: GatewaySlice
    plan: SelectionPlan
    layer: int
    begun_s: float
    degraded: set[str]
    ready_s: float
    stale: bool = False
    handover: str = ""
    kept: list[float] = field(default_factory=list)
    evidence: list[LayerEvidence] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.step.rows


@dataclass(eq=False, slots=True)
class SimLine:
    """One request at one gateway: how far its cache reaches, and its steps in order."""

    attempt: int = 0
    length: int = 0
    waiting: deque[SimStep] = field(default_factory=deque)
    active: SimWork | None = None

    def restart(self, attempt: int) -> None:
        """Drop what is of older attempts."""
        self.waiting.clear()
        if self.active is not None:
            self.active.stale = True
            self.active = None
        self.attempt, self.length = attempt, 0


def chunks(step: SimStep) -> list[SimStep]:
    """A long prompt as steps of at most `CHUNK_ROWS` rows; only the last one asks for a token."""
    if step.stage > 0 or step.rows <= CHUNK_ROWS:
        return [step]
    parts = []
    for at in range(0, step.rows, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, step.rows - at)
        remaining = step.remaining if at + rows >= step.rows else 0
        parts.append(SimStep(step.request, step.attempt, step.start + at, rows, remaining, step.route, step.trace))
    return parts
