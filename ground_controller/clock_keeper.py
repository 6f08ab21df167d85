"""Keeps the nodes' scenario clocks beside the controller's: anchors them, and corrects what crystals drift apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from ground_controller.fleet.mqtt import MqttFleet
from hil_config.clock import PacedClock
from hil_config.errors import HilError
from hil_config.wire import topics
from hil_config.wire.messages import ClockAnchor

Offset = tuple[int, int]
"""A node's monotonic clock minus ours, and how far that may be wrong, ns."""

Kind = Literal["start", "pause", "resume", "seek", "step", "sync"]

LEAST_DRIFT_NS = 200_000
"""A clock that is less off than this is left alone: shapers err by as much."""
ROUNDS = 4


class ClockChecked(msgspec.Struct, frozen=True):
    """What a check of a node's clock found; `corrected`: the node was told."""

    offset_ns: int
    uncertainty_ns: int
    drift_ns: int
    corrected: bool


def drifted(before: Offset, now: Offset) -> bool:
    """Whether two measurements differ by more than both may be wrong, and by enough to matter."""
    return abs(now[0] - before[0]) > max(LEAST_DRIFT_NS, before[1] + now[1])


class ClockKeeper:
    """One run's clocks.

    Args:
        offsets: of every node, as measured before the start.
        record: takes (node, what a check found) for the journal.
        every_s: host seconds between checks.
    """

    def __init__(
        self,
        fleet: MqttFleet,
        epoch: int,
        clock: PacedClock,
        offsets: Mapping[str, Offset],
        record: Callable[[str, ClockChecked], None],
        every_s: float,
    ) -> None:
        self._fleet = fleet
        self._epoch = epoch
        self._clock = clock
        self._offsets = dict(offsets)
        self._record = record
        self._every_s = every_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clock-keeper", daemon=True)

    def announce(self, kind: Kind, host_ns: int, scenario_s: float, rate: float) -> None:
        """Tell every node of the clock; `host_ns` is ours."""
        with self._lock:
            for node in self._offsets:
                self._send(node, kind, host_ns, scenario_s, rate)

    def _send(self, node: str, kind: Kind, host_ns: int, scenario_s: float, rate: float) -> None:
        status = self._fleet.statuses.get(node)
        if status is not None:
            anchor = ClockAnchor(
                epoch=self._epoch, boot_id=status.boot_id, scenario_s=scenario_s, rate=rate,
                mono_ns=host_ns + self._offsets[node][0], kind=kind,
            )  # fmt: skip
            self._fleet.publish(node, topics.CLOCK, anchor)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(self._every_s):
            for node in self._offsets:
                status = self._fleet.statuses.get(node)
                if self._stopping.is_set() or status is None or status.state == "offline":
                    continue
                try:
                    self.check(node)
                except HilError:  # no answer: the broker or the node is away, and its clock runs on as it was set
                    continue

    def check(self, node: str) -> None:
        """Measure a node's clock; where it has drifted, anchor it anew where ours is."""
        self._measured(node, self._fleet.clock_offset_ns(node, ROUNDS), False)

    def meet(self, node: str, offset: Offset) -> None:
        """Anchor the clock of a node that knows of none: its agent was started again. It waits for nothing."""
        self._measured(node, offset, True)

    def _measured(self, node: str, now: Offset, anew: bool) -> None:
        with self._lock:
            before = self._offsets[node]
            corrected = anew or drifted(before, now)
            if corrected:
                self._offsets[node] = now
                host_s, scenario_s, rate = self._clock.anchor
                self._send(node, "sync", int(host_s * 1e9), scenario_s, rate)
        self._record(node, ClockChecked(now[0], now[1], now[0] - before[0], corrected))
