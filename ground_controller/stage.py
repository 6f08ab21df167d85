"""The stage of a run: broker, agents and the connection to them, brought up before it and taken down after it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ground_controller.admission import Shape
from ground_controller.fleet.identity import BenchIdentity
from ground_controller.fleet.lease import BenchLease
from ground_controller.fleet.local import Broker, LocalAgents
from ground_controller.fleet.mqtt import MqttFleet, NotOnline
from ground_controller.fleet.places import StandingBroker, check_places, open_broker
from ground_controller.fleet.signing import ephemeral_trust
from ground_controller.inbox import Inbox
from ground_controller.mixed import model_boards
from ground_controller.preparation import Prepared
from hil_config.schema.profiles import is_profile_path
from hil_config.tls import TlsFiles

ONLINE_S = 30.0
AWAY_ONLINE_S = 120.0
PIDS = "pids.json"


class Stage:
    """What stands while a run goes on. `open` brings it up, `close` takes down what was started here.

    Raises:
        EnvironmentFault, ConfigError: a port of the bench is taken, or a board cannot be reached at all.
    """

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        check_places(prepared.bench)  # before the first file is written
        self._p = prepared
        self._folder = folder
        models = model_boards(prepared.bench)
        self.nodes = tuple(node for node in prepared.setting.nodes if node not in models)
        self.local = tuple(board.name for board in prepared.bench.boards if board.kind == "local")
        self._agents = LocalAgents(folder)
        identity = prepared.bench.identity
        self._identity = None if identity is None else BenchIdentity(Path(identity), self.local)
        self._broker: Broker | StandingBroker | None = None
        self._lease: BenchLease | None = None
        self._fleet: MqttFleet | None = None

    def take_command(self, above: int, take_over: bool) -> int:
        """Open the broker and take the bench's lease with an epoch higher than `above`; nothing else is touched yet.

        Raises:
            SafetyRefusal: another controller commands the bench.
        """
        folder = None if self._identity is None else self._identity.folder
        broker = self._broker = open_broker(self._p.bench, self._folder, folder, self._write_pids)
        lease = self._lease = BenchLease(
            self._p.bench.bench, (broker.host, broker.port), self._folder.name, self.tls, isinstance(broker, Broker)
        )
        return lease.take(above, take_over)

    def open(self, inbox: Inbox) -> MqttFleet:
        """Agents and the connection to them; returns when every node has said that it is there."""
        identity, broker, lease = self._identity, self._broker, self._lease
        assert broker is not None
        assert lease is not None
        trust = ephemeral_trust(self._folder, self._p.shards)
        for index, node in enumerate(self._p.setting.nodes):
            if node in self.local:
                self._start_agent(index, broker, trust)
        self._write_pids()
        fleet = self._fleet = MqttFleet(self._p.bench.bench, lease.epoch, inbox, self.tls, run=self.shape)
        fleet.start(broker.host, broker.port)
        self._wait_online(fleet)
        epoch = lease.rise(max(fleet.statuses[node].epoch for node in self.nodes))
        fleet.command(epoch, None if identity is None else identity.desk(epoch))
        return fleet

    @property
    def shape(self) -> Shape:
        """What evidence of the run must fit."""
        return self._p.setting.shape

    @property
    def epoch(self) -> int:
        """The number under which this controller commands; certain once the stage is open."""
        assert self._lease is not None
        return self._lease.epoch

    @property
    def tls(self) -> TlsFiles | None:
        """The ground's certificate, on a bench that has an identity."""
        return None if self._identity is None else self._identity.tls

    @property
    def host(self) -> str:
        """This machine's address for the nodes."""
        assert self._broker is not None
        return self._broker.host

    @property
    def broker_restarts(self) -> int:
        return 0 if self._broker is None else self._broker.restarts

    def check(self) -> None:
        """Raise what has made it impossible to go on: another controller commands, the broker did not come back."""
        if self._lease is not None:
            self._lease.check()
        if self._broker is not None and self._broker.failure is not None:
            raise self._broker.failure

    def ended(self) -> list[str]:
        """Nodes whose agents were started here and have ended."""
        return self._agents.ended()

    def _write_pids(self) -> None:
        if self._broker is not None:
            self._agents.write_pids(self._folder / PIDS, self._broker.pid)

    def _start_agent(self, index: int, broker: Broker | StandingBroker, trust: dict[str, Any]) -> None:
        board, profile = self._p.bench.boards[index], self._p.profiles[index]
        config: dict[str, Any] = {
            "node": board.name, "bench": self._p.bench.bench, "broker_host": broker.host,
            "broker_port": broker.port, "data_host": board.address, "data_port": board.data_port,
            "shards": str(self._p.shards), "spool": str(self._folder / "spool"), "trust": trust,
            "power_model": profile.agent_fields()["power_model"],
        }  # fmt: skip
        if is_profile_path(board.profile):  # whose sensors are meant for this machine; ours are those of real boards
            config["sensors"] = profile.agent_fields()["sensors"]
        if self._identity is not None:
            config |= self._identity.agent(board.name)
        self._agents.start(board.name, config)

    def _wait_online(self, fleet: MqttFleet) -> None:
        # Agents that are services of their boards come back to a new broker by themselves, in their own time.
        wait_s = ONLINE_S if len(self.local) == len(self.nodes) else AWAY_ONLINE_S
        deadline = time.monotonic() + wait_s
        while True:
            self._agents.check()
            left_s = deadline - time.monotonic()
            try:
                fleet.wait_online(self.nodes, min(0.5, max(0.01, left_s)), wait_s)
                return
            except NotOnline:
                if left_s <= 0.0:
                    raise

    def close(self) -> None:
        """End everything that was started, in reverse order."""
        if self._fleet is not None:
            self._fleet.stop()
        self._agents.stop()
        if self._lease is not None:
            self._lease.release()
        if self._broker is not None:
            self._broker.stop()
        if self._identity is not None:
            self._identity.close()
