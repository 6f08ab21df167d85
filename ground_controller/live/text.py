"""The text as it is generated: requests and their tokens as they came to the client."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec
from tokenizers import Tokenizer

from ground_controller.client_events import AttemptBegan, RequestBegan, RequestEnded, TokenArrived
from ground_controller.journal import Entry

KINDS = ("client_token", "request_begin", "attempt", "request_end")
RATE_WINDOW_S = 5.0
MOST_TOKENS = 1_500
MOST_REQUESTS = 200


class TokenSeen(NamedTuple):
    """`number`: of all the run's tokens, from 1. `since_us`: since the one before it in its request."""

    number: int
    request: int
    position: int
    text: str
    degraded: str
    since_us: float


class RequestSeen(msgspec.Struct, frozen=True):
    """`ended`: why, or "" while it goes on. `restarts`: why it began again, each time."""

    request: int
    domain: str = ""
    prompt: str = ""
    ended: str = ""
    restarts: tuple[str, ...] = ()


class Text:
    """Takes entries in order; keeps the newest tokens. `first`: how many tokens there were before the first taken."""

    def __init__(self, tokenizer: Tokenizer | None, first: int = 0) -> None:
        self._tokenizer = tokenizer
        self.count = first
        self.tokens: deque[TokenSeen] = deque(maxlen=MOST_TOKENS)
        self.requests: dict[int, RequestSeen] = {}
        self._arrived_ns: deque[int] = deque()

    def take(self, entry: Entry) -> None:
        """An entry of `KINDS`; others pass by."""
        if entry.kind == "client_token":
            self._take_token(entry)
        elif entry.kind == "request_begin":
            begun = msgspec.json.decode(entry.body, type=RequestBegan)
            self._know(begun.request, domain=begun.domain, prompt=begun.prompt)
        elif entry.kind == "attempt":
            attempt = msgspec.json.decode(entry.body, type=AttemptBegan)
            if attempt.reason:
                before = self.requests.get(attempt.request, RequestSeen(attempt.request)).restarts
                self._know(attempt.request, restarts=(*before, attempt.reason))
        elif entry.kind == "request_end":
            end = msgspec.json.decode(entry.body, type=RequestEnded)
            self._know(end.request, ended=end.reason)

    def _take_token(self, entry: Entry) -> None:
        one = msgspec.json.decode(entry.body, type=TokenArrived)
        self.count += 1
        self._arrived_ns.append(entry.host_ns)
        if one.request not in self.requests:
            self._know(one.request)
        text = f"[{one.token}]" if self._tokenizer is None else self._tokenizer.decode([one.token])
        degraded = "; ".join(one.degraded)
        self.tokens.append(TokenSeen(self.count, one.request, one.position, text, degraded, round(one.since_us, 1)))

    def _know(self, request: int, **changes: Any) -> None:
        known = self.requests.get(request, RequestSeen(request))
        self.requests[request] = msgspec.structs.replace(known, **changes)
        while len(self.requests) > MOST_REQUESTS:
            del self.requests[next(iter(self.requests))]

    def rate(self, now_ns: int, since_ns: int) -> float:
        """Tokens a host second over the last seconds before `now_ns`; the run began at `since_ns`."""
        begin_ns = max(now_ns - int(RATE_WINDOW_S * 1e9), since_ns)
        while self._arrived_ns and self._arrived_ns[0] <= begin_ns:
            self._arrived_ns.popleft()
        if now_ns <= begin_ns:
            return 0.0
        return sum(ns <= now_ns for ns in self._arrived_ns) / ((now_ns - begin_ns) / 1e9)
