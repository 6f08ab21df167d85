"""The client of a simulated run: the same rules as `ground_controller.client`, on calculated time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ground_controller.attempts import Attempts, Routes
from ground_controller.client_events import AttemptBegan, TokenArrived
from ground_controller.simulation.agenda import Agenda
from ground_controller.simulation.step import SimStep, SimToken
from ground_controller.simulation.traces import Trace


@dataclass(kw_only=True)
class SimRequest(Attempts):
    """One generation under way."""

    trace: Trace


class SimClient:
    """Args:

    routes: the best gateways now, avoiding some; None when there are none.
    record: takes every event before anything follows from it.
    send: hands a step to its first gateway. cancel: (gateway, request, attempt) is of no use any more.
    """

    def __init__(
        self,
        agenda: Agenda,
        routes: Routes,
        record: Callable[[msgspec.Struct], None],
        send: Callable[[SimStep], None],
        cancel: Callable[[str, int, int], None],
        end_of_text: int,
        token_timeout_s: float,
    ) -> None:
        self._agenda = agenda
        self._routes = routes
        self._record = record
        self._send = send
        self._cancel = cancel
        self._end_of_text = end_of_text
        self._timeout_s = token_timeout_s
        self._requests: dict[int, SimRequest] = {}
        self._ended: list[tuple[SimRequest, str]] = []

    @property
    def running(self) -> int:
        return len(self._requests)

    def begin(self, request: int, trace: Trace) -> None:
        """Start a generation: all tokens of the trace."""
        now_s = self._agenda.now_s
        entry = SimRequest(id=request, trace=trace, want=len(trace.tokens), progress_s=now_s, last_token_s=now_s)
        self._requests[request] = entry
        self._try(entry, "")

    def take_ended(self) -> list[tuple[SimRequest, str]]:
        """Finished requests with the reason they ended, each once."""
        ended, self._ended = self._ended, []
        return ended

    def watch(self) -> None:
        """Start again what has waited too long."""
        now_s = self._agenda.now_s
        for entry in list(self._requests.values()):
            if reason := entry.due(now_s, self._timeout_s):
                self._try(entry, reason)

    def node_lost(self, node: str) -> None:
        """A node is known to be gone: requests on it begin again at once."""
        for entry in list(self._requests.values()):
            if node in entry.route:
                self._try(entry, f"gateway {node} is gone")

    def refused(self, request: int, attempt: int, reason: str) -> None:
        entry = self._requests.get(request)
        if entry is not None and attempt == entry.attempt:
            entry.wait(reason, self._agenda.now_s)

    def _try(self, entry: SimRequest, reason: str) -> None:
        route = self._routes(entry.avoid(reason))
        now_s = self._agenda.now_s
        if route is None:
            entry.wait(reason or "no route", now_s)
            return
        left = [node for node in dict.fromkeys(entry.route) if node not in route]
        waited_us = entry.begin(route, now_s)
        self._record(AttemptBegan(entry.id, entry.attempt, route, reason, waited_us))
        for node in left:
            self._cancel(node, entry.id, entry.attempt - 1)
        rows = len(entry.trace.prompt) + len(entry.tokens)
        self._send(SimStep(entry.id, entry.attempt, 0, rows, entry.want - len(entry.tokens), route, entry.trace))

    def token(self, found: SimToken) -> None:
        """A token arrived."""
        entry = self._requests.get(found.request)
        if entry is None or found.attempt != entry.attempt:
            return
        index = len(entry.tokens)
        if found.position != len(entry.trace.prompt) + index:
            return
        now_s = self._agenda.now_s
        degraded = found.degraded + (("re-prefilled",) if entry.re_prefilled else ())
        entry.tokens.append(entry.trace.tokens[index])
        self._record(
            TokenArrived(
                found.request, found.attempt, found.position, entry.trace.tokens[index], entry.trace.logprobs[index],
                entry.trace.margins[index], degraded, not index, (now_s - entry.last_token_s) * 1e6,
            )
        )  # fmt: skip
        entry.progressed(now_s)
        if entry.tokens[-1] == self._end_of_text:
            self._end(entry, "end of text")
        elif len(entry.tokens) >= entry.want:
            self._end(entry, "length")

    def _end(self, entry: SimRequest, reason: str) -> None:
        del self._requests[entry.id]
        self._ended.append((entry, reason))
        for node in dict.fromkeys(entry.route):
            self._cancel(node, entry.id, entry.attempt)

    def stop_all(self, reason: str) -> None:
        """End every generation now with what it has."""
        for entry in list(self._requests.values()):
            self._end(entry, reason)
