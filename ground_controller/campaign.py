"""One run of a campaign: start the bench, replay the orbit, generate text, decide, record, end cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ground_controller.client import NAME as CLIENT
from ground_controller.client import Client
from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.clock_keeper import ClockChecked, ClockKeeper
from ground_controller.core import Core
from ground_controller.decision import Decision
from ground_controller.evaluation import FIRST_REQUEST
from ground_controller.fleet.identity import BenchIdentity
from ground_controller.fleet.leftovers import collect
from ground_controller.fleet.local import Broker, LocalAgents
from ground_controller.fleet.mqtt import MqttFleet, NotOnline
from ground_controller.fleet.orders import prepare_orders
from ground_controller.fleet.outlet import Outlet
from ground_controller.fleet.places import StandingBroker, check_places, open_broker
from ground_controller.fleet.signing import ephemeral_trust
from ground_controller.idle import Side, stay_idle
from ground_controller.inbox import Arrival, Inbox
from ground_controller.journal import Journal
from ground_controller.loop import Loop
from ground_controller.preparation import Prepared, profiles_hash
from ground_controller.routes import choose_route
from ground_controller.steering import Request, Steering, answer_path, leave_request
from ground_controller.workload import Workload
from hil_config.clock import PacedClock
from hil_config.errors import InvalidRunError
from hil_config.units import HostSeconds
from hil_config.wire.orders import Finish, Shutdown
from hil_config.wire.schedule_file import schedule_hash

ONLINE_S = 30.0
AWAY_ONLINE_S = 120.0
PREPARE_S = 60.0
FINISH_S = 5.0
DRAIN_S = 15.0
LEAD_S = 0.5
"""The clock is anchored this far ahead, so that every node knows it before scenario second 0."""

_CLIENT_KINDS = {"TokenArrived": "client_token", "AttemptBegan": "attempt", "RequestBegan": "request_begin",
                 "RequestEnded": "request_end", "TextScored": "text_scored"}  # fmt: skip


class Progress(NamedTuple):
    """What a progress display shows."""

    scenario_s: float
    duration_s: float
    tokens: int
    decision: Decision


class Run:
    """A run from start to close. Use `run_campaign`."""

    def __init__(self, prepared: Prepared, folder: Path, show: Callable[[Progress], None]) -> None:
        check_places(prepared.bench)  # before the first file is written
        self._p = prepared
        self._folder = folder
        self._show = show
        self._name = folder.name
        self._nodes = prepared.setting.nodes
        self._epoch = int(time.time())
        self._inbox = Inbox()
        self._journal = Journal.create(folder)
        self._core = Core(prepared.setting, prepared.policy, self._epoch, prepared.campaign.control.plan_ttl_s)
        self._agents = LocalAgents(folder)
        self._local = tuple(board.name for board in prepared.bench.boards if board.kind == "local")
        identity = prepared.bench.identity
        self._identity = None if identity is None else BenchIdentity(Path(identity), self._local)
        self._broker: Broker | StandingBroker | None = None
        self._fleet: MqttFleet | None = None
        self._client: Client | None = None
        self._keeper: ClockKeeper | None = None
        self._tokens = 0
        self._gone: set[str] = set()
        card = prepared.manifest.model
        workload = prepared.campaign.workload
        self._workload = Workload(
            prepared.prompts, prepared.tokenizer, card.end_of_text, prepared.campaign.seed, workload.requests,
            card.context - workload.max_new_tokens,
        )  # fmt: skip
        self._next_request = 1
        self._scored = 0
        self._exhausted = False

    def _record(self, event: msgspec.Struct) -> None:
        kind = _CLIENT_KINDS[type(event).__name__]
        self._tokens += kind == "client_token"
        self._inbox.put(Arrival(time.monotonic_ns(), kind, "", "", 0, msgspec.json.encode(event)))

    def start(self) -> tuple[MqttFleet, Client, Loop]:
        """Broker, agents, shards, links and clock."""
        identity = self._identity
        folder = None if identity is None else identity.folder
        self._broker = open_broker(self._p.bench, self._folder, folder, self._write_pids)
        self._write_meta()
        trust = ephemeral_trust(self._folder, self._p.shards)
        for index, node in enumerate(self._nodes):
            if node in self._local:
                self._start_agent(index, trust)
        self._write_pids()
        fleet = self._fleet = MqttFleet(
            self._p.bench.bench, self._epoch, self._inbox,
            None if identity is None else identity.tls, None if identity is None else identity.desk(self._epoch),
        )  # fmt: skip
        fleet.start(self._broker.host, self._broker.port)
        self._wait_online(fleet)
        addresses = {node: fleet.statuses[node].data_address for node in self._nodes}
        split = {node: (text.rpartition(":")[0], int(text.rpartition(":")[2])) for node, text in addresses.items()}
        offers = {node: fleet.statuses[node].offer for node in self._nodes}
        client = self._client = Client(
            self._name, split, lambda avoid: choose_route(self._core.view, avoid), self._record,
            self._p.manifest.model.end_of_text, self._p.campaign.control.token_timeout_s,
            None if identity is None else identity.tls, offers, self._broker.host,
        )  # fmt: skip
        first = Core(self._p.setting, self._p.policy, self._epoch, self._p.campaign.control.plan_ttl_s)
        plan = first.advance(-1, 0.0, []).plan
        host, port = client.address
        sealed = None if identity is None else {**offers, CLIENT: client.offer}
        orders = prepare_orders(self._p, self._name, addresses, f"{host}:{port}", plan, sealed)
        fleet.order(self._nodes, orders, PREPARE_S)
        self._stay_idle("before", lambda: time.sleep(0.1))
        return fleet, client, self._anchor(fleet)

    def _stay_idle(self, side: Side, turn: Callable[[], object]) -> None:
        def watched() -> None:
            turn()
            if self._broker is not None and self._broker.failure is not None:
                raise self._broker.failure

        window = stay_idle(side, self._p.campaign.control.idle_s, watched)
        if window is not None:
            self._inbox.put(window)

    def _write_pids(self) -> None:
        if self._broker is not None:
            self._agents.write_pids(self._folder / "pids.json", self._broker.pid)

    def _write_meta(self) -> None:
        p = self._p
        for key, value in {
            "run": self._name, "epoch": str(self._epoch), "config_sha256": p.config_sha256,
            "bench": p.bench.model_dump_json(), "campaign": p.campaign.model_dump_json(),
            "manifest_sha256": p.manifest_sha256, "shards": str(p.shards),
            "schedule_sha256": schedule_hash(p.schedule_bytes),
            "model_card": msgspec.json.encode(p.manifest.model).decode(),
            "evaluation": p.evaluation.path if p.evaluation else "",
            "evaluation_sha256": p.evaluation.sha256 if p.evaluation else "",
            "profiles_sha256": profiles_hash(p.profiles),
            "began_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }.items():  # fmt: skip
            self._journal.set_meta(key, value)
        (self._folder / "schedule.hsched").write_bytes(p.schedule_bytes)

    def _start_agent(self, index: int, trust: dict[str, Any]) -> None:
        board, profile = self._p.bench.boards[index], self._p.profiles[index]
        assert self._broker is not None
        config: dict[str, Any] = {
            "node": board.name, "bench": self._p.bench.bench, "broker_host": self._broker.host,
            "broker_port": self._broker.port, "data_host": board.address, "data_port": board.data_port,
            "shards": str(self._p.shards), "spool": str(self._folder / "spool"), "trust": trust,
            "power_model": {
                "profile": profile.name, "idle_w": profile.idle_w, "per_core_w": profile.per_core_w,
                "cores": profile.cores, "cpu_scale": profile.cpu_scale,
            },
        }  # fmt: skip
        if self._identity is not None:
            config |= self._identity.agent(board.name)
        self._agents.start(board.name, config)

    def _wait_online(self, fleet: MqttFleet) -> None:
        # Agents that are services of their boards come back to a new broker by themselves, in their own time.
        deadline = time.monotonic() + (ONLINE_S if len(self._local) == len(self._nodes) else AWAY_ONLINE_S)
        while True:
            self._agents.check()
            left_s = deadline - time.monotonic()
            try:
                fleet.wait_online(self._nodes, min(0.5, max(0.01, left_s)))
                return
            except NotOnline:
                if left_s <= 0.0:
                    raise

    def _anchor(self, fleet: MqttFleet) -> Loop:
        """Give every node the same scenario clock, in its own monotonic time."""
        offsets = {node: fleet.clock_offset_ns(node) for node in self._nodes}
        self._journal.set_meta("clock_offsets_ns", msgspec.json.encode(offsets).decode())
        anchor_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        rate = self._p.campaign.orbit.rate
        self._journal.set_meta("anchor_host_ns", str(anchor_ns))
        clock = PacedClock(rate, HostSeconds(anchor_ns / 1e9))
        outlet, campaign = Outlet(fleet, self._nodes), self._p.campaign
        keeper = self._keeper = ClockKeeper(
            fleet, self._epoch, clock, offsets, self._clock_checked, campaign.control.clock_check_s
        )
        keeper.announce("start", anchor_ns, 0.0, rate)
        keeper.start()
        steering = Steering(
            self._folder, clock, campaign.orbit.duration_s, campaign.control.tick_s, self._p.setting.satellites,
            keeper.announce, outlet.fault,
        )  # fmt: skip
        return Loop(self._core, self._journal, self._inbox, clock, outlet, self._decided, steering)

    def _clock_checked(self, node: str, found: ClockChecked) -> None:
        self._inbox.put(Arrival(time.monotonic_ns(), "clock_check", node, "", 0, msgspec.json.encode(found)))

    def _decided(self, decision: Decision) -> None:
        client = self._client
        assert client is not None
        gone = {node for node, alive in zip(self._nodes, decision.column("alive").tolist(), strict=True) if not alive}
        for node in sorted(gone - self._gone):
            client.node_lost(node)
        self._gone = gone
        self._show(Progress(decision.scenario_s, self._p.campaign.orbit.duration_s, self._tokens, decision))

    def go(self, loop: Loop, client: Client) -> None:
        """Ticks until the orbit is replayed or the prompts are used up."""
        workload = self._p.campaign.workload
        duration_s = self._p.campaign.orbit.duration_s
        while True:
            decision = loop.run_tick()
            if self._broker is not None and self._broker.failure is not None:
                raise self._broker.failure
            client.watch()
            self._collect(client)
            if decision.scenario_s >= duration_s:
                break
            while client.running < workload.concurrency and not (self._exhausted and not self._to_score):
                self._begin_request(client)
            if self._exhausted and not self._to_score and not client.running:
                break
        client.stop_all("the replayed orbit ended")
        self._collect(client)

    @property
    def _to_score(self) -> int:
        """Evaluation items that were not begun yet."""
        found = self._p.evaluation
        return 0 if found is None else len(found.items) - self._scored

    def _begin_request(self, client: Client) -> None:
        """The next prompt, or an evaluation item: they get half of the slots while there are any."""
        found = self._p.evaluation
        half = max(1, self._p.campaign.workload.concurrency // 2)
        if found is not None and self._to_score and (self._exhausted or client.scoring < half):
            number, self._scored = FIRST_REQUEST + self._scored, self._scored + 1
            client.begin(number, list(found.item(number).tokens), 1, score=True)
            return
        ready = self._workload.next()
        if ready is None:
            self._exhausted = True
            return
        number, self._next_request = self._next_request, self._next_request + 1
        self._record(RequestBegan(number, ready.prompt.domain, ready.prompt.text, tuple(ready.tokens)))
        client.begin(number, ready.tokens, self._p.campaign.workload.max_new_tokens)

    def _collect(self, client: Client) -> None:
        for request, reason in client.take_ended():
            if request.score:
                continue  # its scores are its record
            tokens = [t for t in request.tokens if t != self._p.manifest.model.end_of_text]
            text = self._workload.text(tokens)
            self._record(RequestEnded(request.id, tuple(request.tokens), text, reason))

    def finish(self, fleet: MqttFleet, loop: Loop) -> None:
        """Let every living node hand in its last record, then send it home."""
        if self._p.campaign.control.idle_s > 0.0:
            asked = leave_request(self._folder, Request("pause"))  # the orbit is over; the boards stay for a while
            self._stay_idle("after", loop.run_tick)
            answer_path(asked).unlink(missing_ok=True)
        alive = tuple(n.name for n in self._core.view.nodes if n.alive and n.name not in self._agents.ended())
        replies = fleet.ask(alive, {node: Finish() for node in alive}, FINISH_S)
        wanted = {(reply.node, reply.boot_id): reply.last_seq for reply in replies.values()}
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            loop.run_tick()
            marks = self._journal.watermarks()
            if all(marks.get(source, 0) >= seq for source, seq in wanted.items()):
                break
        dead = [node for node in self._nodes if node not in replies]
        if collect(self._folder / "spool", dead, self._inbox):
            loop.run_tick()
        marks = self._journal.watermarks()
        short = {f"{n}-{b}": seq - marks.get((n, b), 0) for (n, b), seq in wanted.items() if marks.get((n, b), 0) < seq}
        self._journal.set_meta("records_missing", msgspec.json.encode(short).decode())
        self._journal.set_meta("broker_restarts", str(self._broker.restarts if self._broker else 0))
        self._journal.set_meta("ended_utc", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        self._journal.set_meta("inbox_overflow", str(self._inbox.overflowed))
        for node in alive:
            if node in self._local:
                fleet.tell(node, Shutdown())
        if self._inbox.overflowed:
            raise InvalidRunError(
                f"{self._folder}: {self._inbox.overflowed} arrivals did not fit the inbox; the run is not valid",
                "use a longer control.tick_s or fewer boards",
            )

    def close(self) -> None:
        """End everything that was started, in reverse order."""
        if self._keeper is not None:
            self._keeper.stop()
        if self._client is not None:
            self._client.close()
        if self._fleet is not None:
            self._fleet.stop()
        self._agents.stop()
        if self._broker is not None:
            self._broker.stop()
        if self._identity is not None:
            self._identity.close()
        self._journal.close()


def run_campaign(prepared: Prepared, folder: Path, show: Callable[[Progress], None]) -> None:
    """Execute one run into `folder` (new). Whatever happens, every process that was started is ended."""
    run = Run(prepared, folder, show)
    try:
        fleet, client, loop = run.start()
        run.go(loop, client)
        run.finish(fleet, loop)
    finally:
        run.close()
