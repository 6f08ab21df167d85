"""Which power mode each node of a run was in, and when: from what the nodes said that they had set and read back."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from itertools import pairwise

import msgspec

from ground_controller.journal import Journal
from ground_controller.simulation.board_model import DEFAULT_MODE
from ground_controller.telemetry.scenario_time import ScenarioTime
from hil_config.wire.messages import NodeEvent, Record, decode

_NS = 1_000_000_000
_TOLD = frozenset({"PowerSet", "SettingsRestored", "SafetyActed"})


class ModeTimes:
    """Instants are nanoseconds of the ground's monotonic clock, `when` having read those of the nodes."""

    def __init__(self, journal: Journal, when: ScenarioTime) -> None:
        self._ns: dict[str, list[int]] = defaultdict(list)
        self._modes: dict[str, list[str | None]] = defaultdict(list)
        for node, said in _said(journal, when).items():
            now: str | None = DEFAULT_MODE
            eased = False
            for at_ns, body in sorted(said, key=lambda one: one[0]):  # a board may hand in late what it kept
                if body is None:
                    now, eased = DEFAULT_MODE, False
                elif body.name == "SafetyActed":
                    eased = body.details.get("state") == "ease"
                else:
                    now = _mode(body)
                self._ns[node].append(at_ns)
                self._modes[node].append(None if eased else now)

    def over(self, node: str, begin_ns: int, end_ns: int) -> str | None:
        """The mode from `begin_ns` to `end_ns`; None where it changed meanwhile, or the board had its own will."""
        first, last = (bisect_right(self._ns[node], at) for at in (begin_ns, end_ns))
        modes = [DEFAULT_MODE, *self._modes[node]]
        found = set(modes[first : last + 1])
        return found.pop() if len(found) == 1 else None

    def seconds(self, node: str, begin_ns: int, end_ns: int) -> dict[str, float]:
        """Host seconds in each mode between two instants; `unknown` where it is not known."""
        found: dict[str, float] = defaultdict(float)
        marks = [begin_ns, *(at for at in self._ns[node] if begin_ns < at < end_ns), end_ns]
        for since, until in pairwise(marks):
            found[self.over(node, since, since) or "unknown"] += (until - since) / _NS
        return dict(found)


def _said(journal: Journal, when: ScenarioTime) -> dict[str, list[tuple[int, NodeEvent | None]]]:
    """By node: when it said what; None: a new process of it, which knows of no order."""
    found: dict[str, list[tuple[int, NodeEvent | None]]] = defaultdict(list)
    boots: dict[str, str] = {}
    for entry in journal.entries("event", "status"):
        if entry.kind == "status":
            if boots.setdefault(entry.node, entry.boot_id) != entry.boot_id:
                found[entry.node].append((entry.host_ns, None))
                boots[entry.node] = entry.boot_id
            continue
        body = decode(entry.body, Record).body
        if isinstance(body, NodeEvent) and body.name in _TOLD:
            found[entry.node].append((when.host_ns(entry.node, body.mono_ns, entry.boot_id), body))
    return found


def _mode(said: NodeEvent) -> str | None:
    """The mode that a node's word on its settings stands for; None where nobody named it, or it was refused."""
    told = said.details
    if "refused" in told:
        return None
    if "mode" in told:
        return str(told["mode"])
    return DEFAULT_MODE if said.name == "SettingsRestored" or told == {"duty": 1.0} else None


def mode_shares(journal: Journal) -> dict[str, dict[str, float]]:
    """By node, the share of the run's host time that it was in each power mode; empty where none was ordered."""
    if not msgspec.json.decode(journal.meta("campaign")).get("power"):
        return {}
    times, begin_ns = ModeTimes(journal, ScenarioTime(journal)), int(journal.meta("anchor_host_ns"))
    end_ns = max((entry.host_ns for entry in journal.entries("decision")), default=begin_ns)
    if end_ns <= begin_ns:
        return {}
    names = [board["name"] for board in msgspec.json.decode(journal.meta("bench"))["boards"]]
    return {
        name: {
            mode: round(_NS * seconds / (end_ns - begin_ns), 4)
            for mode, seconds in sorted(times.seconds(name, begin_ns, end_ns).items())
        }
        for name in names
        if journal.covers(name)
    }
