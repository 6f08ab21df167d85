"""What a gateway has seen of each host: how long it takes, and whether it may be asked now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

_WINDOW = 64
_FIRST = 8
_FLOOR_S = 0.05
STRIKES = 3
"""Missed deadlines in a row after which a host is left alone for a while."""
SHUN_S = (1.0, 16.0)
"""The first and the longest such while; it doubles each time."""


class HostRecord:
    """Round trips beyond the scheduled delay over the last `_WINDOW` calls, missed deadlines, and quarantine."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_WINDOW)
        self.p95_s = 0.0
        self._strikes = 0
        self._while_s = SHUN_S[0]
        self.shunned_until_s = 0.0
        self.quarantined = ""

    def answered(self, beyond_s: float) -> None:
        """A reply came, `beyond_s` later than the links alone explain."""
        self._seen.append(beyond_s)
        self._strikes = 0
        if len(self._seen) < _WINDOW or not len(self._seen) % _FIRST:
            self.p95_s = sorted(self._seen)[int(0.95 * (len(self._seen) - 1))]

    def missed(self, now_s: float) -> bool:
        """A deadline passed without a reply. True when that makes it shunned."""
        self._strikes += 1
        if self._strikes < STRIKES:
            return False
        self._strikes = STRIKES - 1  # one more after the while is over, and it is shunned again
        self.shunned_until_s = now_s + self._while_s
        self._while_s = min(SHUN_S[1], 2.0 * self._while_s)
        return True

    @property
    def known(self) -> bool:
        """Has it answered often enough to be judged by that?"""
        return len(self._seen) >= _FIRST

    def patience_s(self, scheduled_s: float, most_s: float, usual_s: float, floor_s: float) -> float:
        """How long to wait for a reply before somebody else is asked too: by its own p95, or by `usual_s`, that of
        the hosts in the middle, if that is less. A host that is always slow must not be waited for as long."""
        if not self.known:
            return most_s / 4
        return min(most_s / 2, scheduled_s + max(floor_s, 3.0 * min(self.p95_s, usual_s)))


class HostBook:
    """Records by host name.

    Args:
        round_trip_s: host -> scheduled delay both ways now.
        most_s: the expert timeout.
        tell: (event name, host, reason) when a host is shunned or quarantined.

    `floor_s`: nobody is taken for late sooner; for where the machine is busy with something else.
    """

    def __init__(
        self, round_trip_s: Callable[[str], float], most_s: float, tell: Callable[[str, str, str], None]
    ) -> None:
        self._round_trip_s = round_trip_s
        self._most_s = most_s
        self.floor_s = _FLOOR_S
        self._tell = tell
        self._records: dict[str, HostRecord] = {}
        self._shy = False
        self._usual_s = float("inf")

    def _of(self, host: str) -> HostRecord:
        record = self._records.get(host)
        if record is None:
            record = self._records[host] = HostRecord()
        return record

    def patience_s(self, host: str) -> float:
        return self._of(host).patience_s(self._round_trip_s(host), self._most_s, self._usual_s, self.floor_s)

    def answered(self, host: str, round_trip_s: float) -> None:
        record = self._of(host)
        before_s = record.p95_s
        record.answered(max(0.0, round_trip_s - self._round_trip_s(host)))
        if record.p95_s != before_s:
            known = [r.p95_s for r in self._records.values() if r.known]
            self._usual_s = sorted(known)[len(known) // 2] if len(known) > 2 else float("inf")

    def missed(self, host: str, now_s: float) -> None:
        record = self._of(host)
        if record.missed(now_s):
            self._shy = True
            self._tell("HostShunned", host, f"{STRIKES} deadlines in a row for {record.shunned_until_s - now_s:g} s")

    def quarantine(self, host: str, reason: str) -> None:
        """Never again in this run: a wrong answer is worse than none."""
        record = self._of(host)
        if not record.quarantined:
            record.quarantined = reason
            self._shy = True
            self._tell("HostQuarantined", host, reason)

    def barred(self, now_s: float) -> tuple[frozenset[str], frozenset[str]]:
        """(hosts never to ask, hosts better left alone now)."""
        if not self._shy:
            return frozenset(), frozenset()
        never = frozenset(h for h, r in self._records.items() if r.quarantined)
        shunned = frozenset(h for h, r in self._records.items() if r.shunned_until_s > now_s)
        return never, shunned - never
