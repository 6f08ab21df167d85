"""Lines: what a gateway keeps of each request: its key-value cache, and its steps in the order they came."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.frames import Handover, Step
from hil_config.wire.messages import LayerEvidence
from hil_config.wire.plan import GatewaySlice
from models.serving.batching import CHUNK_ROWS
from node_agent.engine.kv_cache import CacheShape, RequestCache
from node_agent.engine.plans import Pinned
from node_agent.engine.trunk import TrunkSessions

F32 = NDArray[np.float32]


@dataclass(eq=False)
class Work:
    """One step of one request on its way through this gateway's slice: `hidden` [T, H] enters `layer`."""

    frame: Step | Handover
    line: Line
    slice: GatewaySlice
    pinned: Pinned
    trunk: TrunkSessions
    hidden: F32
    layer: int
    begun_s: float
    ready_s: float
    degraded: set[str]
    stale: bool = False
    handover: str = ""
    kept: list[float] = field(default_factory=list)
    evidence: list[LayerEvidence] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.hidden)


@dataclass(eq=False)
class Line:
    """One request here. `active` is the step under way; at most one, so that rows enter the cache in order."""

    cache: RequestCache
    waiting: deque[Step | Handover] = field(default_factory=deque)
    active: Work | None = None

    @property
    def idle(self) -> bool:
        return self.active is None and not self.waiting

    @property
    def rows(self) -> int:
        """How many wait."""
        return sum(frame.rows for frame in self.waiting)

    def take(self) -> tuple[Step | Handover, int]:
        """The next step; of a long prompt the first rows. By how many steps the line is longer for that: the rest of
        such a prompt is one that waits, so that no prompt fills a gateway by its length."""
        frame, rest = _cut(self.waiting.popleft())
        if rest is not None:
            self.waiting.appendleft(rest)
        return frame, int(rest is not None)

    def forget(self) -> int:
        """Drop everything of older attempts; how many steps that were."""
        count = len(self.waiting)
        self.waiting.clear()
        if self.active is not None:
            self.active.stale = True  # its batch is on the way and ends without it
            self.active = None
            count += 1
        return count


def _cut(frame: Step | Handover) -> tuple[Step | Handover, Step | None]:
    """Of a long prompt the first `CHUNK_ROWS` rows, which ask for no token, and the rest of it. Scored whole."""
    if not isinstance(frame, Step) or frame.rows <= CHUNK_ROWS or frame.score:
        return frame, None
    first, rest = frame.tokens[:CHUNK_ROWS], frame.tokens[CHUNK_ROWS:]
    chunk = Step(frame.request, frame.attempt, frame.start, 0, frame.route, len(first), first, adapter=frame.adapter)
    later = Step(
        frame.request, frame.attempt, frame.start + len(first), frame.remaining, frame.route, len(rest), rest,
        adapter=frame.adapter,
    )  # fmt: skip
    return chunk, later


def stage_of(frame: Step | Handover) -> int:
    """Which of the request's gateways the frame is for, by its place on the way."""
    return frame.stage if isinstance(frame, Handover) else 0


class LineTable:
    """Lines of at most `capacity` requests, one for each stage: where boards are few, a node is a request's gateway
    twice. The least recently used request of which all lines are idle goes first."""

    def __init__(self, shape: CacheShape, capacity: int, layers: int) -> None:
        self._make = partial(RequestCache, shape)
        self._capacity, self._layers = capacity, layers
        self._lines: OrderedDict[int, dict[int, Line]] = OrderedDict()

    def get(self, request: int, stage: int) -> Line | None:
        """The request's line of that stage, empty if it is new; None when every request is at work, or this one has a
        line for each layer."""
        lines = self._lines.get(request)
        if lines is None:
            if len(self._lines) >= self._capacity and not self._evict():
                return None
            lines = self._lines[request] = {}
        self._lines.move_to_end(request)
        line = lines.get(stage)
        if line is None and len(lines) < self._layers:
            line = lines[stage] = Line(self._make())
        return line

    def _evict(self) -> bool:
        for request, lines in self._lines.items():
            if all(line.idle for line in lines.values()):
                del self._lines[request]
                return True
        return False

    def drop(self, request: int, attempt: int) -> int:
        """The request's lines of attempts up to that one are forgotten; how many steps were in them."""
        lines, count = self._lines.get(request, {}), 0
        for stage in [stage for stage, line in lines.items() if line.cache.attempt <= attempt]:
            count += lines.pop(stage).forget()
        if not lines:
            self._lines.pop(request, None)
        return count
