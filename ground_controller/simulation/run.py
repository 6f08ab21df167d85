"""A campaign on model nodes: the same core, loop and journal on a stepped clock. Deterministic by the seed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ground_controller.arrival_times import MOST_UNDER_WAY
from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.core import Core
from ground_controller.decision import Decision
from ground_controller.inbox import Arrival, Inbox
from ground_controller.journal import Journal
from ground_controller.loop import Loop
from ground_controller.preparation import Prepared
from ground_controller.routes import choose_route
from ground_controller.run_lock import RunLock
from ground_controller.run_record import inputs_of, utc_now
from ground_controller.simulation.afterwards import Afterwards
from ground_controller.simulation.agenda import Agenda, Window
from ground_controller.simulation.board_model import DEFAULT, Calibration
from ground_controller.simulation.client import SimClient
from ground_controller.simulation.constellation import Constellation
from ground_controller.simulation.mode_model import mode_uses
from ground_controller.simulation.open_loop import OpenLoop, arrivals_of
from ground_controller.simulation.traces import Trace, record_traces
from ground_controller.software import software
from hil_config.clock import SteppedClock
from hil_config.errors import InvalidRunError, UsageError

EPOCH = 1
"""Nobody else commands a simulated fleet; a wall clock here would make equal runs differ."""

ANCHOR_NS = 1_000_000_000
"""The modelled host's clock at scenario second 0."""

_KINDS = {
    "TokenArrived": "client_token", "AttemptBegan": "attempt", "RequestBegan": "request_begin",
    "RequestEnded": "request_end", "TextScored": "text_scored",
}  # fmt: skip


class Kill(NamedTuple):
    """A node that fails at an instant of the scenario."""

    node: str
    at_s: float


class SimProgress(NamedTuple):
    """What a progress display shows."""

    scenario_s: float
    duration_s: float
    tokens: int
    decision: Decision


class Speed(NamedTuple):
    """How long it took: seconds of the orbit and of the modelled host, and of the processor that calculated."""

    scenario_s: float
    host_s: float
    wall_s: float
    cpu_s: float
    tokens: int
    events: int

    @property
    def times_real_time(self) -> float:
        """Orbit seconds per second of this machine."""
        return self.scenario_s / self.wall_s

    @property
    def times_processor_time(self) -> float:
        """Orbit seconds per processor second: what the same machine would reach with nothing else to do."""
        return self.scenario_s / self.cpu_s


def _check_kill(kill: Kill, prepared: Prepared) -> None:
    if kill.node not in prepared.setting.nodes:
        raise UsageError(
            f"kill of {kill.node!r}: no board of that name", f"one of {', '.join(prepared.setting.nodes[:8])}"
        )
    if not 0.0 <= kill.at_s < prepared.campaign.orbit.duration_s:
        raise UsageError(
            f"kill of {kill.node!r} at orbit second {kill.at_s:g}: the campaign has seconds 0 to "
            f"{prepared.campaign.orbit.duration_s:g}", "choose one of those: hil simulate --kill NODE@SECONDS"
        )  # fmt: skip


class Simulation:
    """A simulated run from start to close. Use `simulate`."""

    def __init__(
        self,
        prepared: Prepared,
        folder: Path,
        calibration: Calibration = DEFAULT,
        stride: int = 1,
        kills: tuple[Kill, ...] = (),
        traces: tuple[Trace, ...] | None = None,
        journal: Journal | None = None,
    ) -> None:
        if stride < 1:
            raise UsageError(f"stride {stride}: wanted 1 (everything in detail) or more", "hil simulate --stride 1")
        due = arrivals_of(prepared.campaign, stride)
        for kill in kills:
            _check_kill(kill, prepared)
        self._p = prepared
        self._folder = folder
        self._traces = record_traces(prepared) if traces is None else traces
        campaign = prepared.campaign
        self._rate, self._duration_s = campaign.orbit.rate, campaign.orbit.duration_s
        self.agenda = Agenda()
        self._window = Window(campaign.control.tick_s, stride, self._rate)
        self._inbox = Inbox(1 << 30)  # nobody floods it, and a long tick may bring a lot
        self._core = Core(prepared.setting, prepared.policy, EPOCH, campaign.control.plan_ttl_s)
        self.fleet = Constellation(prepared, calibration, self.agenda, self._window, self._inbox.put, ANCHOR_NS)
        card = prepared.manifest.model
        self._client = SimClient(
            self.agenda, lambda avoid: choose_route(self._core.view, avoid), self._record, self.fleet.begin,
            self.fleet.cancel, card.end_of_text, campaign.control.token_timeout_s,
        )  # fmt: skip
        self.fleet.token, self.fleet.refused = self._client.token, self._client.refused
        for kill in kills:
            self.agenda.at(self._window.of_scenario(kill.at_s), lambda name=kill.node: self.fleet.kill(name))  # type: ignore[misc]
        self._calibration = calibration
        self._modes = mode_uses(calibration, prepared.profiles, prepared.setting.modes)
        self._stride = stride
        self._kills = kills
        self._journal = Journal.create(folder, power_safe=False) if journal is None else journal
        self._lock = RunLock(folder)
        self._gone: set[str] = set()
        self._afterwards = Afterwards(prepared)
        self._next_request = 1
        work = campaign.workload
        self._open_loop = None if due is None else OpenLoop(due, work.batch, self.agenda, self._begin_request)
        self.tokens = 0

    def _now_ns(self) -> int:
        return ANCHOR_NS + round(self._window.host_s(self.agenda.now_s) * 1e9)

    def _record(self, event: msgspec.Struct) -> None:
        kind = _KINDS[type(event).__name__]
        self.tokens += kind == "client_token"
        self._inbox.put(Arrival(self._now_ns(), kind, "", "", 0, msgspec.json.encode(event)))

    def _write_meta(self) -> None:
        p, nodes = self._p, self._p.setting.nodes
        for key, value in {
            **inputs_of(p, self._folder.name, EPOCH), "anchor_host_ns": str(ANCHOR_NS),
            "clock_offsets_ns": msgspec.json.encode(dict.fromkeys(nodes, (0, 0))).decode(),
            "simulated": msgspec.json.encode(
                {"stride": self._stride, "boards": self._calibration.source, "kills": self._kills, "modes": self._modes}
            ).decode(),
            "calibration": msgspec.json.encode(self._calibration).decode(),
            "began_utc": utc_now(), "software": msgspec.json.encode(software()).decode(),
        }.items():  # fmt: skip
            if key not in {"began_utc", "software"} or not self._journal.meta(key, ""):
                self._journal.set_meta(key, value)
        (self._folder / "schedule.hsched").write_bytes(p.schedule_bytes)

    def run(self, show: Callable[[SimProgress], None] | None = None) -> Speed:
        """Ticks until the orbit is replayed or the prompts are used up."""
        begin_s, began_cpu_s = time.perf_counter(), time.process_time()
        self._write_meta()
        p = self._p
        first = Core(p.setting, p.policy, EPOCH, p.campaign.control.plan_ttl_s).advance(-1, 0.0, []).plan
        self.fleet.plan(first)
        for node in self.fleet.nodes.values():
            node.say_online()
        loop = Loop(
            self._core, self._journal, self._inbox, SteppedClock(rate=self._rate), self.fleet, self._decided, None,
            self._now_ns,
        )  # fmt: skip
        if self._open_loop is not None:
            self._open_loop.start()
        while True:
            decision = loop.run_tick()
            if show is not None:
                show(SimProgress(decision.scenario_s, self._duration_s, self.tokens, decision))
            self._client.watch()
            self._collect()
            if decision.scenario_s >= self._duration_s:
                break
            # Generations begin at ticks: of the data plane's own time, so that they wait as long as with stride 1.
            if loop.tick % self._stride == 1 % self._stride and not self._begin_requests():
                break
            self.agenda.run_until(loop.tick * self._window.length_s)
            self.fleet.hand_in()
        self._finish(loop)
        wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - began_cpu_s
        host_s = self._window.host_s(self.agenda.now_s)
        return Speed(decision.scenario_s, host_s, wall_s, cpu_s, self.tokens, self.agenda.done)

    def _begin_requests(self) -> bool:
        """Keep the workload's number of generations in flight; False when all are over."""
        if self._open_loop is not None:
            return self._client.running > 0 or not self._open_loop.exhausted
        while self._client.running < self._p.campaign.workload.concurrency:
            if not self._begin_request():
                return self._client.running > 0
        return True

    def _begin_request(self) -> bool:
        """Begin the next generation; False when the workload wants no more."""
        wanted = self._p.campaign.workload.requests
        if wanted is not None and self._next_request > wanted:
            return False
        number, self._next_request = self._next_request, self._next_request + 1
        index = (self._p.campaign.seed + number - 1) % len(self._traces)
        prompt, trace = self._p.prompts[index], self._traces[index]
        self._record(RequestBegan(number, prompt.domain, prompt.text, trace.prompt))
        if self._open_loop is not None and self._client.running >= MOST_UNDER_WAY:
            self._record(RequestEnded(number, (), "", f"turned away: {MOST_UNDER_WAY} requests were under way"))
        else:
            self._client.begin(number, trace)
        return True

    def _collect(self) -> None:
        end = self._p.manifest.model.end_of_text
        for request, reason in self._client.take_ended():
            text = str(self._p.tokenizer.decode([t for t in request.tokens if t != end]))
            self._record(RequestEnded(request.id, tuple(request.tokens), text, reason))

    def _decided(self, decision: Decision) -> None:
        if self._p.evaluation is not None:
            self._afterwards.decided(decision)
        for numbers in decision.nodes:
            if not numbers.alive and numbers.node not in self._gone:
                self._gone.add(numbers.node)
                self._client.node_lost(numbers.node)

    def _finish(self, loop: Loop) -> None:
        self._client.stop_all("the replayed orbit ended")
        self._collect()
        self.fleet.report_links()
        for scored in list(self._afterwards.score()):
            self._record(scored)
        loop.run_tick()
        if self._inbox.overflowed:
            raise InvalidRunError(f"{self._folder}: arrivals did not fit the inbox", "use a shorter control.tick_s")
        for key, value in {
            "records_missing": "{}", "broker_restarts": "0", "inbox_overflow": "0",
            "ended_utc": utc_now(),
        }.items():  # fmt: skip
            self._journal.set_meta(key, value)

    def close(self) -> None:
        self._journal.close()
        self._lock.release()


def simulate(
    prepared: Prepared,
    folder: Path,
    calibration: Calibration = DEFAULT,
    stride: int = 1,
    kills: tuple[Kill, ...] = (),
    show: Callable[[SimProgress], None] | None = None,
) -> Speed:
    """Run a campaign on model nodes into `folder` (new), as `run_campaign` does on real ones.

    Args:
        stride: 1 of so many seconds of the data plane is calculated in detail and stands for the others.
        kills: boards that fail on the way.
    """
    run = Simulation(prepared, folder, calibration, stride, kills)
    try:
        return run.run(show)
    finally:
        run.close()
