"""Dispatch: one layer of one step, from the gate's picks to the weighted sum. Sans-io, no clock of its own.

Calls go out (`take_asks`), replies, losses and time come in. Hosts return the weighted partial sum over the
experts they hold, so a layer costs at most one call and one reply per host. A call that misses its deadline
is hedged to replicas, or to the next live expert of each row where no replica is left; a call whose host is
lost is reissued the same way; what nobody can serve goes missing and the row is marked degraded. A call and
its reissues form a tree: a branch counts through its own reply or through all of its reissues, whichever is
whole first, so nothing is counted twice. Late and duplicate replies are counted and ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.serving.layer_gate import Picks
from models.serving.pick_table import PickTable, share_of_picks, table_of

F32 = NDArray[np.float32]
MAX_DEPTH = 3
"""Reissues of one item: a replica, a second replica or expert, a last one. Bounds the work of a bad day."""
MAX_CALLS = 1 << 11  # of a layer, after which nothing is asked again: a gateway gives the calls of each layer 4,096 ids


class Item(NamedTuple):
    """One expert for one row. `pick` is the column of the gate's picks it came from."""

    row: int
    pick: int
    expert: int
    weight: float


class Call(NamedTuple):
    """What `host` is asked for, as arrays: rows [n] and for each, experts and weights [n, k]."""

    id: int
    host: int
    rows: NDArray[np.intp]
    experts: NDArray[np.int16]
    weights: F32


_new = tuple.__new__
"""For what is made of every token: not through its type's own `__new__`, which is written in Python."""
_FIRST_ROW, _ALL = np.zeros(1, np.intp), np.ones(1)
_FIRST_ROW.flags.writeable = _ALL.flags.writeable = False


class Ask(NamedTuple):
    """To be sent to `host` (index into the plan's nodes): of each row its items."""

    id: int
    host: int
    rows: dict[int, list[Item]]

    @property
    def picks(self) -> int:
        """The most items of a row: k of the call."""
        return max(map(len, self.rows.values()))

    def call(self) -> Call:
        """As arrays; experts -1 where a row has fewer than the others."""
        if len(self.rows) == 1 and 0 in self.rows:
            rows, items = _FIRST_ROW, self.rows[0]
            experts, weights = [[item[2] for item in items]], [[item[3] for item in items]]
        else:
            rows, width = np.fromiter(self.rows, np.intp, len(self.rows)), self.picks
            experts = [[*(item[2] for item in row), *[-1] * (width - len(row))] for row in self.rows.values()]
            weights = [[*(item[3] for item in row), *[0.0] * (width - len(row))] for row in self.rows.values()]
        return Call(self.id, self.host, rows, np.array(experts, np.int16), np.array(weights, np.float32))


class Outcome(NamedTuple):
    """`total` float32 [T, H]; `lost` int [T] items of each row that nobody served; `rerouted` int [T] items
    served by another expert than the gate picked; `hedged` calls that missed their deadline; `ignored` late
    or duplicate replies; `last_call` the newest reply's call, -1 if none; `as_picked`: none lost, none rerouted,
    every host that the gate picked answered itself; `served` [T] mixing mass, a share of what was picked."""

    total: F32
    lost: NDArray[np.intp]
    rerouted: NDArray[np.intp]
    hedged: int
    ignored: int
    last_call: int
    as_picked: bool
    served: NDArray[np.float64]


@dataclass(slots=True)
class _Branch:
    ask: Ask
    items: list[Item]
    begun_s: float
    depth: int
    waiting: bool = True
    answered: bool = False
    partial: F32 | None = None
    reissues: list[_Branch] | None = None
    missing: list[Item] = field(default_factory=list)
    deadline_s: float = -math.inf
    """Reckoned when somebody asks: most calls are answered before."""

    def whole(self) -> bool:
        if self.answered:
            return True
        if self.reissues is None or (self.waiting and self.missing):
            return False  # what no reissue covers can still come with the slow host's own reply
        return all(branch.whole() for branch in self.reissues)

    def counted(self) -> Iterator[_Branch]:
        if self.answered:
            yield self
            return
        for branch in self.reissues or ():
            yield from branch.counted()

    def abandoned(self) -> Iterator[Item]:
        if not self.answered:
            yield from self.missing
            for branch in self.reissues or ():
                yield from branch.abandoned()


class LayerDispatch:
    """State of one layer call.

    Args:
        picks: the gate's answer for T rows, as arrays or as plain values.
        holders: for each expert, the usable nodes that hold it, best first.
        patience_s: host -> seconds to wait for its reply before hedging.
        give_up_s: seconds after `now_s` at which whatever is missing goes missing.
        first_id: call ids first_id, first_id + 1, ... are used.
    """

    def __init__(
        self,
        picks: Picks | PickTable,
        width: int,
        holders: Sequence[Sequence[int]],
        patience_s: Callable[[int], float],
        give_up_s: float,
        now_s: float,
        first_id: int,
    ) -> None:
        table = self._picks = table_of(picks) if isinstance(picks, Picks) else picks
        self._width = width
        self._holders = holders
        self._patience_s = patience_s
        self._end_s, self._next_id = now_s + give_up_s, first_id
        self._outbox: list[_Branch] = []
        self._branches: dict[int, _Branch] = {}
        self._tried: dict[tuple[int, int], set[int]] = {}
        self._used: dict[int, set[int]] = {}
        self._dead: set[int] = set()
        self._hedged = self._ignored = self._noted = 0
        self._last_call = -1
        groups: dict[int, list[Item]] = {}
        self._columns = columns = len(table.hosts) // max(1, table.rows)
        row = pick = 0
        for host, expert, weight in zip(table.hosts, table.experts, table.weights, strict=True):
            if host >= 0:
                item = _new(Item, (row, pick, expert, weight))
                if host in groups:
                    groups[host].append(item)
                else:
                    groups[host] = [item]
            pick += 1
            if pick == columns:
                row, pick = row + 1, 0
        self._roots = [self._open(host, groups[host], 0, now_s) for host in sorted(groups)]

    def _open(self, host: int, items: list[Item], depth: int, now_s: float) -> _Branch:
        by_row: dict[int, list[Item]] = {}
        if self._picks.rows == 1:
            by_row[0] = items
        else:
            for item in items:
                by_row.setdefault(item.row, []).append(item)
        ask = _new(Ask, (self._next_id, host, by_row))
        self._next_id += 1
        branch = _Branch(ask, items, now_s, depth)
        self._branches[ask.id] = branch
        self._outbox.append(branch)
        return branch

    def take_asks(self) -> list[Ask]:
        """Calls to send now; each is given out once."""
        branches, self._outbox = self._outbox, []
        return [branch.ask for branch in branches]

    @property
    def finished(self) -> bool:
        return all(branch.answered or branch.whole() for branch in self._roots)

    @property
    def as_picked(self) -> bool:
        """Did every host that the gate picked answer itself? Then nothing is lost, and no other expert served."""
        return all(branch.answered for branch in self._roots)

    def next_deadline_s(self) -> float:
        """When `advance` must be called again if nothing else happens."""
        open_calls = [self._deadline_s(b) for b in self._branches.values() if b.waiting and b.reissues is None]
        return min(open_calls, default=self._end_s)

    def _deadline_s(self, branch: _Branch) -> float:
        if branch.deadline_s == -math.inf:
            branch.deadline_s = min(self._end_s, branch.begun_s + self._patience_s(branch.ask.host))
        return branch.deadline_s

    def reply(self, call_id: int, partial: F32) -> bool:
        """A partial sum [n, H] came. False: unknown, late, duplicate or of the wrong shape (then ignored)."""
        branch = self._branches.get(call_id)
        if branch is None or partial.shape != (len(branch.ask.rows), self._width):
            self._ignored += 1
            return False
        if not self.answered(call_id):
            return False
        branch.partial = partial
        return True

    def answered(self, call_id: int) -> bool:
        """A reply came whose sums do not matter: nothing is added to the total. False: as `reply`."""
        branch = self._branches.get(call_id)
        if branch is None or not branch.waiting:
            self._ignored += 1
            return False
        branch.waiting, branch.answered = False, True
        self._last_call = call_id
        return True

    def host_lost(self, host: int, now_s: float) -> None:
        """Every call to `host` is over; nothing more goes there."""
        self._dead.add(host)
        for branch in list(self._branches.values()):
            if branch.ask.host == host and branch.waiting:
                self._end(branch, now_s)

    def refused(self, call_id: int, now_s: float) -> None:
        """The host answered that it will not serve this call."""
        branch = self._branches.get(call_id)
        if branch is not None and branch.waiting:
            self._end(branch, now_s)

    def ask(self, call_id: int) -> Ask | None:
        """The call of that id, None if it was never made here."""
        branch = self._branches.get(call_id)
        return None if branch is None else branch.ask

    def advance(self, now_s: float) -> tuple[int, ...]:
        """Time passed: hedge what missed its deadline, at the end give up what is missing. The hosts hedged now."""
        slow: list[int] = []
        for branch in list(self._branches.values()):
            if not branch.waiting:
                continue
            if now_s >= self._end_s:
                branch.waiting = False
                if branch.reissues is None:
                    branch.reissues, branch.missing = [], branch.items
            elif branch.reissues is None and now_s >= self._deadline_s(branch):
                self._hedged += 1
                slow.append(branch.ask.host)
                self._reissue(branch, now_s)
        return tuple(slow)

    def _end(self, branch: _Branch, now_s: float) -> None:
        branch.waiting = False
        if branch.reissues is None:
            self._reissue(branch, now_s)

    def _reissue(self, branch: _Branch, now_s: float) -> None:
        self._note()
        groups: dict[int, list[Item]] = {}
        branch.reissues = []
        may = branch.depth < MAX_DEPTH and len(self._branches) < MAX_CALLS
        for item in branch.items:
            again, host = self._alternative(item) if may else (item, -1)
            if host < 0:
                branch.missing.append(item)
            else:
                groups.setdefault(host, []).append(again)
        for host, items in groups.items():
            branch.reissues.append(self._open(host, items, branch.depth + 1, now_s))

    def _note(self) -> None:
        """Which hosts were asked for what. Only who reissues has to know, and most layers never do."""
        for number, branch in enumerate(self._branches.values()):
            if number >= self._noted:
                for item in branch.items:
                    self._tried.setdefault((item.row, item.expert), set()).add(branch.ask.host)
                    self._used.setdefault(item.row, set()).add(item.expert)
        self._noted = len(self._branches)

    def _alternative(self, item: Item) -> tuple[Item, int]:
        """The same expert on another host, else the row's next live expert; host -1 if there is none."""
        tried = self._tried.setdefault((item.row, item.expert), set())
        for host in self._holders[item.expert]:
            if host not in tried and host not in self._dead:
                return item, host
        for expert, weight in self._picks.reserves(item.row):
            if expert < 0 or expert in self._used[item.row]:
                continue
            for host in self._holders[expert]:
                if host not in self._dead:
                    self._used[item.row].add(expert)
                    return Item(item.row, item.pick, expert, weight), host
        return item, -1

    def outcome(self) -> Outcome:
        """The sum over everything that counts, in the order of the hosts that were picked, whoever answered for one."""
        rows = self._picks.rows
        if self.as_picked:
            none, all_ = (_FIRST_ROW, _ALL) if rows == 1 else (np.zeros(rows, np.intp), np.ones(rows))
            return Outcome(self._sum(self._roots), none, none, self._hedged, self._ignored, self._last_call, True, all_)
        (lost, rerouted), mass = np.zeros((2, rows), np.intp), np.zeros(rows)
        counted = [branch for root in self._roots for branch in root.counted()]
        for branch in counted:
            for item in branch.items:  # only a reissue can serve another expert than the gate picked
                mass[item.row] += item.weight
                rerouted[item.row] += item.expert != self._picks.experts[item.row * self._columns + item.pick]
        for root in self._roots:
            for item in root.abandoned():
                lost[item.row] += 1
        served = share_of_picks(self._picks, mass)
        return Outcome(self._sum(counted), lost, rerouted, self._hedged, self._ignored, self._last_call, False, served)

    def _sum(self, branches: Sequence[_Branch]) -> F32:
        """[T, H] of partial sums in this order; those without values count as nothing."""
        rows = self._picks.rows
        partials = [(branch, branch.partial) for branch in branches if branch.partial is not None]
        if rows == 1 and partials:
            total = partials[0][1]
            for _, partial in partials[1:]:
                total = total + partial
            return total
        total = np.zeros((rows, self._width), np.float32)
        for branch, partial in partials:
            if len(branch.ask.rows) == rows:  # all of them, in order
                total += partial
            else:
                total[list(branch.ask.rows)] += partial
        return total
