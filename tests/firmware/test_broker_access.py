"""A real Mosquitto with the generated access list: nobody hears or speaks for another board, and refusals are seen."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware_tools.broker import prepare_broker
from firmware_tools.broker_access import Access, render_acl
from firmware_tools.identity import Authority, make_command_key, read_certificate, write_identity
from hil_config.epoch_file import EpochFile
from hil_config.errors import ConfigError, EnvironmentFault, LinkError
from hil_config.signing import Signer
from hil_config.tls import BROKER, check_accepted, client_context, identity_files
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import Ping, Shutdown
from node_agent.config import AgentConfig, PowerModel
from node_agent.link.security import secure
from node_agent.mqtt_link import MqttLink, try_broker
from tests.conftest import Address, _free_port, serving

BOARDS = tuple(f"sat-{n}" for n in range(6))
NOT_AUTHORISED = 135
WAIT_S = 10.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("lab")


@pytest.fixture(scope="module")
def identities(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("identities")
    for name in (*BOARDS, "ground", "monitor", "revoked"):
        write_identity(home / name, authority.issue(name))
    write_identity(home / BROKER, authority.issue(BROKER, addresses=("127.0.0.1",)))
    serial = read_certificate((home / "revoked" / "certificate.pem").read_bytes()).serial
    (home / BROKER / "crl.pem").write_bytes(authority.revocations((serial,)))
    return home


@pytest.fixture(scope="module")
def secure_broker(identities: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    folder = tmp_path_factory.mktemp("broker")
    address = Address("127.0.0.1", _free_port())
    try:
        recipe = prepare_broker(address.port, folder, access=Access("lab", identities / BROKER))
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")
    with serving(recipe, address, folder):
        yield address


class Party:
    """One MQTT 5 client with a certificate; keeps what it heard and the reason code of all it said."""

    def __init__(self, name: str, identities: Path, at: Address) -> None:
        self.name = name
        self.heard: list[tuple[str, bytes]] = []
        self.codes: dict[int, int] = {}
        self._changed = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(client_context(identity_files(identities / name), BROKER))
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._client.on_subscribe = self._published
        self._client.connect(at.host, at.port)
        self._client.loop_start()

    def _message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, bytes(message.payload)))
            self._changed.notify_all()

    def _published(self, client: mqtt.Client, userdata: object, mid: int, reason: Any, properties: object) -> None:
        with self._changed:
            self.codes[mid] = (reason[0] if isinstance(reason, list) else reason).value
            self._changed.notify_all()

    def _code(self, mid: int) -> int:
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self.codes, WAIT_S), f"{self.name}: no answer from the broker"
            return self.codes[mid]

    def say(self, topic: str, payload: bytes = b"") -> int:
        return self._code(self._client.publish(topic, payload or self.name.encode(), qos=1).mid)

    def listen(self, topic: str) -> int:
        mid = self._client.subscribe(topic, qos=1)[1]
        assert mid is not None
        return self._code(mid)

    def wait_heard(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, WAIT_S), f"{self.name}: {self.heard}"

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_the_matrix_of_boards_has_no_cross_delivery_and_every_refusal_is_seen(
    secure_broker: Address, identities: Path
) -> None:
    parties = {name: Party(name, identities, secure_broker) for name in (*BOARDS, "ground")}
    try:
        for name in BOARDS:  # everybody tries to hear everything of everybody
            parties[name].listen("hil/v1/lab/#")
            for other in BOARDS:
                parties[name].listen(topics.address("lab", other, topics.COMMAND))
        for row in topics.TABLE:
            if row.writer == "node":
                parties["ground"].listen(topics.address("lab", "+", row))
        for row in topics.TABLE:
            for speaker in BOARDS:
                for owner in BOARDS:
                    code = parties[speaker].say(topics.address("lab", owner, row))
                    allowed = speaker == owner and row.writer == "node"
                    # 16: taken, though nobody listens to it
                    assert code in ((0, 16) if allowed else (NOT_AUTHORISED,)), (speaker, owner, row.suffix)
        commands = [topics.address("lab", owner, topics.COMMAND) for owner in BOARDS]
        for topic in commands:
            assert parties["ground"].say(topic) == 0
        assert parties["ground"].say(topics.address("lab", BOARDS[0], topics.STATUS)) == NOT_AUTHORISED
        written = sum(row.writer == "node" for row in topics.TABLE)
        parties["ground"].wait_heard(written * len(BOARDS))
        for name in BOARDS:
            parties[name].wait_heard(1)
    finally:
        for party in parties.values():
            party.stop()
    for topic, payload in parties["ground"].heard:
        assert topic.split("/")[3] == payload.decode(), "a board speaks in its own name only"
    for name in BOARDS:
        assert {topic for topic, _ in parties[name].heard} == {topics.address("lab", name, topics.COMMAND)}


def test_a_monitor_hears_all_and_says_nothing(secure_broker: Address, identities: Path) -> None:
    monitor, board = Party("monitor", identities, secure_broker), Party("sat-0", identities, secure_broker)
    try:
        monitor.listen("hil/v1/lab/#")
        assert board.say(topics.address("lab", "sat-0", topics.EVENT)) == 0
        monitor.wait_heard(1)
        assert monitor.say(topics.address("lab", "sat-0", topics.COMMAND)) == NOT_AUTHORISED
    finally:
        monitor.stop()
        board.stop()


def _refused(context: ssl.SSLContext, at: Address) -> str:
    """What a party is told by the broker, in our words."""
    with pytest.raises(LinkError) as refusal:
        check_accepted(at, context)
    return refusal.value.message


def _shows(folder: Path) -> ssl.SSLContext:
    return client_context(identity_files(folder), BROKER)


def test_rogue_and_revoked_parties_are_told_why(secure_broker: Address, identities: Path, tmp_path: Path) -> None:
    assert _refused(_shows(identities / "revoked"), secure_broker) == "it refused our certificate: revoked"
    rogue = Authority.create("other")
    write_identity(tmp_path / "rogue", rogue.issue("sat-0"))
    assert _refused(_shows(tmp_path / "rogue"), secure_broker) == "its certificate is not from this bench's authority"
    trusting = tmp_path / "trusting"  # believes the real authority, but shows a certificate of another
    write_identity(trusting, rogue.issue("sat-0"))
    (trusting / "ca.pem").write_bytes((identities / BROKER / "ca.pem").read_bytes())
    assert _refused(_shows(trusting), secure_broker) == "it refused our certificate: not from its bench's authority"
    bare = ssl.create_default_context(cafile=str(identities / BROKER / "ca.pem"))
    bare.check_hostname = False
    assert _refused(bare, secure_broker) == "it refused us: we showed no certificate"


def _config(folder: Path, at: Address, tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        node="sat-0", bench="lab", broker_host=at.host, broker_port=at.port, data_host="127.0.0.1", data_port=0,
        shards=str(tmp_path), spool=str(tmp_path), power_model=PowerModel("x", 1.0, 1.0, 1, 1.0),
        tls=identity_files(folder),
    )  # fmt: skip


def _start(folder: Path, at: Address, tmp_path: Path) -> None:
    link = MqttLink(
        _config(folder, at, tmp_path),
        "boot",
        lambda: pytest.fail("connected"),
        lambda row, message: None,
        EpochFile(tmp_path / "epoch"),
    )
    link.start()


def test_an_agent_says_what_is_wrong_with_certificates(
    secure_broker: Address, identities: Path, authority: Authority, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc)
    write_identity(tmp_path / "old", authority.issue("sat-0", days=1, now=now - timedelta(days=9)))
    with pytest.raises(ConfigError, match=r"certificate\.pem: ended on .*, today is"):
        _start(tmp_path / "old", secure_broker, tmp_path)
    write_identity(tmp_path / "early", authority.issue("sat-0", now=now + timedelta(days=9)))
    with pytest.raises(EnvironmentFault, match="begins on"):  # a clock that comes right is no error of the files
        _start(tmp_path / "early", secure_broker, tmp_path)
    with pytest.raises(ConfigError, match=r"absent/certificate\.pem: cannot be read"):
        _start(tmp_path / "absent", secure_broker, tmp_path)
    write_identity(tmp_path / "rogue", Authority.create("other").issue("sat-0"))
    with pytest.raises(LinkError, match="its certificate is not from this bench's authority"):
        _start(tmp_path / "rogue", secure_broker, tmp_path)
    with pytest.raises(LinkError, match="it refused our certificate: revoked"):
        _start(identities / "revoked", secure_broker, tmp_path)


def test_an_agent_takes_signed_orders_only(secure_broker: Address, identities: Path, tmp_path: Path) -> None:
    private, public = make_command_key()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "pub").write_bytes(public)
    config = msgspec.structs.replace(
        _config(identities / "sat-0", secure_broker, tmp_path), command_key=str(tmp_path / "pub")
    )
    taken: Queue[msgspec.Struct] = Queue()
    status = m.Status(node="sat-0", boot_id="boot-1", state="online")
    link = MqttLink(
        config, "boot-1", lambda: status, lambda row, message: taken.put(message), EpochFile(tmp_path / "epoch")
    )
    ground = Party("ground", identities, secure_broker)
    topic, signer = topics.address("lab", "sat-0", topics.COMMAND), Signer(tmp_path / "key", 3)
    shutdown = m.Command(id="1", epoch=3, body=Shutdown())
    order = signer.sign(topics.COMMAND, "sat-0", "boot-1", shutdown, time.monotonic_ns() + 60 * 10**9)
    late = signer.sign(topics.COMMAND, "sat-0", "boot-1", shutdown, time.monotonic_ns() - 1)
    ping = m.Command(id="2", epoch=3, body=Ping())
    try:
        link.start()
        ground.listen(topics.address("lab", "sat-0", topics.STATUS))
        ground.wait_heard(1)  # it has subscribed, and said so
        for payload in (m.encode(shutdown), order, order, late, order[:-9]):
            assert ground.say(topic, payload) == 0
        assert ground.say(topic, signer.sign(topics.COMMAND, "sat-0", "boot-1", ping, 0)) == 0
        assert [taken.get(timeout=WAIT_S), taken.get(timeout=WAIT_S)] == [shutdown, ping]
        assert taken.empty() and link.bad_messages == 4
    finally:
        link.stop()
        ground.stop()


def test_a_self_test_finds_out_whether_the_broker_takes_what_it_says(
    secure_broker: Address, identities: Path, tmp_path: Path
) -> None:
    """A wrong bench can connect and subscribe like any other."""
    config = _config(identities / "sat-0", secure_broker, tmp_path)
    ground = Party("ground", identities, secure_broker)
    try:
        ground.listen("hil/v1/lab/sat-0/rsp")
        try_broker(config)
        with pytest.raises(LinkError, match="takes nothing of this node: Not authorized"):
            try_broker(msgspec.structs.replace(config, bench="other"))
        ground.wait_heard(1)
        (only,) = ground.heard
    finally:
        ground.stop()
    assert only[0] == "hil/v1/lab/sat-0/rsp" and m.decode(only[1], m.CommandReply).id == "self-test"


def test_an_agent_with_the_certificate_of_another_node_does_not_start(identities: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"certificate\.pem is of 'sat-0', node is 'sat-1'"):
        secure(identity_files(identities / "sat-0"), "sat-1", "boot")


def test_a_board_cannot_pose_as_the_broker(identities: Path, tmp_path: Path) -> None:
    at = Address("127.0.0.1", _free_port())
    try:
        recipe = prepare_broker(at.port, tmp_path / "b", access=Access("lab", identities / "sat-1"))
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")
    with serving(recipe, at, tmp_path), pytest.raises(LinkError, match="its certificate is for another name"):
        _start(identities / "sat-0", at, tmp_path)


def test_the_acl_is_the_table_of_topics() -> None:
    text = render_acl("lab")
    assert "pattern write hil/v1/lab/%u/tele/power" in text and "pattern read hil/v1/lab/%u/cmd" in text
    assert text.count("pattern ") == len(topics.TABLE)


def test_a_broker_without_identity_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem: the broker has no such file"):
        prepare_broker(1883, tmp_path, access=Access("lab", tmp_path))
