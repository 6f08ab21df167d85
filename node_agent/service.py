"""The agent: wires sensors, spool, broker and data plane together, and obeys orders one at a time."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue

import msgspec

from hil_config.epoch_file import EpochFile
from hil_config.errors import EXIT_UNEXPECTED, HilError, LinkError, RemoteProtocolError, SafetyRefusal, UsageError
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.frames import Frame, Hello
from hil_config.wire.orders import (
    DropShards,
    Finish,
    InjectFault,
    LoadShards,
    Order,
    Ping,
    Prepare,
    SetDuty,
    SetLogLevel,
    SetPower,
    Shutdown,
)
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.topics import Topic
from node_agent import VERSION, wake_latency
from node_agent.board_facts import board_facts
from node_agent.care import SILENT_THREAD_S, Care
from node_agent.config import AgentConfig
from node_agent.crew import Crew
from node_agent.evidence import Evidence, left_spools, open_spool
from node_agent.link.incoming import Listener
from node_agent.link.security import CertificateWatch, RevocationWatch, secure
from node_agent.log import LOG, set_level
from node_agent.mqtt_link import MqttLink
from node_agent.notify import notify
from node_agent.run_context import RunContext
from node_agent.sampler import FLUSH_S, Sampler, group_by_rate
from node_agent.sensors.registry import probe
from node_agent.shards.providers import choose_providers
from node_agent.shards.store import ShardStore
from node_agent.starts import Starts
from node_agent.watchdog import Heart

SUMMARY_S = 1.0
ORDER_S = 300.0
"""The longest an order may take: loading the shards of a run from a slow card."""
STOP_S = 4.5
"""A stop is over within 5 s, clean or not."""


class Agent:
    """One node process. `serve` returns when it was told to stop."""

    def __init__(self, config: AgentConfig, starts: Starts) -> None:
        self._config = config
        self.boot_id = uuid.uuid4().hex[:12]
        self._providers = choose_providers(config.provider, config.cuda_arena_bytes)
        self._store = ShardStore(
            Path(config.shards), config.trust, config.trunk_threads, self._providers, config.grouping,
            config.head_threads,
        )  # fmt: skip
        self._crew = Crew()
        self._orders: Queue[m.Command] = Queue(1024)
        self._asked_to_stop = False
        self._run: RunContext | None = None
        self._awake = wake_latency.hold(Path(config.sysfs_root), config.wake_latency_us)
        self._fence = EpochFile(Path(config.spool) / f"{config.node}.epoch")
        self._starts = starts
        self._beat_s = time.monotonic()
        self._found = probe(config)
        self._security = secure(config.tls, config.node, self.boot_id)
        self._listener = Listener(
            self._crew, config.data_host, config.data_port, self._admit, self._handle, self._gone, self._security.listen
        )
        home, most = Path(config.spool), config.max_spool_bytes
        left = left_spools(home, config.node, self.boot_id, most)
        self._spool = open_spool(home, config.node, self.boot_id, most)
        self._mqtt = MqttLink(config, self.boot_id, self._status, self._take, self._fence)
        self._revocations = RevocationWatch(config.tls, self._security, self._mqtt.tls, self._cut)
        self._certificate = CertificateWatch(config.tls)
        self._evidence = Evidence(config.node, self.boot_id, self._spool, self._mqtt, left)
        self._samplers = [
            Sampler(instruments, hz, self._evidence.put, self._evidence.put)
            for hz, instruments in group_by_rate(self._found.instruments)
        ]
        self._care = Care(config, self._evidence.put, self._set_service)
        self._store.duty = self._care.duty

    def serve(self) -> None:
        """Run until a Shutdown order (or `stop`)."""
        host, port = self._listener.address
        LOG.info(
            "node %s of bench %s, boot %s: broker %s:%d, data on %s:%d, model %s", self._config.node,
            self._config.bench, self.boot_id, self._config.broker_host, self._config.broker_port, host, port,
            self._config.shards,
        )  # fmt: skip
        self._mqtt.start()
        self._crew.start("listener", self._listener.work)
        for n, sampler in enumerate(self._samplers):
            self._crew.start(f"sampler-{n}", partial(sampler.work, self._crew.stopping.wait))
        self._crew.start("evidence", lambda: self._evidence.work(self._crew))
        self._crew.start("summary", self._summarise)
        started: dict[str, str | int | float | bool] = {"version": VERSION, **self._providers.details()}
        self._evidence.put(m.NodeEvent("AgentStarted", time.monotonic_ns(), started))
        self._care.start(self._crew, self._hearts())
        if self._starts.safe_mode:
            LOG.warning("safe mode after %d starts that did not end well: telemetry only", self._starts.crashes)
            self._evidence.put(m.NodeEvent("SafeModeEntered", time.monotonic_ns(), {"crashes": self._starts.crashes}))
        notify("READY=1", f"STATUS=node {self._config.node}, boot {self.boot_id}")
        while not self._crew.stopping.is_set():
            self._beat_s = time.monotonic()
            try:
                self._obey(self._orders.get(timeout=0.5))
            except Empty:
                continue
        self._close()

    def _hearts(self) -> list[Heart]:
        samplers = [
            Heart(f"sampler-{n}", partial(getattr, sampler, "beat_s"), SILENT_THREAD_S + 3.0 / sampler.hz)
            for n, sampler in enumerate(self._samplers)
        ]
        orders = Heart("orders", lambda: self._beat_s, ORDER_S)
        return [orders, *samplers, Heart("evidence", lambda: self._evidence.beat_s, SILENT_THREAD_S)]

    def stop(self) -> None:
        """Ask `serve` to return; whatever hangs then has `STOP_S` to let go.

        A signal may come while the main thread is in here already, with the lock of an event in its hands.
        """
        if self._asked_to_stop:
            return
        self._asked_to_stop = True
        notify("STOPPING=1")
        self._crew.stopping.set()
        last = threading.Timer(STOP_S, self._end)
        last.daemon = True
        last.start()

    def _end(self) -> None:
        """The clean stop took too long: put the board's settings back and go. The spool is on disk already."""
        print("hil-agent: a thread did not stop in time", file=sys.stderr, flush=True)
        self._care.stop()
        os._exit(EXIT_UNEXPECTED)

    def _close(self) -> None:
        self._care.stop()
        if self._run is not None:
            self._run.close()
        self._listener.close()
        self._mqtt.stop()
        self._crew.dismiss(2.0)
        self._found.close()
        self._spool.close()
        self._awake.close()
        self._starts.ended_well()

    def _set_service(self, order: SetDuty) -> None:
        if self._run is not None:
            self._run.set_duty(order)

    def _status(self) -> m.Status:
        host, port = self._listener.address
        return m.Status(
            node=self._config.node, boot_id=self.boot_id, state="serving" if self._run else "online",
            agent_version=VERSION, data_address=f"{host}:{port}", last_seq=self._spool.last_seq,
            manifest_sha256=self._store.sha256, quantities=self._found.quantities,
            missing=tuple(self._found.missing), offer=self._security.offer, epoch=self._fence.epoch,
            facts=board_facts(Path(self._config.sysfs_root), self._care.settings.actuators) | self._awake.facts,
        )  # fmt: skip

    def _summarise(self) -> None:
        while not self._crew.stopping.wait(SUMMARY_S):
            self._starts.lived()
            for event in (*self._revocations.look(), *self._certificate.look(time.monotonic())):
                LOG.info("%s %s", event.name, event.details)
                self._evidence.put(event)
            run = self._run
            latest = {name: value for sampler in self._samplers for name, value in sampler.latest.items()}
            self._mqtt.publish(
                topics.SUMMARY,
                m.Summary(
                    node=self._config.node, power_w=latest.get("power_w"),
                    temperature_c=latest.get("temperature_c"), cpu_percent=latest.get("cpu_percent"),
                    memory_mb=latest.get("memory_mb"), tokens=run.gateway.tokens if run else 0,
                    expert_calls=run.expert_calls if run else 0, spooled=self._evidence.waiting,
                ),
            )  # fmt: skip

    def _take(self, row: Topic, message: msgspec.Struct) -> None:
        """From the network thread: urgent things now, commands in order."""
        run = self._run
        self._care.heard()
        if isinstance(message, (m.Watermark, SelectionPlan, m.ClockAnchor)):
            if message.epoch < self._fence.epoch:
                return  # of a controller that is no longer in command
            if isinstance(message, m.Watermark):
                self._evidence.committed(message)
            elif run is not None and isinstance(message, SelectionPlan):
                run.accept_plan(message)
            elif run is not None and isinstance(message, m.ClockAnchor) and message.boot_id == self.boot_id:
                run.anchor(message)
        elif isinstance(message, m.Command):
            if isinstance(message.body, Ping):
                self._answer(message, received_ns=time.monotonic_ns())
            else:
                try:
                    self._orders.put_nowait(message)
                except Full:
                    self._answer(
                        message, f"{self._config.node}: {self._orders.maxsize} orders are waiting already",
                        "wait for replies before giving more orders", LinkError.exit_code,
                    )  # fmt: skip

    def _obey(self, command: m.Command) -> None:
        try:
            self._fence.admit(command.epoch)
        except RemoteProtocolError as error:
            self._answer(command, error.message, "another controller is in command", SafetyRefusal.exit_code)
            return
        try:
            self._carry_out(command.body, command.epoch)
        except HilError as error:
            self._answer(command, error.message, error.hint, error.exit_code)
            return
        self._answer(command)
        if isinstance(command.body, Shutdown):
            self.stop()

    def _carry_out(self, body: Order, epoch: int) -> None:
        if isinstance(body, Prepare):
            if self._starts.safe_mode:
                raise SafetyRefusal(
                    f"node {self._config.node} is in safe mode after {self._starts.crashes} crashes: telemetry only",
                    "read its log, mend the cause, then: systemctl restart hil-agent",
                )
            if self._run is not None:
                self._run.close()
                self._run = None
            run = RunContext(
                self._config.node,
                self.boot_id,
                body,
                self._store,
                self._evidence.put,
                self._security,
                self._config.frame_log,
                self._config.shard_budget_bytes,
                self._config.data_interface,
            )
            self._evidence.new_run(epoch)
            run.start()
            self._run = run
            self._care.order(SetDuty(True, ""))
            self._care.begin_run()
            self._mqtt.publish(topics.STATUS, self._status())
        elif isinstance(body, InjectFault) and self._run is not None:
            self._run.inject(body)
        elif isinstance(body, (LoadShards, DropShards)):
            if self._run is None:
                raise UsageError(f"{self._config.node} is in no run", "prepare a run first")
            self._run.change(body)
        elif isinstance(body, SetDuty):
            self._care.order(body)
        elif isinstance(body, SetPower):
            self._care.set_power(body)
        elif isinstance(body, SetLogLevel):
            set_level(body.level)
        elif isinstance(body, Finish) and self._run is not None:
            until_s = time.monotonic() + FLUSH_S  # for all: an instrument that hangs must not cost the answer
            for sampler in self._samplers:
                sampler.flush(until_s - time.monotonic())  # so that the answer's number covers the last second
            self._run.finish()

    def _answer(
        self, command: m.Command, error: str = "", hint: str = "", exit_code: int = 0, received_ns: int = 0
    ) -> None:
        self._mqtt.publish(
            topics.REPLY,
            m.CommandReply(
                id=command.id, node=self._config.node, boot_id=self.boot_id, ok=not error,
                mono_ns=time.monotonic_ns(), received_mono_ns=received_ns, last_seq=self._spool.last_seq,
                error=error, hint=hint, exit_code=exit_code,
            ),
        )  # fmt: skip

    def _admit(self, hello: Hello) -> str:
        run = self._run
        if run is None:
            return "this node is in no run"
        refusal = run.admit(hello)
        if not refusal:
            run.peers.returned(hello.peer)
        return refusal

    def _handle(self, peer: str, frame: Frame, received_s: float) -> None:
        if self._run is not None:
            self._run.handle(peer, frame, received_s)

    def _cut(self, revoked: frozenset[int]) -> None:
        self._listener.cut(revoked)
        if self._run is not None:
            self._run.peers.cut(revoked)

    def _gone(self, peer: str, reason: str) -> None:
        if self._run is not None:
            self._run.gone(peer, reason)
