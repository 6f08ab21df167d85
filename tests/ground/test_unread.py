"""What a board says and nobody can read is recorded under its name, and told where a person looks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console

from firmware_tools.broker_watch import BrokerWatch
from ground_controller import stage
from ground_controller.fleet.mqtt import MqttFleet, NotOnline
from ground_controller.inbox import Arrival, Inbox
from ground_controller.journal import Entry, Journal
from ground_controller.live.follower import Follower
from ground_controller.preparation import prepare
from ground_controller.report.metrics import measure
from ground_controller.report.terminal import summary_rows
from ground_controller.simulation.run import simulate
from ground_controller.unread import unread
from ground_controller.verification.verify import verify_run
from hil_config.errors import LinkError
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import Ping
from tests.conftest import Address

BENCH = "unread"
WAIT_S = 20.0
LATER = b'{"node":"alpha","boot_id":"b","state":"online","mood":"good"}'
"""A status of a release that this one does not know."""


class Heard(Inbox):
    """An inbox that can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self.came: Queue[Arrival] = Queue()

    def put(self, arrival: Arrival) -> None:
        super().put(arrival)
        self.came.put(arrival)

    def next(self, kind: str) -> Arrival:
        while (found := self.came.get(timeout=WAIT_S)).kind != kind:
            pass
        return found


@pytest.fixture
def inbox() -> Heard:
    return Heard()


@pytest.fixture
def fleet(broker: Address, inbox: Heard) -> Iterator[MqttFleet]:
    one = MqttFleet(BENCH, 1, inbox)
    one.start(broker.host, broker.port)
    yield one
    one.stop()


class Say:
    """Says over MQTT what boards say; what was retained is taken back in the end."""

    def __init__(self, broker: Address) -> None:
        self._kept: list[str] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._listening: Queue[int] = Queue()
        self._client.on_subscribe = lambda client, user, mid, reasons, properties: self._listening.put(mid)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def __call__(self, node: str, row: topics.Topic, data: bytes) -> None:
        topic = topics.address(BENCH, node, row)
        self._client.publish(topic, data, 1, row.retained).wait_for_publish(WAIT_S)
        if row.retained:
            self._kept.append(topic)

    def answers(self, node: str, data: bytes) -> None:
        """From now on a board answers every order so."""
        topic = topics.address(BENCH, node, topics.REPLY)

        def answer(client: mqtt.Client, user: object, message: mqtt.MQTTMessage) -> None:
            client.publish(topic, data, 1)

        self._client.on_message = answer
        self._client.subscribe(topics.address(BENCH, node, topics.COMMAND), 1)
        self._listening.get(timeout=WAIT_S)

    def close(self) -> None:
        for topic in self._kept:
            self._client.publish(topic, b"", 1, True).wait_for_publish(WAIT_S)
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def say(broker: Address) -> Iterator[Say]:
    one = Say(broker)
    yield one
    one.close()


def test_a_board_whose_status_cannot_be_read_is_not_one_that_says_nothing(
    broker: Address, fleet: MqttFleet, inbox: Heard, say: Say
) -> None:
    with pytest.raises(NotOnline, match=r"no word from node alpha, bravo within 30 s\n") as silent:
        fleet.wait_online(("alpha", "bravo"), 0.01, 30.0)
    assert "doctor" in silent.value.hint
    say("alpha", topics.STATUS, LATER)
    found = inbox.next("bad_message")
    assert (found.node, found.seq) == ("alpha", 0)
    reason = msgspec.json.decode(found.body, type=str)
    assert reason.startswith("hil/v1/unread/alpha/status: Status: Object contains unknown field `mood`")
    with pytest.raises(NotOnline, match=r"within 30 s; what came of it cannot be read: .*mood") as told:
        fleet.wait_online(("alpha", "bravo"), 0.01, 30.0)
    assert "hil provision BOARD --upgrade" in told.value.hint
    with BrokerWatch(BENCH, broker.host, broker.port, None) as watch:
        with pytest.raises(LinkError, match=r"\(never heard of; what it says now cannot be read: Status: .*mood"):
            watch.wait_online("alpha", 3.0)
        say("alpha", topics.STATUS, m.encode(m.Status(node="alpha", boot_id="b", state="online")))
        assert watch.wait_online("alpha", WAIT_S).boot_id == "b"
        with pytest.raises(LinkError, match=r"\(last heard: online, boot b\)"):
            watch.wait_offline("alpha", 0.05)
    fleet.wait_online(("alpha",), WAIT_S)


def test_a_run_says_how_long_it_waited_in_all(
    fleet: MqttFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks twice a second whether an agent of its own has ended."""
    monkeypatch.setattr(stage, "ONLINE_S", 1.0)
    waiting = stage.Stage(prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign"))), tmp_path)
    with pytest.raises(NotOnline, match=r"no word from node alpha, bravo, charlie, delta within 1 s\n"):
        waiting._wait_online(fleet)


def test_an_answer_that_cannot_be_read_is_told_instead_of_none(fleet: MqttFleet, inbox: Heard, say: Say) -> None:
    say("alpha", topics.REPLY, b"[]")
    inbox.next("bad_message")
    with pytest.raises(LinkError, match=r"node alpha did not answer within 0 s\n") as silent:
        fleet.order(("alpha",), {"alpha": Ping()}, 0.05)
    assert "<node>.log" in silent.value.hint, "what came before the order is no answer to it"
    say.answers("alpha", b'{"v":7}')
    with pytest.raises(LinkError, match=r"did not answer within 2 s; what came of it cannot be read: .*alpha/rsp"):
        fleet.order(("alpha",), {"alpha": Ping()}, 2.0)


def test_whose_word_it_was_and_that_nothing_was_said(fleet: MqttFleet, inbox: Heard, say: Say) -> None:
    say("alpha", topics.STATUS, m.encode(m.Status(node="bravo", boot_id="b", state="online")))
    assert b"alpha/status: speaks for node 'bravo'" in (found := inbox.next("bad_message")).body
    assert found.node == "alpha" and "bravo" not in fleet.statuses
    say("alpha", topics.STATUS, b"")
    say("bravo", topics.STATUS, m.encode(m.Status(node="bravo", boot_id="b", state="online")))
    fleet.wait_online(("bravo",), WAIT_S)
    assert inbox.came.get(timeout=WAIT_S).kind == "status", "a retained message that is taken back is no message"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run, in whose record a board said three times what could not be read, and a stranger once."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 40.0})})
    folder = tmp_path_factory.mktemp("unread") / "run"
    simulate(prepare(load_bench(default_path("bench")), intent), folder)
    journal = Journal.reopen(folder)
    for node, why in (("bravo", "one"), ("bravo", "one"), ("bravo", "two"), ("stranger", "three")):
        journal.commit([Entry(9, 40.0, *unread(node, why)[:6])])
    journal.close()
    return folder


def test_the_record_tells_which_board_it_was(run: Path) -> None:
    follower = Follower.open(run)
    assert follower is not None
    while follower.read():
        pass
    now = follower.now()
    assert now is not None
    told = [(e.weight, e.node, e.what, e.cause) for e in now.events if "could not be read" in e.what]
    what = "a message could not be read"
    assert told == [("bad", "bravo", what, "one"), ("bad", "bravo", what, "two"), ("bad", "stranger", what, "three")]
    follower.close()
    check = next(one for one in verify_run(run) if one.name == "messages")
    assert (check.outcome, check.figure) == ("fail", "3 could not be read")
    assert check.where == "bravo: 3, the last two" and "--upgrade" in check.hint


def test_the_report_tells_how_many(run: Path) -> None:
    found = measure(run)
    assert found.messages_unread == {"bravo": 3}
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(dict(summary_rows(found))["records"])
    assert "3 messages of bravo COULD NOT BE READ" in capture.get()
