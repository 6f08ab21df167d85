"""What an earlier controller of a run left on record: derived again, decision by decision, so that it can go on."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ground_controller.client_events import AttemptBegan, RequestBegan, RequestEnded, TokenArrived
from ground_controller.core import Core
from ground_controller.decision import Decision, encode_decision, same_decision
from ground_controller.evaluation import FIRST_REQUEST, TextScored
from ground_controller.interruption import KIND as RESUMED
from ground_controller.journal import Entry, Journal
from ground_controller.loop import TickBegan
from ground_controller.preparation import Prepared
from ground_controller.steering import Steered
from hil_config.errors import InvalidRunError, UsageError
from hil_config.wire.link_fault import LinkFault

_NOTED = frozenset({"request_begin", "client_token", "attempt", "request_end", "text_scored", "steer"})


@dataclass
class Past:
    """`core` stands after decision `last`; `pending` is on record and not applied yet. Tick `stopped_ns` began at it.
    Controllers ticked for `ticked_s` host seconds, whatever orbit time a pause or a seek made of them.

    `begun`, `tokens` and `attempts` by request number, items of an evaluation among them; `over`: ended or scored.
    """

    core: Core
    last: Decision
    stopped_ns: int
    ticked_s: float
    pending: list[Entry] = field(default_factory=list)
    begun: dict[int, RequestBegan] = field(default_factory=dict)
    tokens: dict[int, list[int]] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    faults: list[LinkFault] = field(default_factory=list)

    @property
    def at_s(self) -> float:
        """The scenario second at which the run goes on: of the last tick, or where a person moved it since."""
        moved = (msgspec.json.decode(entry.body, type=Steered) for entry in self.pending if entry.kind == "steer")
        return [self.last.scenario_s, *(one.to_s for one in moved if one.action != "fault")][-1]

    @property
    def generations(self) -> tuple[RequestBegan, ...]:
        """Generations that were begun and did not end."""
        return tuple(one for number, one in self.begun.items() if number not in self.over)

    @property
    def items(self) -> int:
        """Evaluation items that were begun: the first so many."""
        return max((number + 1 - FIRST_REQUEST for number in self.attempts if number >= FIRST_REQUEST), default=0)

    @property
    def unscored(self) -> tuple[int, ...]:
        """Request numbers of the items that were begun and not scored."""
        numbers = range(FIRST_REQUEST, FIRST_REQUEST + self.items)
        return tuple(number for number in numbers if number not in self.over)

    @property
    def under_way(self) -> tuple[int, ...]:
        """Request numbers of everything that was begun and is not over."""
        return (*(one.request for one in self.generations), *self.unscored)

    def _note(self, entry: Entry) -> None:
        if entry.kind == "request_begin":
            began = msgspec.json.decode(entry.body, type=RequestBegan)
            self.begun[began.request] = began
        elif entry.kind == "client_token":
            token = msgspec.json.decode(entry.body, type=TokenArrived)
            self.tokens.setdefault(token.request, []).append(token.token)
        elif entry.kind == "attempt":
            attempt = msgspec.json.decode(entry.body, type=AttemptBegan)
            self.attempts[attempt.request] = attempt.attempt
        elif entry.kind == "request_end":
            self.over.add(msgspec.json.decode(entry.body, type=RequestEnded).request)
        elif entry.kind == "text_scored":
            self.over.add(msgspec.json.decode(entry.body, type=TextScored).request)
        elif entry.kind == "steer":
            fault = msgspec.json.decode(entry.body, type=Steered).fault
            self.faults += [fault] if fault is not None else []


def recall(journal: Journal, prepared: Prepared) -> Past:
    """Everything in a journal that is open for writing. A tick whose decision is missing is decided here, and recorded.

    Raises:
        UsageError: the run died before its first tick.
        InvalidRunError: a decision is not the one that its inputs give.
    """
    core = Core(prepared.setting, prepared.policy, int(journal.meta("epoch")), prepared.campaign.control.plan_ttl_s)
    past: Past | None = None
    pending: list[Entry] = []
    tick: Entry | None = None
    before_ns: int | None = None
    ticked_ns = 0
    noted: list[Entry] = []
    for entry in journal.entries():
        if entry.kind in _NOTED:
            noted.append(entry)
        if entry.kind == "tick":
            tick = entry
            ticked_ns += 0 if before_ns is None else tick.host_ns - before_ns
            before_ns = tick.host_ns
        elif entry.kind == "decision":
            assert tick is not None
            decision = _derived(journal, core, entry, tick, pending)
            past = Past(core, decision, tick.host_ns, ticked_ns / 1e9)
            pending, tick = [], None
        else:
            pending.append(entry)
            before_ns = None if entry.kind == RESUMED else before_ns
    if tick is not None:  # it died between recording what had come and deciding on it
        decision = core.advance(tick.tick, _scenario_s(tick), pending)
        journal.commit([tick._replace(kind="decision", body=encode_decision(decision))])
        past, pending = Past(core, decision, tick.host_ns, ticked_ns / 1e9), []
    if past is None:
        raise UsageError(
            f"{journal.path}: the run died before its first tick; there is nothing to go on with",
            "run the campaign again into a new folder",
        )
    past.pending = pending
    for entry in noted:
        past._note(entry)
    return past


def _scenario_s(tick: Entry) -> float:
    return msgspec.json.decode(tick.body, type=TickBegan).scenario_s


def _derived(journal: Journal, core: Core, recorded: Entry, tick: Entry, pending: list[Entry]) -> Decision:
    decision = core.advance(recorded.tick, _scenario_s(tick), pending)
    if not same_decision(decision, recorded.body):
        raise InvalidRunError(
            f"{journal.path}: the decision of tick {recorded.tick} is another than the one derived from the record now",
            "the journal was changed, or another release made it: run the campaign again",
        )
    return decision
