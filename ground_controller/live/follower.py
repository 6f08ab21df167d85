"""Reads a run's journal as it grows, and any earlier moment of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.interruption import KIND as RESUMED
from ground_controller.interruption import RunResumed
from ground_controller.journal import Entry, Journal
from ground_controller.live import events, text
from ground_controller.live.events import Event, Events
from ground_controller.live.experts import WINDOW_S, Experts
from ground_controller.live.history import History, Point, Tick
from ground_controller.live.nodes import NodeRow, Nodes, Reading
from ground_controller.live.run_facts import RunFacts, kills_asked_for, run_facts, run_tokenizer, written_s
from ground_controller.live.sky import NAME as SCHEDULE
from ground_controller.live.sky import Sky
from ground_controller.live.text import RequestSeen, Text, TokenSeen
from ground_controller.live.tick_seen import TickSeen, tick_seen
from ground_controller.steering import Steered
from hil_config.errors import DataFileError

BATCH = 20_000
"""Entries at most in one reading, so that a long run is shown while it is still being read."""

MOST_STEPS = 5_000
MOST_PAIRS_TOLD = 60
"""Links of benches with more pairs are on the map only: their changes would drown the events."""

_KINDS = ("status", "samples", "decision", "token", *text.KINDS, *events.KINDS)


class Moment(NamedTuple):
    """A run at one tick. `counts` [layers, experts]; `links`: indices into the pairs of the sky."""

    tick: Tick
    at_end: bool
    plan_policy: str
    plan_reason: str
    tokens_per_s: float
    token_count: int
    nodes: tuple[NodeRow, ...]
    requests: tuple[RequestSeen, ...]
    tokens: tuple[TokenSeen, ...]
    events: tuple[Event, ...]
    counts: NDArray[np.int64]
    links: NDArray[np.int64]
    under_sun_deg: tuple[float, float] | None


class Follower:
    """Use `open`, then `read` again and again. Not for several threads at once."""

    def __init__(self, journal: Journal, facts: RunFacts, sky: Sky | None) -> None:
        self.facts = facts
        self.sky = sky
        self._journal = journal
        self._tokenizer = run_tokenizer(journal)
        self._nodes = Nodes(facts, kills_asked_for(journal))
        self._text = Text(self._tokenizer)
        self._experts = Experts(facts.layers, facts.experts)
        self._events = Events(facts.nodes)
        self.history = History()
        self.rate = facts.rate
        """Orbit seconds a host second now; 0 while it is paused."""
        self._mark = 0
        self._told = 0
        self._seen: TickSeen | None = None
        self._up: set[int] | None = None

    @classmethod
    def open(cls, folder: Path) -> Follower | None:
        """None as long as the run has not begun; InvalidRunError where there is no run."""
        journal = Journal.read(folder, watch=True)
        facts = run_facts(journal)
        begun = bool(journal.newest("decision", 1 << 62, 1))
        try:
            sky = Sky(folder / SCHEDULE)
        except DataFileError:  # not written yet; of a run that has begun: not there, or of another release
            sky = None
        if facts is None or (sky is None and not begun):
            journal.close()
            return None
        return cls(journal, facts, sky)

    @property
    def folder(self) -> Path:
        return self._journal.path.parent

    @property
    def ended(self) -> bool:
        """Whether the run came to its end."""
        return bool(self._journal.meta("ended_utc", ""))

    @property
    def quiet_s(self) -> float:
        """Seconds since anything was written into the record, by this machine's clock."""
        return max(0.0, time.time() - written_s(self.folder))

    def read(self) -> int:
        """Take in what is new, at most `BATCH` entries; returns how far it came."""
        before = self._mark
        self._mark, found = self._journal.since(self._mark, BATCH, _KINDS)
        for number, entry in found:
            self._take(number, entry)
        return self._mark - before

    def _take(self, number: int, entry: Entry) -> None:
        if entry.kind == "decision":
            self._take_tick(number, entry)
        elif entry.kind == "token":
            self._experts.take(entry)
        elif entry.kind in text.KINDS:
            self._text.take(entry)
        elif entry.kind == RESUMED:
            self.rate = msgspec.json.decode(entry.body, type=RunResumed).rate
        elif entry.kind == "steer":
            steered = msgspec.json.decode(entry.body, type=Steered)
            self.rate = self.rate if steered.action == "fault" else steered.rate
        else:
            self._nodes.take(number, entry)
        self._events.take(number, entry)
        for change in self._nodes.changes[self._told :]:
            self._events.take_change(change)
        self._told = len(self._nodes.changes)

    def _take_tick(self, number: int, entry: Entry) -> None:
        seen = self._seen = tick_seen(entry.body)
        self._nodes.take_tick(number, entry.host_ns, seen)
        self.history.add(number, entry.host_ns, seen.scenario_s)
        power = np.where(seen.column("alive") & ~np.array(self._nodes.silent), seen.column("power_w"), np.nan)
        point = Point(
            self.history.tick(-1).host_s, seen.scenario_s, self._rate(self._text, entry.host_ns),
            power.astype(np.float32), seen.column("temperature_c").astype(np.float32),
            seen.column("charge").astype(np.float32),
        )  # fmt: skip
        self.history.add_point(point)
        self._experts.counts(entry.host_ns)
        if self.sky is not None and len(self.sky.pairs) <= MOST_PAIRS_TOLD:
            self._take_links(number, seen.scenario_s, self.sky)

    def _take_links(self, number: int, scenario_s: float, sky: Sky) -> None:
        up = set(sky.links_up(scenario_s).tolist())
        if self._up is not None:
            for pair in sorted(up ^ self._up):
                name = "-".join(sky.names[i] for i in sky.pairs[pair])
                self._events.take_link(number, scenario_s, name, pair in up)
        self._up = up

    def _rate(self, of: Text, now_ns: int) -> float:
        return of.rate(now_ns, self.history.tick(0).host_ns)

    def now(self) -> Moment | None:
        """At the newest tick; None before the first."""
        if self._seen is None:
            return None
        return self._moment(self.history.tick(-1), self._seen, self._text, self._experts, None)

    def at(self, host_s: float) -> Moment | None:
        """At the last tick before a host second of the run; None before the first tick."""
        if not len(self.history):
            return None
        tick, journal = self.history.at(host_s), self._journal
        ((_, decision),) = journal.newest("decision", tick.number, 1)
        tokens = journal.newest("client_token", tick.number, text.MOST_TOKENS)
        some = Text(self._tokenizer, journal.count("client_token", tick.number) - len(tokens))
        others = [pair for kind in text.KINDS[1:] for pair in journal.newest(kind, tick.number, 4 * text.MOST_REQUESTS)]
        for _, entry in sorted([*tokens, *others]):
            some.take(entry)
        experts = Experts(self.facts.layers, self.facts.experts)
        first = self.history.at(tick.host_s - WINDOW_S).number if tick.host_s > WINDOW_S else 0
        for _, entry in journal.newest("token", tick.number, MOST_STEPS, first):
            experts.take(entry)
        return self._moment(tick, tick_seen(decision.body), some, experts, tick.number)

    def _moment(self, tick: Tick, seen: TickSeen, some: Text, experts: Experts, until: int | None) -> Moment:
        told = [one for one in self._events.all if until is None or one.id <= until]
        at_end = self.ended and tick.number == self.history.tick(-1).number
        return Moment(
            tick, at_end, seen.plan.policy, seen.plan.reason, self._rate(some, tick.host_ns), some.count,
            self._nodes.rows(seen, until), tuple(some.requests.values()), tuple(some.tokens), tuple(told),
            experts.counts(tick.host_ns),
            np.empty(0, np.int64) if self.sky is None else self.sky.links_up(seen.scenario_s),
            None if self.sky is None else self.sky.under_sun_deg(seen.scenario_s),
        )  # fmt: skip

    def readings(self, node: int) -> tuple[Reading, ...]:
        """What the board of a node, by its index, said last."""
        return self._nodes.readings(node)

    def close(self) -> None:
        self._journal.close()
