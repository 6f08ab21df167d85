"""What happened, newest last, with its cause, in words."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal, NamedTuple

import msgspec

from ground_controller.admission import KIND as REFUSED
from ground_controller.admission import Refused
from ground_controller.client_events import AttemptBegan, RequestEnded
from ground_controller.interruption import KIND as RESUMED
from ground_controller.interruption import RETURNED, BoardReturned, RunResumed
from ground_controller.journal import Entry
from ground_controller.live.nodes import Change
from ground_controller.steering import Steered
from ground_controller.unread import KIND as UNREAD
from ground_controller.unread import why_unread
from hil_config.wire import messages as m

Weight = Literal["bad", "notice", "info"]
KINDS = ("event", "attempt", "request_end", UNREAD, REFUSED, "steer", RESUMED, RETURNED)
MOST = 2_000
_BAD = frozenset({"PeerLost", "PeerRefused", "FrameRefused", "ShardsRefused", "SafetyActed", "SpoolDiskFailed",
                  "EvidenceTooLarge", "SafeModeEntered"})  # fmt: skip
_NOTICE = frozenset({"HostShunned", "SensorFlagged", "FaultInjected", "CertificateEndsSoon"})
_STATES: dict[str, Weight] = {"dead": "bad", "out of service": "bad", "no new work": "notice"}
_EXPECTED_ENDS = frozenset({"length", "end of text", "the replayed orbit ended"})
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Event(NamedTuple):
    """`id`: of the entry that tells of it; `what` happened and the `cause`, or "" if none is recorded."""

    id: int
    scenario_s: float
    weight: Weight
    node: str
    what: str
    cause: str


class Events:
    """Takes entries and the nodes' changes in order; keeps the newest."""

    def __init__(self, nodes: tuple[str, ...]) -> None:
        self._nodes = nodes
        self._unread: set[tuple[str, str]] = set()
        self.all: deque[Event] = deque(maxlen=MOST)

    def take(self, number: int, entry: Entry) -> None:
        """An entry of `KINDS`; others pass by."""
        found = _told(entry) if entry.kind in KINDS else None
        if found is not None and not self._again(entry, found[2]):
            self.all.append(Event(number, entry.scenario_s, found[0], entry.node, found[1], found[2]))

    def _again(self, entry: Entry, cause: str) -> bool:
        """Whether this message cannot be read for a reason that was told before: a board may send ten a second."""
        known = len(self._unread)
        if entry.kind == UNREAD and known < MOST:
            self._unread.add((entry.node, cause))
        return entry.kind == UNREAD and len(self._unread) == known

    def take_change(self, change: Change) -> None:
        """A node's change of state, or of where its watts come from; that it began is no news."""
        node = self._nodes[change.node]
        if change.what == "power" and change.cause:
            what = f"power is {change.value}"
            self.all.append(Event(change.id, change.scenario_s, "notice", node, what, change.cause))
        elif change.what == "state" and change.cause:
            weight = _STATES.get(change.value, "info")
            self.all.append(Event(change.id, change.scenario_s, weight, node, change.value, change.cause))

    def take_link(self, number: int, scenario_s: float, pair: str, up: bool) -> None:
        """A scheduled change of a link: part of the experiment, no alarm."""
        what = f"link {pair} is {'up' if up else 'down'}"
        self.all.append(Event(number, scenario_s, "info", "", what, "the link schedule"))


def _told(entry: Entry) -> tuple[Weight, str, str] | None:
    """Weight, what, cause; None for what is no news."""
    if entry.kind == "event":
        body = m.decode(entry.body, m.Record).body
        assert isinstance(body, m.NodeEvent)
        details = {key: value for key, value in body.details.items() if value != ""}
        cause = str(details.pop("reason", ""))
        rest = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in details.items())
        weight: Weight = "bad" if body.name in _BAD else "notice" if body.name in _NOTICE else "info"
        return weight, _WORDS.sub(" ", body.name).lower() + (f" ({rest})" if rest else ""), cause
    if entry.kind == "attempt":
        attempt = msgspec.json.decode(entry.body, type=AttemptBegan)
        what = f"request {attempt.request} begins again over {', '.join(attempt.gateways)}"
        return ("notice", what, attempt.reason) if attempt.reason else None
    if entry.kind == "request_end":
        end = msgspec.json.decode(entry.body, type=RequestEnded)
        ended = f"request {end.request} ended after {len(end.tokens)} tokens"
        return None if end.reason in _EXPECTED_ENDS else ("bad", ended, end.reason)
    if entry.kind == RESUMED:
        resumed = msgspec.json.decode(entry.body, type=RunResumed)
        what = f"the run goes on after {resumed.gap_s:.1f} s without a controller"
        return "notice", what, f"resumed with epoch {resumed.epoch}; {len(resumed.requests)} requests are taken up"
    if entry.kind == RETURNED:
        problem = msgspec.json.decode(entry.body, type=BoardReturned).problem
        return ("bad", "takes no part in the run any more", problem) if problem else (
            "info", "takes part in the run again", "it was told of it anew"
        )  # fmt: skip
    if entry.kind == "steer":
        steered = msgspec.json.decode(entry.body, type=Steered)
        to = f" to {steered.to_s:g} s" if steered.action in {"seek", "step"} else ""
        return "notice", f"{steered.action}{to}", "asked for by hil control"
    if entry.kind == REFUSED:
        return "bad", f"record {entry.seq} was refused", msgspec.json.decode(entry.body, type=Refused).reason
    return "bad", "a message could not be read", why_unread(entry.body)
