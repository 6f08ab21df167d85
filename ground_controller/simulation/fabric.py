"""The links between model nodes: the factual schedule through the same shaper as on boards, on calculated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from ground_controller.simulation.agenda import Action, Agenda, Window
from ground_controller.simulation.frame_size import relayed_bytes
from ground_controller.simulation.ways import PATH_FRESH_S, Ways
from hil_config.shaper import Shaper
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import DOWN, LinkSpan, LinkState
from hil_config.wire.messages import ERROR_EDGES_US, LinkReport

_NEVER = LinkSpan(math.inf, -math.inf, 0.0, 0.0, 0.0, 1.0, False)


@dataclass(eq=False)
class _Line:
    """One direction of one link, and what went over it since the last report.

    `span`: what the schedule says now. `armed_s`: when something is next to be done here, infinity if nothing is.
    """

    source: str
    target: str
    shaper: Shaper[Action]
    span: LinkSpan = _NEVER
    armed_s: float = math.inf
    frames: int = 0
    bytes: int = 0
    refused: int = 0
    scheduled_s: float = 0.0


class Fabric:
    """Args:

    satellites: by node; a peer without one (the client) has a link without delay.
    delay_scale, rate_scale: what the campaign makes of delays and rates.
    routed, relay: frames may go over other nodes, by plans or where a link is down (`ways`).
    hand: (node, action): after the time a frame takes from that node's socket to being looked at.
    """

    def __init__(
        self,
        agenda: Agenda,
        window: Window,
        schedule: LinkSchedule,
        satellites: dict[str, str],
        delay_scale: float,
        rate_scale: float,
        seed: int,
        jitter_s: float,
        routed: bool = False,
        relay: bool = False,
        hand: Callable[[str, Action], None] | None = None,
    ) -> None:
        self._agenda = agenda
        self._window = window
        self._schedule = schedule
        self._satellites = satellites
        self._delay_scale = delay_scale
        self._rate_scale = rate_scale
        self._seed = seed
        self._jitter_s = jitter_s
        self._lines: dict[tuple[str, str], _Line] = {}
        self.dead: set[str] = set()
        self.ways = Ways(tuple(satellites), routed, relay, lambda a, b: self._state(self._line(a, b)))
        self._hand = hand or (lambda _node, action: action())
        self._again_s = PATH_FRESH_S * window.rate

    def _line(self, source: str, target: str) -> _Line:
        line = self._lines.get((source, target))
        if line is None:
            shaper: Shaper[Action] = Shaper(f"{self._seed} {source} {target}", self._jitter_s)
            line = self._lines[source, target] = _Line(source, target, shaper)
        return line

    def _span(self, line: _Line, at_s: float) -> LinkSpan:
        span = line.span
        if not span.begin_s <= at_s < span.end_s:
            a, b = self._satellites[line.source], self._satellites[line.target]
            span = line.span = self._schedule.span(a, b, at_s)
        return span

    def _state(self, line: _Line) -> LinkState:
        at_s = self._window.scenario_s(self._agenda.now_s)
        span = line.span
        if not span.begin_s <= at_s < span.end_s:
            span = self._span(line, at_s)
        if not span.up:
            return DOWN
        rate_bit_s = span.rate_bit_s * self._rate_scale
        if self.ways.loads:
            rate_bit_s *= self.ways.rate_left((line.source, line.target), at_s)
        return LinkState(span.delay_at(at_s) * self._delay_scale, rate_bit_s, span.loss, True)

    @property
    def scenario_s(self) -> float:
        """Now, in the schedule."""
        return self._window.scenario_s(self._agenda.now_s)

    def reachable(self, source: str, targets: tuple[str, ...]) -> tuple[tuple[bool, ...], float]:
        """Which of `targets` have a way there and back now and are not known to be gone, and until when in the
        scenario that holds if none fails."""
        at_s, found, until_s = self.scenario_s, [], math.inf
        for target in targets:
            if source == target or target in self.dead:
                found.append(source == target)
                continue
            there = self._span(self._line(source, target), at_s)
            back = self._span(self._line(target, source), at_s)
            until_s = min(until_s, there.end_s, back.end_s)
            up = there.up and back.up
            if not (up or self.ways.direct):
                now_s, until_s = self._agenda.now_s, min(until_s, at_s + self._again_s)
                up = all(
                    span.up or self.ways.over(a, b, now_s, self.dead) is not None
                    for span, a, b in ((there, source, target), (back, target, source))
                )
            found.append(up)
        return tuple(found), until_s

    def round_trip_s(self, source: str, target: str) -> float:
        """Scheduled delay both ways now."""
        if source == target:
            return 0.0
        return self._delay_s(source, target) + self._delay_s(target, source)

    def _delay_s(self, source: str, target: str) -> float:
        way = None if self.ways.direct else self.ways.over(source, target, self._agenda.now_s, self.dead)
        if way is None:
            return self._state(self._line(source, target)).delay_s
        hops = pairwise((source, *way))
        return sum(self._state(self._line(a, b)).delay_s for a, b in hops)

    def send(self, source: str, target: str, size: int, deliver: Action) -> bool:
        """Hand a frame over; `deliver` happens when it arrives. False: the link is down or full, or the peer gone."""
        if source not in self._satellites or target not in self._satellites:
            self._agenda.at(self._agenda.now_s, partial(self._arrive, source, target, deliver))
            return True
        if not self.ways.direct:
            way = self.ways.over(source, target, self._agenda.now_s, self.dead)
            if way is not None:
                return self._pass(source, source, way, size, deliver)
        return self._put(self._line(source, target), size, deliver)

    def _pass(self, origin: str, here: str, path: tuple[str, ...], size: int, deliver: Action) -> bool:
        """A whole frame of `size` bytes in another one, to the first node of `path`, which passes it on."""
        arrive = deliver
        if len(path) > 1:
            arrive = partial(self._hand, path[0], partial(self._pass_on, origin, path, size, deliver))
        return self._put(self._line(here, path[0]), relayed_bytes(origin, path, size), arrive)

    def _pass_on(self, origin: str, path: tuple[str, ...], size: int, deliver: Action) -> None:
        """At a node on the way: a frame that cannot go on is lost there, as on a board."""
        self._pass(origin, path[0], path[1:], size, deliver)

    def _put(self, line: _Line, size: int, deliver: Action) -> bool:
        now_s = self._agenda.now_s
        state = self._state(line)
        if line.target in self.dead or not line.shaper.admit(deliver, size, state, now_s):
            line.refused += 1
            return False
        line.frames += 1
        line.bytes += size
        line.scheduled_s += 8.0 * size / state.rate_bit_s + state.delay_s
        self._wait(line)
        return True

    def _wait(self, line: _Line) -> None:
        next_s = line.shaper.next_s()
        if next_s is not None and next_s < line.armed_s:
            line.armed_s = next_s
            self._agenda.at(next_s, partial(self._pump, line, next_s))

    def _pump(self, line: _Line, asked_s: float) -> None:
        """Hand over what is due. An earlier moment may have been asked for meanwhile: then this one is void."""
        if asked_s != line.armed_s:
            return
        line.armed_s, now_s, shaper = math.inf, self._agenda.now_s, line.shaper
        if shaper.waiting:
            shaper.advance(self._state(line), now_s)
        while (flight := shaper.take_due(now_s)) is not None:
            if line.source not in self.dead and line.target not in self.dead:
                flight.item()
        self._wait(line)

    def _arrive(self, source: str, target: str, deliver: Action) -> None:
        if source not in self.dead and target not in self.dead:
            deliver()

    def fail(self, node: str) -> None:
        """A node is gone: nothing comes from it or goes to it any more."""
        self.dead.add(node)
        self.ways.forget()

    def reports(self, host_ns: int) -> list[tuple[str, LinkReport]]:
        """(sender, what it sent to a peer since the last call). A modelled shaper is never late: its errors are 0.

        Counts stand for the whole time, of which the window lets 1 of so many seconds be seen.
        """
        found, times = [], self._window.stride
        for (source, peer), line in self._lines.items():
            if source in self.dead or not (line.frames or line.refused):
                continue
            mean_us = line.scheduled_s / max(1, line.frames) * 1e6
            frames, size, refused, lost, cut = (
                times * n for n in (line.frames, line.bytes, line.refused, line.shaper.lost, line.shaper.cut)
            )
            histogram = (0, frames, *(0 for _ in ERROR_EDGES_US[1:]))
            report = LinkReport(
                peer, host_ns, frames, size, refused, mean_us, (0.0, 0.0, 0.0), histogram, lost, cut
            )  # fmt: skip
            found.append((source, report))
            line.shaper.lost = line.shaper.cut = line.frames = line.bytes = line.refused = 0
            line.scheduled_s = 0.0
        return found
