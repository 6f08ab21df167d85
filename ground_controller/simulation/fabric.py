"""The links between model nodes: the factual schedule through the same shaper as on boards, on calculated time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ground_controller.simulation.agenda import Action, Agenda, Window
from hil_config.shaper import Shaper
from hil_config.wire.link_fault import LinkFault, faulted
from hil_config.wire.messages import ERROR_EDGES_US, LinkReport
from hil_config.wire.schedule_file import DOWN, LinkSchedule, LinkState

FRESH_S = 0.01
"""A looked-up link state is used for so long, as on a board."""


@dataclass
class _Line:
    """One direction of one link, and what went over it since the last report."""

    shaper: Shaper[Action]
    asked_s: float = -1.0
    state: LinkState = DOWN
    frames: int = 0
    bytes: int = 0
    refused: int = 0
    scheduled_s: float = 0.0


class Fabric:
    """Args:

    satellites: by node; a peer without one (the client) has a link without delay.
    delay_scale, rate_scale: what the campaign makes of delays and rates.
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
        self.faults: tuple[LinkFault, ...] = ()
        self.dead: set[str] = set()

    def _line(self, source: str, target: str) -> _Line:
        line = self._lines.get((source, target))
        if line is None:
            shaper: Shaper[Action] = Shaper(f"{self._seed} {source} {target}", self._jitter_s)
            line = self._lines[source, target] = _Line(shaper)
        return line

    def state(self, source: str, target: str) -> LinkState:
        """The directed link now, as the schedule and the faults have it."""
        line, now_s = self._line(source, target), self._agenda.now_s
        if line.asked_s < 0.0 or now_s - line.asked_s >= FRESH_S:
            a, b = self._satellites[source], self._satellites[target]
            at_s = self._window.scenario_s(now_s)
            link = faulted(self._schedule.link(a, b, at_s), a, b, at_s, self.faults)
            line.state = link._replace(
                delay_s=link.delay_s * self._delay_scale, rate_bit_s=link.rate_bit_s * self._rate_scale
            )
            line.asked_s = now_s
        return line.state

    def reachable(self, source: str, target: str) -> bool:
        """There is a way there and back now, and the peer is not known to be gone."""
        if source == target:
            return True
        return target not in self.dead and self.state(source, target).up and self.state(target, source).up

    def round_trip_s(self, source: str, target: str) -> float:
        """Scheduled delay both ways now."""
        if source == target:
            return 0.0
        return self.state(source, target).delay_s + self.state(target, source).delay_s

    def send(self, source: str, target: str, size: int, deliver: Action) -> bool:
        """Hand a frame over; `deliver` happens when it arrives. False: the link is down or full, or the peer gone."""
        if source not in self._satellites or target not in self._satellites:
            self._agenda.at(self._agenda.now_s, partial(self._arrive, source, target, deliver))
            return True
        line, now_s = self._line(source, target), self._agenda.now_s
        state = self.state(source, target)
        if target in self.dead or not line.shaper.admit(deliver, size, state, now_s):
            line.refused += 1
            return False
        line.frames += 1
        line.bytes += size
        line.scheduled_s += 8.0 * size / state.rate_bit_s + state.delay_s
        self._wait(source, target, line)
        return True

    def _wait(self, source: str, target: str, line: _Line) -> None:
        next_s = line.shaper.next_s()
        if next_s is not None:
            self._agenda.at(next_s, partial(self._pump, source, target, line))

    def _pump(self, source: str, target: str, line: _Line) -> None:
        now_s = self._agenda.now_s
        line.shaper.advance(self.state(source, target), now_s)
        moved = False
        while (flight := line.shaper.take_due(now_s)) is not None:
            moved = True
            self._arrive(source, target, flight.item)
        next_s = line.shaper.next_s()
        if next_s is not None and (moved or next_s > now_s):
            self._wait(source, target, line)

    def _arrive(self, source: str, target: str, deliver: Action) -> None:
        if source not in self.dead and target not in self.dead:
            deliver()

    def fail(self, node: str) -> None:
        """A node is gone: nothing comes from it or goes to it any more."""
        self.dead.add(node)

    def reports(self, host_ns: int) -> list[tuple[str, LinkReport]]:
        """(sender, what it sent to a peer since the last call). A modelled shaper is never late: its errors are 0."""
        found = []
        for (source, peer), line in self._lines.items():
            if source in self.dead or not (line.frames or line.refused):
                continue
            mean_us = line.scheduled_s / max(1, line.frames) * 1e6
            histogram = (0, line.frames, *(0 for _ in ERROR_EDGES_US[1:]))
            report = LinkReport(
                peer, host_ns, line.frames, line.bytes, line.refused, mean_us, (0.0, 0.0, 0.0), histogram,
                line.shaper.lost, line.shaper.cut,
            )  # fmt: skip
            found.append((source, report))
            line.shaper.lost = line.shaper.cut = line.frames = line.bytes = line.refused = 0
            line.scheduled_s = 0.0
        return found
