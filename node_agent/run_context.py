"""One run on this node: what an order to prepare becomes."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from hil_config.clock import Clock, PacedClock, SteppedClock
from hil_config.errors import DataFileError, HilError, LocalProtocolError, RemoteProtocolError
from hil_config.units import HostSeconds
from hil_config.wire.frames import (
    Cancel,
    Delta,
    DeltaReply,
    ExpertCall,
    ExpertReply,
    Frame,
    Handover,
    Hello,
    Refusal,
    Step,
)
from hil_config.wire.messages import ClockAnchor, LinkReport, NodeEvent, TokenEvidence
from hil_config.wire.orders import DropShards, InjectFault, LoadShards, Prepare, SetDuty
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.schedule_file import decode_schedule, schedule_hash
from node_agent.crew import Crew
from node_agent.engine.caller import ExpertCaller
from node_agent.engine.experts import NotHeld
from node_agent.engine.gateway import Gateway
from node_agent.engine.holdings import Holdings
from node_agent.engine.plans import PlanBook
from node_agent.link.inbound import Inbound
from node_agent.link.peers import Peers
from node_agent.link.security import CLEAR, Security
from node_agent.shards.store import ShardStore

TELL_AT = frozenset(10**n for n in range(12))
"""Refused connections that are told: somebody who knocks for ever must not fill the spool."""

REASON_CHARS = 2000
"""Of what is told about a delta: a frame's header has an end."""

Record = Callable[[TokenEvidence | NodeEvent | LinkReport], None]


class RunContext:
    """Shards loaded, links and gateway threads running. Errors of the order are raised before anything starts.

    Args:
        record: takes the run's evidence.
        shard_budget_bytes: of shard files open at once; 0 is no limit.
    """

    def __init__(
        self,
        node: str,
        boot_id: str,
        order: Prepare,
        store: ShardStore,
        record: Record,
        security: Security = CLEAR,
        frame_log: str = "",
        shard_budget_bytes: int = 0,
        data_interface: str = "",
    ) -> None:
        if schedule_hash(order.schedule) != order.schedule_sha256:
            raise DataFileError("the link schedule arrived damaged: its hash is not the one ordered")
        store.require(order.manifest_sha256)
        self.order = order
        self._node = node
        self._record = record
        self._clock: Clock = SteppedClock()  # stands at 0 until the ground anchors it
        self._duty = SetDuty(True, "")
        self._ending = False
        self._strangers = 0
        self._crew = Crew()
        schedule = decode_schedule(order.schedule, "link schedule from the ground")
        self._deltas = store.deltas
        self.holdings = Holdings(store, order.experts, order.trunk_layers, shard_budget_bytes)
        self.bank = self.holdings.bank
        self.plans = PlanBook(store.manifest.model, order.plan)
        self.peers = Peers(
            node, boot_id, order, schedule, lambda: self._clock, self._lost, security, frame_log, data_interface
        )
        self.peers.take_plan(order.plan)
        self.inbound = Inbound(node, order.run, self.peers.ring, self.peers.forward, self._frame_refused)
        card = store.manifest.model
        self._width = card.hidden
        caller = ExpertCaller(self.peers, self.bank, card, order.expert_timeout_s, self._tell_host)
        self.hosts = caller.hosts
        self.gateway = Gateway(node, self.holdings.trunk, caller, self.plans, record, self.out_of_service)
        self.expert_calls = 0

    def start(self) -> None:
        self.peers.start(self._crew)
        self._crew.start("gateway", lambda: self.gateway.work(self._crew.stopping.is_set))
        self._crew.start("link-reports", self._report_links)

    def _report_links(self) -> None:
        while not self._crew.stopping.wait(5.0):
            self.flush_links()

    def flush_links(self) -> None:
        for report in self.peers.reports():
            self._record(report)

    def admit(self, hello: Hello) -> str:
        """Reason to refuse a peer, or ""."""
        if hello.run != self.order.run:
            return f"it speaks for run {hello.run!r}, this node is in {self.order.run!r}"
        if hello.peer not in {peer.name for peer in self.order.peers}:
            return "it is not among this run's peers"
        if self.peers.ring is not None:
            try:
                if self.peers.ring.meet(hello.run, hello.offer) != hello.peer:
                    return "its offer to seal is another's"
            except RemoteProtocolError as error:
                return error.message
        return ""

    def anchor(self, anchor: ClockAnchor) -> None:
        """Set scenario time; the event says how late the order came and how far the clock jumped."""
        before_s, due_s = float(self._clock.now()), anchor.mono_ns / 1e9
        late_s = max(0.0, time.monotonic() - due_s)
        clock = PacedClock(anchor.rate or 1.0, HostSeconds(due_s), anchor.scenario_s, hold=True)
        clock.move(due_s, anchor.scenario_s, anchor.rate)
        self._clock = clock
        self.peers.forget()
        self._event(
            "ClockSet", kind=anchor.kind, scenario_s=anchor.scenario_s, rate=anchor.rate, late_us=late_s * 1e6,
            jump_s=float(clock.now()) - before_s,
        )  # fmt: skip

    def inject(self, order: InjectFault) -> None:
        """Put a fault on the links over the schedule."""
        self.peers.inject(order.fault)
        self._event("FaultInjected", fault=msgspec.json.encode(order.fault).decode())

    def accept_plan(self, plan: SelectionPlan) -> None:
        if self.plans.accept(plan):
            self.peers.take_plan(plan)

    def set_duty(self, order: SetDuty) -> None:
        if order.in_service != self._duty.in_service:
            name = "ServiceResumed" if order.in_service else "ServiceSuspended"
            self._event(name, reason=order.reason)
        self._duty = order

    def change(self, order: LoadShards | DropShards) -> None:
        """Hold more or less from now on; an error leaves everything as it was."""
        kind, held = "load" if isinstance(order, LoadShards) else "drop", msgspec.json.encode(order.experts).decode()
        try:
            if isinstance(order, LoadShards):
                self.holdings.load(order)
            else:
                self.holdings.drop(order)
        except HilError as error:
            self._event("ShardsRefused", order=kind, held=held, reason=error.message)
            raise
        self._event(
            "ShardsChanged", order=kind, experts=len(order.experts), trunk_layers=len(order.trunk_layers),
            bytes=self.holdings.bytes, budget=self.holdings.budget_bytes, held=held,
        )  # fmt: skip

    def out_of_service(self) -> str:
        """Why new work is refused, or ""."""
        return "" if self._duty.in_service else f"{self._node} is out of service: {self._duty.reason}"

    def _event(self, name: str, **details: str | int | float | bool) -> None:
        self._record(NodeEvent(name, time.monotonic_ns(), details))

    def _tell_host(self, name: str, host: str, reason: str) -> None:
        self._event(name, peer=host, reason=reason)

    def finish(self) -> None:
        """The workload is over: report the links; peers that leave now are no loss."""
        self.flush_links()
        self._ending = True

    def _lost(self, peer: str, reason: str) -> None:
        self.gateway.lost(peer)
        if not self._ending:
            self._event("PeerLost", peer=peer, reason=reason)

    def gone(self, peer: str, reason: str) -> None:
        """A peer's connection to us ended."""
        if peer:
            self.peers.lost(peer, reason)
        else:
            self._strangers += 1
            if self._strangers in TELL_AT:
                self._event("PeerRefused", reason=reason, count=self._strangers)

    def _frame_refused(self, peer: str, reason: str, count: int) -> None:
        self._event("FrameRefused", peer=peer, reason=reason, count=count)

    def handle(self, peer: str, frame: Frame, received_s: float) -> None:
        """One frame from an admitted peer (reader threads)."""
        arrived = self.inbound.take(peer, frame)
        if arrived is None:
            return
        peer, frame = arrived
        if isinstance(frame, ExpertCall):
            self._serve(peer, frame, received_s)
        elif isinstance(frame, ExpertReply) or (isinstance(frame, Refusal) and frame.call):
            self.gateway.answered(peer, frame, received_s)
        elif isinstance(frame, (Step, Handover)):
            self.gateway.accept(frame)
        elif isinstance(frame, Cancel):
            self.gateway.cancel(frame)
        elif isinstance(frame, Delta):
            self._keep_delta(frame)

    def _keep_delta(self, frame: Delta) -> None:
        """Install or forget a delta, tell the client, and send it on: it crosses each link of the way once."""
        seq, problem = 0, ""
        try:
            seq = self._deltas.install(frame.name, frame.payload, frame.signature)
        except HilError as error:
            problem = error.message[:REASON_CHARS]  # it can repeat what the file says of itself
        kind = "DeltaRefused" if problem else "DeltaInstalled" if seq else "DeltaForgotten"
        self._event(kind, delta=frame.name, seq=seq, bytes=len(frame.payload), reason=problem)
        self.peers.send(frame.client, DeltaReply(self._node, frame.name, seq, problem))
        if frame.relay and not problem:
            onward = Delta(frame.name, frame.relay[1:], frame.client, frame.signature, frame.payload)
            if not self.peers.send(frame.relay[0], onward):
                lost = DeltaReply(frame.relay[0], frame.name, 0, f"{self._node}: no link to {frame.relay[0]}")
                self.peers.send(frame.client, lost)

    def _serve(self, peer: str, frame: ExpertCall, received_s: float) -> None:
        """Computed in the reader's thread: a hand-over to another one would cost more than a small expert."""
        begun_s = time.monotonic()
        refusal = self.out_of_service()
        if not refusal and frame.width != self._width:
            refusal = f"{self._node}: hidden state of width {frame.width}, the model's is {self._width}"
        if not refusal:
            try:
                if frame.row is not None:
                    partial = self.bank.row_sum(frame.layer, frame.hidden, *frame.row, frame.adapter, frame.precisions)
                else:
                    partial = self.bank.partial_sum(
                        frame.layer, frame.hidden, frame.experts, frame.weights, frame.adapter, frame.precisions
                    )
            except NotHeld as error:
                refusal = error.message
        if refusal:
            self.peers.send(peer, Refusal(frame.call, frame.request, 0, refusal))
            return
        self.expert_calls += partial.calls
        queue_us = (begun_s - received_s) * 1e6
        reply = ExpertReply(
            frame.call, frame.layer, queue_us, partial.runtime_us, frame.rows, frame.width, partial.total
        )
        try:
            self.peers.send(peer, reply, frame.answer or None)
        except LocalProtocolError as error:  # a row can be finite, and what experts make of it not
            self.peers.send(peer, Refusal(frame.call, frame.request, 0, f"{self._node}: {error.message}"))

    def close(self) -> None:
        self.peers.close()
        self._crew.dismiss()
        self.holdings.let_go()
