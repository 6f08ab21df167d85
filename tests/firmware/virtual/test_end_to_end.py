"""A board without hardware, from nothing to serving: build, flash, first boot, enrolment, an expert's sum, power cycle.

The board is an aarch64 machine under emulation, tens to hundreds of times slower than a real one: what it computes is
compared, how long it takes never is. Building its image is kept in the cache by the recipe's hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from firmware_tools import identity as x509
from firmware_tools.console.attach import close_console
from firmware_tools.identity_store import IdentityStore
from firmware_tools.state import State
from firmware_tools.virtual import machine
from firmware_tools.virtual.build import build, missing_programs
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.fleet.order_desk import OrderDesk
from ground_controller.inbox import Inbox
from hil_config.door import run
from hil_config.errors import EnvironmentFault
from hil_config.schema.load import load_bench
from hil_config.signing import Signer
from hil_config.tls import connect, identity_files
from hil_config.virtual_network import GUEST_ADDRESS, GUEST_DATA_PORT, peer_address
from hil_config.wire.frames import ExpertCall, ExpertReply, Frame, Hello, encode_frame
from hil_config.wire.manifest import manifest_hash
from hil_config.wire.orders import ExpertHolding, Peer, Prepare
from node_agent.crew import Crew
from node_agent.engine.experts import ExpertBank
from node_agent.link.incoming import Listener
from node_agent.link.security import secure
from node_agent.shards.store import ShardStore
from tests.firmware.provision.agent_version import version
from tests.node.nodes import flat_schedule, plain_plan

RUN = "virtual-run"
LAYER, EXPERTS = 1, (3, 5)
MISSING = missing_programs()
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="building a virtual board's image takes root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(
        not shutil.which("mosquitto", path=f"{os.environ.get('PATH')}:/usr/sbin"), reason="no mosquitto"
    ),
]


class Ports(NamedTuple):
    """Free ports of this machine."""

    console: int
    data: int
    broker: int
    tester: int
    ground: int


class Desk(NamedTuple):
    """A bench with one virtual board and this test as a peer."""

    home: Path
    ports: Ports
    shards: Path
    image: str

    @property
    def bench_file(self) -> Path:
        return self.home / "bench.yaml"

    @property
    def identity(self) -> Path:
        return self.home / "identity"

    def broker_log(self) -> str:
        return (self.identity / "broker" / "mosquitto.log").read_text()

    def hil(self, *words: str) -> None:
        assert run([*words, "--bench", str(self.bench_file)]) == 0, words


def _free_ports() -> Ports:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = Ports(*(one.getsockname()[1] for one in sockets))
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    try:
        image = build().image
    except EnvironmentFault as error:
        pytest.skip(f"the virtual board cannot be built here: {error.message}")
    ports = _free_ports()
    (home / "password").write_text("only-for-this-test\n")
    (home / "bench.yaml").write_text(
        f"""\
bench: lab
identity: identity
broker: {{host: 127.0.0.1, port: {ports.broker}}}
ground_port: {ports.ground}
boards:
  - name: orin
    profile: jetson-orin-nano
    kind: virtual
    data_port: {ports.data}
    disk: {{file: orin.img, size_gb: 0.8}}
    console: {{port: "socket://127.0.0.1:{ports.console}", user: root, password_file: password}}
    power: {{via: virtual}}
  - {{name: tester, profile: local-process, data_port: {ports.tester}}}
"""
    )
    shards, key = home / "shards", home / "model"
    assert run(["models", "build", "--out", str(shards)]) == 0
    assert run(["models", "keygen", "--out", str(key)]) == 0
    assert run(["models", "sign", str(shards), "--key", f"{key}.key"]) == 0
    assert run(["bench", "init", "lab", "--folder", str(home / "identity"), "--port", str(ports.broker)]) == 0
    config = home / "identity" / "broker" / "mosquitto.conf"
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    with open(home / "broker.log", "wb") as log:
        broker = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    made = Desk(home, ports, shards, image)
    try:
        yield made
    finally:
        state = State(made.bench_file)
        bench = load_bench(made.bench_file)
        machine.stop(machine.machine_of(bench, bench.boards[0], state))
        close_console("orin", state)
        broker.terminate()
        broker.wait(10)


def _receipts(desk: Desk, kind: str) -> list[dict[str, Any]]:
    paths = sorted((State(desk.bench_file).folder / "receipts").glob(f"orin-{kind}-*.json"))
    return [json.loads(path.read_text()) for path in paths]


class PeerOfTheBoard:
    """This test as a peer of the board: mutual TLS both ways."""

    def __init__(self, desk: Desk) -> None:
        store = IdentityStore(desk.identity)
        key = x509.make_key()
        certificate = store.sign("tester", x509.make_request(key, "tester"))
        x509.write_identity(desk.home / "tester", x509.Identity(certificate, key, store.ca))
        self.security = secure(identity_files(desk.home / "tester"), "tester", "boot-tester")
        self._crew = Crew()
        self._arrived = threading.Condition()
        self._replies: list[ExpertReply] = []
        self._listener = Listener(
            self._crew,
            "127.0.0.1",
            desk.ports.tester,
            lambda hello: "",
            self._take,
            lambda *_: None,
            self.security.listen,
        )
        self._crew.start("tester", self._listener.work)
        self._port = desk.ports.data

    def _take(self, peer: str, frame: Frame, received_s: float) -> None:
        with self._arrived:
            if isinstance(frame, ExpertReply):
                self._replies.append(frame)
            self._arrived.notify_all()

    def ask(self, call: ExpertCall, timeout_s: float = 120.0) -> ExpertReply:
        assert self.security.dial is not None
        with connect(("127.0.0.1", self._port), self.security.dial, "orin", 30.0) as sock:
            sock.sendall(encode_frame(Hello("tester", RUN, "boot-tester", offer=self.security.offer)))
            sock.sendall(encode_frame(call))
            with self._arrived:
                assert self._arrived.wait_for(lambda: bool(self._replies), timeout_s), "no reply came"
                return self._replies.pop()

    def close(self) -> None:
        self._listener.close()
        self._crew.dismiss()


def _order(desk: Desk, tester: PeerOfTheBoard) -> tuple[Prepare, ShardStore]:
    """The board is told to hold two experts; the plan's other parts are not used here."""
    store = ShardStore(desk.shards)
    data = flat_schedule(("orin", "tester"))
    address, port = peer_address(1)
    peers = (
        Peer("orin", f"{GUEST_ADDRESS}:{GUEST_DATA_PORT}", b""),
        Peer("tester", f"{address}:{port}", tester.security.offer),
    )
    order = Prepare(
        run=RUN, peers=peers, manifest_sha256=manifest_hash(store.manifest), trunk_layers=(),
        experts=tuple(ExpertHolding(LAYER, expert, "int8") for expert in EXPERTS), schedule=data,
        schedule_sha256=hashlib.sha256(data).hexdigest(), satellites={"orin": "orin", "tester": "tester"},
        delay_scale=1.0, hidden_codec="fp32", expert_timeout_s=60.0,
        plan=plain_plan(store.manifest, ("orin", "tester"), copies=1),
    )  # fmt: skip
    return order, store


def _upgrade(desk: Desk, first: str) -> None:
    """Over the serial console: to a version that works, and to one that passes its self-test and does not start."""
    good = version(desk.home, "good", "node_agent/__init__.py", "# a later version")
    desk.hil("provision", "orin", "--upgrade", "--agent", str(good))
    dead = version(desk.home, "dead", "node_agent/service.py", "raise RuntimeError('does not start')")
    words = ["provision", "orin", "--upgrade", "--agent", str(dead), "--join-timeout", "60"]
    assert run([*words, "--bench", str(desk.bench_file)]) == 6
    done = sorted(_receipts(desk, "upgrade"), key=lambda one: str(one["ended"]))
    assert [one["outcome"] for one in done] == ["switched", "rolled back"]
    assert (done[0]["before"], done[1]["now"]) == (first, done[0]["now"])
    assert done[1]["boot_id"] not in ("", done[0]["boot_id"]), "the agent that worked was started again"


CAMPAIGN = """\
campaign: emulated
model: {checkpoint: reference, precision: int8, trunk_slices: 2, replicas: 1, hidden_codec: fp16}
orbit:
  elements: demo
  satellites: [STARLINK-2617, STARLINK-1364]
  epoch_utc: 2024-10-21T08:20:00Z
  duration_s: 200
  rate: 1
twin:
  start: [{temperature_c: 40, charge: 0.9}, {temperature_c: 40, charge: 0.9}]
  platform: {preset: 12u-bupt1}
workload: {prompts: reference, concurrency: 1, max_new_tokens: 3, requests: 1}
control: {tick_s: 1, plan_ttl_s: 60, expert_timeout_s: 60, token_timeout_s: 150}
"""


def _campaign(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A run over the virtual board and a process of this machine: tokens go through both, in both directions."""
    file, folder = desk.home / "campaign.yaml", desk.home / "run"
    file.write_text(CAMPAIGN)
    capsys.readouterr()
    assert run(["campaign", "run", str(desk.bench_file), str(file), "--out", str(folder), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["tokens"] == 3
    assert metrics["records_missing"] == {}
    assert metrics["lost_nodes"] == [], desk.broker_log()[-2000:]
    assert min(node["expert_rows"] for node in metrics["nodes"]) > 0
    assert metrics["sources"]["token and frame times"].startswith("fake("), "an emulator's times are no board's"
    assert (folder / "report.html").exists()
    assert run(["campaign", "replay", str(folder)]) == 0


def test_from_nothing_to_serving_and_back_after_a_power_cut(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.hil("flash", "orin", "--image", desk.image, "--yes", str(desk.home / "orin.img"))
    desk.hil("firstboot", "orin", "--shards", str(desk.shards), "--trust", str(desk.home / "model.pub"))
    assert _receipts(desk, "flash")[0]["verified"] is True
    token = json.loads((desk.identity / "tokens" / "orin.json").read_text())["token"]

    desk.hil("power", "orin", "on")
    for words in (
        ["firstboot", "orin"],
        ["flash", "orin", "--image", desk.image, "--yes", str(desk.home / "orin.img")],
    ):
        assert run([*words, "--bench", str(desk.bench_file)]) == 11, "its disk is in use"
    desk.hil("provision", "orin")
    assert ", k30, u'orin'" in desk.broker_log(), "emulated, it may take long to answer"
    first = _receipts(desk, "provision")[0]
    assert "enrolled" in first["changed"] and first["boot_id"]
    desk.hil("provision", "orin")
    assert _receipts(desk, "provision")[1]["changed"] == [], "a second time there is nothing to do"
    _upgrade(desk, first["found"]["slot"])

    tester = PeerOfTheBoard(desk)
    epoch = int(time.time())
    orders = OrderDesk(Signer(desk.identity / x509.COMMAND_KEY_FILE, epoch))
    fleet = MqttFleet("lab", epoch, Inbox(), identity_files(desk.identity / "ground"), orders)
    try:
        fleet.start("127.0.0.1", desk.ports.broker)
        fleet.wait_online(("orin",), 60.0)
        order, store = _order(desk, tester)
        fleet.order(("orin",), {"orin": order}, 240.0)
        width = store.manifest.model.hidden
        hidden = np.random.default_rng(5).standard_normal((2, width)).astype(np.float32)
        experts = np.array([EXPERTS, EXPERTS[::-1]], np.int16)
        weights = np.array([[0.7, 0.3], [0.6, 0.4]], np.float32)
        reply = tester.ask(ExpertCall(1, 1, LAYER, 2, width, 2, experts, weights, hidden))
        native = ExpertBank(store, order.experts).partial_sum(LAYER, hidden, experts, weights).total
        np.testing.assert_allclose(reply.hidden, native, rtol=0, atol=2e-3 * float(np.abs(native).max()))
    finally:
        fleet.stop()
        tester.close()

    capsys.readouterr()
    desk.hil("power", "orin", "cycle", "--json")
    proof = json.loads(capsys.readouterr().out)["boards"][0]["result"]
    assert proof["proved"] is True
    assert {one["witness"]: one["verdict"] for one in proof["evidence"]} == {"console": "silent", "broker": "silent"}
    assert proof["boot_id"] and proof["boot_id"] != first["boot_id"], "another boot"

    _campaign(desk, capsys)

    desk.hil("power", "orin", "off")
    told = "\n".join(path.read_text(errors="replace") for path in (State(desk.bench_file).folder).rglob("*.log"))
    for path in (State(desk.bench_file).folder / "receipts").iterdir():
        told += path.read_text()
    assert "hil-firstboot: done" in told
    for secret in (token, "only-for-this-test"):
        assert secret not in told
    left = (desk.home / "orin.img").read_bytes()[1 << 20 : 97 << 20]
    assert token.encode() not in left, "the token is still on the boot partition"
