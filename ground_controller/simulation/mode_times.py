"""Which power mode each node of a run was in, and when: from what the nodes said that they had set and read back."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from itertools import pairwise

import msgspec

from ground_controller.journal import Journal
from ground_controller.simulation.board_model import DEFAULT_MODE
from hil_config.wire.messages import NodeEvent, Record, decode

_NS = 1_000_000_000


class ModeTimes:
    """Instants are nanoseconds of the monotonic clock of the node they are about, or of `by` where that is given."""

    def __init__(self, journal: Journal) -> None:
        text = journal.meta("clock_offsets_ns", "{}")
        self._offset_ns = {n: o[0] for n, o in msgspec.json.decode(text, type=dict[str, tuple[int, int]]).items()}
        self._ns: dict[str, list[int]] = defaultdict(list)
        self._modes: dict[str, list[str | None]] = defaultdict(list)
        last: dict[str, str | None] = {}
        eased: set[str] = set()
        for entry in journal.entries("event"):
            body = decode(entry.body, Record).body
            if not isinstance(body, NodeEvent) or body.name not in {"PowerSet", "SettingsRestored", "SafetyActed"}:
                continue
            if body.name == "SafetyActed":
                eased.discard(entry.node)
                if body.details.get("state") == "ease":
                    eased.add(entry.node)
            else:
                last[entry.node] = _mode(body)
            self._ns[entry.node].append(body.mono_ns)
            self._modes[entry.node].append(None if entry.node in eased else last.get(entry.node, DEFAULT_MODE))

    def over(self, node: str, begin_ns: int, end_ns: int, by: str = "") -> str | None:
        """The mode from `begin_ns` to `end_ns`; None where it changed meanwhile, or the board had its own will."""
        shift = self._offset_ns.get(node, 0) - self._offset_ns.get(by, 0) if by else 0
        first, last = (bisect_right(self._ns[node], at + shift) for at in (begin_ns, end_ns))
        modes = [DEFAULT_MODE, *self._modes[node]]
        found = set(modes[first : last + 1])
        return found.pop() if len(found) == 1 else None

    def seconds(self, node: str, begin_ns: int, end_ns: int) -> dict[str, float]:
        """Host seconds in each mode between two instants of the ground's clock; `unknown` where it is not known."""
        begin_ns, end_ns = (at + self._offset_ns.get(node, 0) for at in (begin_ns, end_ns))
        found: dict[str, float] = defaultdict(float)
        marks = [begin_ns, *(at for at in self._ns[node] if begin_ns < at < end_ns), end_ns]
        for since, until in pairwise(marks):
            found[self.over(node, since, since) or "unknown"] += (until - since) / _NS
        return dict(found)


def _mode(said: NodeEvent) -> str | None:
    """The mode that a node's word on its settings stands for; None where nobody named it, or it was refused."""
    told = said.details
    if "refused" in told:
        return None
    if "mode" in told:
        return str(told["mode"])
    return DEFAULT_MODE if said.name == "SettingsRestored" or told == {"duty": 1.0} else None
