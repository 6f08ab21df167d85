"""The feed: what asks a run's client for work, and what becomes of it.

A source says at each tick what it wants begun; or it has a thread of its own and calls `begin` when it is time. The
feed numbers it, records it and begins it at the client. Evaluation items are scored beside the generations and share
their slots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ground_controller.client import Client
from ground_controller.client_events import RequestBegan, RequestEnded, TokenArrived
from ground_controller.evaluation import FIRST_REQUEST, EvaluationSet
from ground_controller.past import Past
from ground_controller.preparation import Prepared
from ground_controller.run_record import RunRecord
from ground_controller.workload import Ready, Workload


class Generation(NamedTuple):
    """A text to go on with, as token ids, and the most tokens that are wanted."""

    domain: str
    prompt: str
    tokens: list[int]
    want: int


class Source(Protocol):
    """Whoever asks for generations."""

    @property
    def exhausted(self) -> bool:
        """Nothing will be asked any more: the run may end when nothing is under way."""
        ...

    def start(self, feed: Feed) -> None:
        """The run's clock has begun: a source with a thread of its own may call `feed.begin` from now on."""
        ...

    def stop(self) -> None:
        """Nothing more may be begun."""
        ...

    def take(self, scenario_s: float, under_way: int) -> Generation | None:
        """The next generation to begin at `scenario_s`, with so many requests (items too) under way; None: not now."""
        ...


class ClosedLoop:
    """Keeps a fixed number of requests under way, prompt after prompt, `batch` at a time."""

    def __init__(self, workload: Workload, concurrency: int, want: int, batch: int = 1) -> None:
        self._workload = workload
        self._concurrency = concurrency
        self._want = want
        self._batch = batch
        self._owed = 0
        self.exhausted = False

    def start(self, feed: Feed) -> None:
        """Nothing: ticks are enough."""

    def stop(self) -> None:
        """Nothing."""

    def take(self, scenario_s: float, under_way: int) -> Generation | None:
        if not self._owed and under_way + self._batch <= self._concurrency:
            self._owed = self._batch
        if self.exhausted or not self._owed or under_way >= self._concurrency:
            return None
        ready = self._workload.next()
        if ready is None:
            self.exhausted = True
            return None
        self._owed -= 1
        return generation(ready, self._want)


def generation(ready: Ready, want: int) -> Generation:
    """A prompt as what is asked."""
    return Generation(ready.prompt.domain, ready.prompt.text, ready.tokens, want)


def prompts_of(prepared: Prepared) -> Workload:
    """The campaign's prompts, from the first."""
    card, workload = prepared.manifest.model, prepared.campaign.workload
    return Workload(
        prepared.prompts, prepared.tokenizer, card.begin, prepared.campaign.seed, workload.requests,
        card.context - workload.max_new_tokens, workload.prompt_tokens,
    )  # fmt: skip


def closed_loop(prepared: Prepared, begun: int = 0) -> ClosedLoop:
    """The campaign's own source, after the first `begun` of its generations."""
    workload, prompts = prepared.campaign.workload, prompts_of(prepared)
    for _ in range(begun):
        prompts.next()
    return ClosedLoop(prompts, workload.concurrency, workload.max_new_tokens, workload.batch)


class _Items:
    """Evaluation items in their order: half of the slots, all of them when no source asks any more."""

    def __init__(self, found: EvaluationSet | None, concurrency: int) -> None:
        self._set = found
        self._concurrency = concurrency
        self._scored = 0

    @property
    def left(self) -> int:
        return 0 if self._set is None else len(self._set.items) - self._scored

    def go_on(self, client: Client, past: Past) -> None:
        """Begin again what was begun and not scored; the rest follows after it."""
        found = self._set
        if found is not None:
            self._scored = past.items
            for number in past.unscored:
                tokens = list(found.item(number).tokens)
                client.go_on(number, tokens, 1, [], past.attempts[number], score=True)

    def take(self, under_way: int, scoring: int, alone: bool) -> tuple[int, list[int]] | None:
        """Request number and tokens of the next item, if it may begin now."""
        room = under_way < self._concurrency and (alone or scoring < max(1, self._concurrency // 2))
        if self._set is None or not self.left or not room:
            return None
        number, self._scored = FIRST_REQUEST + self._scored, self._scored + 1
        return number, list(self._set.item(number).tokens)


class Feed:
    """Everything that asks, in one place.

    Args:
        sources: asked in this order, tick by tick, until none wants anything more just now.
    """

    def __init__(self, prepared: Prepared, client: Client, record: RunRecord, sources: tuple[Source, ...]) -> None:
        self._client = client
        self._record = record
        self._sources = sources
        self._items = _Items(prepared.evaluation, prepared.campaign.workload.concurrency)
        self._tokenizer = prepared.tokenizer
        self._end_of_text = prepared.manifest.model.end_of_text
        self._next_request = 1
        self._lock = threading.Lock()
        self._started = False
        self._listeners: list[Callable[[int, str], None]] = []

    def hear_ends(self, listener: Callable[[int, str], None]) -> None:
        """Have `listener` told the number of every generation that has ended, and why."""
        self._listeners.append(listener)

    def hear_tokens(self, listener: Callable[[TokenArrived], None]) -> None:
        """Have `listener` told of every token, by the thread that brings it: it must not wait for anything."""
        self._record.hear_tokens(listener)

    def withdraw(self, request: int, reason: str) -> None:
        """End a generation now, from any thread."""
        self._client.stop(request, reason)

    @property
    def over(self) -> bool:
        """Nothing is asked any more and nothing is under way."""
        return self._dry and not self._items.left and not self._client.running

    @property
    def _dry(self) -> bool:
        return all(source.exhausted for source in self._sources)

    def stop(self) -> None:
        """Nothing is begun after this."""
        for source in self._sources:
            source.stop()

    def go_on(self, past: Past, want: int) -> None:
        """Take up what an earlier controller of this run began, each from its last recorded token.

        Args:
            want: tokens of a generation whose record does not say how many were asked for.
        """
        self._next_request = 1 + max(past.begun, default=0)
        for one in past.generations:
            number = one.request
            tokens, attempt = past.tokens.get(number, []), past.attempts.get(number, 0)
            self._client.go_on(number, list(one.prompt_tokens), one.want or want, tokens, attempt)
        self._items.go_on(self._client, past)

    def begin_due(self, scenario_s: float) -> None:
        """Begin what is to begin at this tick; the first one starts sources with threads of their own."""
        if not self._started:
            self._started = True
            for source in self._sources:
                source.start(self)
        while self._begin_item() or self._begin_generation(scenario_s):
            pass

    def _begin_item(self) -> bool:
        item = self._items.take(self._client.running, self._client.scoring, self._dry)
        if item is not None:
            self._client.begin(*item, 1, score=True)
        return item is not None

    def _begin_generation(self, scenario_s: float) -> bool:
        """Whether to look again: something began, or a source ran dry, which leaves its slots to the items."""
        was_dry = self._dry
        for source in self._sources:
            asked = source.take(scenario_s, self._client.running)
            if asked is not None:
                self.begin(asked)
                return True
        return self._dry and not was_dry

    def begin(self, asked: Generation, most: int | None = None) -> int:
        """Begin a generation now, from any thread; returns its number.

        Args:
            most: with so many requests under way already it is recorded as turned away instead.
        """
        with self._lock:
            number, self._next_request = self._next_request, self._next_request + 1
            self._record.client_event(RequestBegan(number, asked.domain, asked.prompt, tuple(asked.tokens), asked.want))
            if most is not None and self._client.running >= most:
                self._record.client_event(RequestEnded(number, (), "", f"turned away: {most} requests were under way"))
            else:
                self._client.begin(number, asked.tokens, asked.want)
        return number

    def collect(self) -> None:
        """Record what has ended since the last call."""
        for request, reason in self._client.take_ended():
            if request.score:
                continue  # its scores are its record
            text = str(self._tokenizer.decode([t for t in request.tokens if t != self._end_of_text]))
            self._record.client_event(RequestEnded(request.id, tuple(request.tokens), text, reason))
            for listener in self._listeners:
                listener(request.id, reason)
