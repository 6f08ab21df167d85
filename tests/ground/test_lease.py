"""One controller a bench: the lease at a real broker, taken, kept up, lost, contested."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ground_controller.fleet.lease import BEAT_S, SILENT_BEATS, BenchLease
from hil_config.errors import HilError, LinkError, SafetyRefusal
from hil_config.wire import messages as m
from hil_config.wire import topics
from tests.conftest import Address, _free_port

WAIT_S = 10.0
Take = Callable[..., BenchLease]
HOLD = """
import sys, threading
from ground_controller.fleet.lease import BenchLease
lease = BenchLease(sys.argv[1], ("127.0.0.1", int(sys.argv[2])), "the-first", alone=True)
print(lease.take(int(sys.argv[3])), flush=True)
threading.Event().wait()
"""


class Bench:
    """A bench's name at the session's broker, and the leases that a test takes of it."""

    def __init__(self, broker: Address) -> None:
        self.name = f"lease-{uuid.uuid4().hex[:8]}"
        self.broker = broker
        self._open: list[BenchLease] = []
        self._holders: list[subprocess.Popen[str]] = []

    def lease(self, run: str, alone: bool = False) -> BenchLease:
        self._open.append(BenchLease(self.name, self.broker, run, alone=alone))
        return self._open[-1]

    def holder(self, above: int = 0) -> subprocess.Popen[str]:
        """A process that holds the bench."""
        command = [sys.executable, "-c", HOLD, self.name, str(self.broker.port), str(above)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self._holders.append(process)
        assert process.stdout is not None and process.stdout.readline() == f"{above + 1}\n"
        return process

    def publish(self, row: topics.Topic, name: str, body: m.Status | m.Lease) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.connect(*self.broker)
        client.loop_start()
        client.publish(topics.address(self.name, name, row), m.encode(body), 1, True).wait_for_publish(WAIT_S)
        client.disconnect()
        client.loop_stop()

    def close(self) -> None:
        for lease in self._open:
            lease.release()
        for process in self._holders:
            process.kill()
            process.wait(WAIT_S)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def bench(broker: Address) -> Iterator[Bench]:
    made = Bench(broker)
    yield made
    made.close()


def _held(**changes: object) -> m.Lease:
    fields: dict[str, object] = {
        "holder": "dead", "epoch": 41, "state": "held", "run": "old", "host": "lab", "pid": 7,
        "since_utc": "2026-01-02T03:04:05Z", "beat_s": 0.2, "beat": 9, **changes,
    }  # fmt: skip
    return m.Lease(**fields)  # type: ignore[arg-type]


def test_each_holder_has_a_higher_epoch_than_the_one_before(bench: Bench) -> None:
    first = bench.lease("a", alone=True)
    assert first.take(0) == 1
    first.release()
    second = bench.lease("b")
    begin_s = time.monotonic()
    assert second.take(0) == 2
    assert time.monotonic() - begin_s < SILENT_BEATS * BEAT_S, "a lease that was released is free at once"
    second.release()
    assert bench.lease("c").take(17) == 18


def test_what_agents_report_is_surpassed_also_later(bench: Bench) -> None:
    bench.publish(topics.STATUS, "alpha", m.Status(node="alpha", boot_id="b", state="online", epoch=30))
    lease = bench.lease("a")
    assert lease.take(3) == 31
    assert lease.rise(30) == 31
    assert lease.rise(31) == 32, "an agent that obeyed this number obeyed somebody else"
    with pytest.raises(SafetyRefusal, match="with epoch 32"):
        bench.lease("b").take(0)


def test_a_second_controller_is_told_who_holds_the_bench_and_since_when(bench: Bench) -> None:
    holder = bench.holder(above=6)
    for take_over in (False, True):  # of a living one nothing is taken over
        with pytest.raises(SafetyRefusal) as refused:
            bench.lease("b").take(0, take_over)
        text = refused.value.message
        assert f"is commanded by run the-first (process {holder.pid} on " in text and "with epoch 7" in text
        assert ", since 20" in text and refused.value.exit_code == 11


def test_a_killed_holder_makes_room_by_itself_and_one_that_stands_still_only_when_told(bench: Bench) -> None:
    bench.holder().kill()
    assert bench.lease("b").take(0) == 2  # its will was published, and it is silent
    bench._open[-1].release()
    holder = bench.holder(above=2)
    holder.send_signal(signal.SIGSTOP)  # its connection stands, so there is no will
    try:
        with pytest.raises(SafetyRefusal, match=r"was not heard for 3 s\n  hint: .*--take-over"):
            bench.lease("c").take(0)
        after = bench.lease("d")
        assert after.take(0, take_over=True) == 4
    finally:
        holder.send_signal(signal.SIGCONT)
    pause = threading.Event()
    pause.wait(2.5 * BEAT_S)
    after.check()  # the one that woke up saw who is in command
    with pytest.raises(SafetyRefusal, match="with epoch 4"):
        bench.lease("e").take(0)


def test_whoever_is_overtaken_learns_it(bench: Bench) -> None:
    first = bench.lease("a", alone=True)
    first.take(0)
    bench.publish(topics.LEASE, "ground", _held(epoch=41, beat=1))
    with pytest.raises(SafetyRefusal, match=r"run old \(process 7 on lab\) has taken command with epoch 41"):
        _until_refused(first)


def _until_refused(lease: BenchLease) -> None:
    deadline, pause = time.monotonic() + WAIT_S, threading.Event()
    while time.monotonic() < deadline:
        lease.check()
        pause.wait(0.02)


def test_of_controllers_that_start_at_the_same_time_one_gets_the_bench(bench: Bench) -> None:
    gate, lock = threading.Barrier(4), threading.Lock()
    got: list[int] = []
    refused: list[str] = []

    def start(lease: BenchLease) -> None:
        gate.wait(WAIT_S)
        try:
            epoch = lease.take(0)
            with lock:
                got.append(epoch)
        except HilError as error:
            with lock:
                refused.append(error.message)

    bench.publish(topics.LEASE, "ground", _held(state="released"))
    for _ in range(3):
        got.clear()
        refused.clear()
        leases = [bench.lease(f"run-{n}") for n in range(4)]
        threads = [threading.Thread(target=start, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * WAIT_S)
        assert len(got) == 1 and len(refused) == 3, (got, refused)
        assert all("is commanded by run run-" in text for text in refused)
        winner = next(lease for lease in leases if lease.epoch == got[0] and lease._held)
        threading.Event().wait(1.5 * BEAT_S)
        winner.check()
        winner.release()


class _Interrupted(BenchLease):
    """Between seeing that the lease is free and claiming it, `meanwhile` happens."""

    meanwhile: Callable[[], object] | None = None

    def _shut(self) -> None:
        super()._shut()
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()


@pytest.fixture
def newcomer(bench: Bench) -> _Interrupted:
    bench.publish(topics.LEASE, "ground", _held(state="released"))
    made = _Interrupted(bench.name, bench.broker, "newcomer")
    bench._open.append(made)
    return made


def test_a_quicker_claim_is_seen_although_the_will_of_one_that_was_refused_lies_over_it(
    bench: Bench, newcomer: _Interrupted
) -> None:
    def another() -> None:
        bench.publish(topics.LEASE, "ground", _held(holder="quick", epoch=42, beat=0))
        bench.publish(topics.LEASE, "ground", _held(holder="refused", epoch=42, beat=0, state="lost"))

    beats = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    topic = topics.address(bench.name, "ground", topics.LEASE)

    def beat(client: mqtt.Client, u: object, message: mqtt.MQTTMessage) -> None:
        if m.decode(bytes(message.payload), m.Lease).run == "newcomer":
            client.publish(topic, m.encode(_held(holder="quick", run="quick", epoch=42, beat=1)), 1, True)

    beats.on_message = beat
    beats.connect(*bench.broker)
    beats.loop_start()
    beats.subscribe(topic, 1)
    newcomer.meanwhile = another
    try:
        with pytest.raises(SafetyRefusal, match="is commanded by run quick"):
            newcomer.take(0)
    finally:
        beats.disconnect()
        beats.loop_stop()


def test_the_will_of_one_that_was_refused_keeps_nobody_out_and_a_holder_writes_it_over(
    bench: Bench, newcomer: _Interrupted
) -> None:
    will = _held(holder="refused", epoch=42, beat=0, state="lost")
    newcomer.meanwhile = lambda: bench.publish(topics.LEASE, "ground", will)
    assert newcomer.take(0) == 42
    bench.publish(topics.LEASE, "ground", will)
    with pytest.raises(SafetyRefusal, match="is commanded by run newcomer"):
        bench.lease("b").take(0)


def test_of_two_holders_with_one_number_the_lesser_name_gives_way(bench: Bench) -> None:
    first = bench.lease("a", alone=True)
    first.take(0)
    bench.publish(topics.LEASE, "ground", _held(holder="", epoch=1, beat=1))
    with pytest.raises(SafetyRefusal, match="is commanded by run a"):
        bench.lease("b").take(0)
    first.check()
    bench.publish(topics.LEASE, "ground", _held(holder="g", epoch=1, beat=1))
    with pytest.raises(SafetyRefusal, match=r"run old .* with epoch 1"):
        _until_refused(first)


def test_a_dead_lease_of_another_broker_restart_is_waited_for_and_no_broker_is_an_error(bench: Bench) -> None:
    bench.publish(topics.LEASE, "ground", _held(state="lost"))
    assert bench.lease("a").take(0) == 42
    nowhere = BenchLease(bench.name, ("127.0.0.1", _free_port()), "x")
    with pytest.raises(LinkError, match="broker 127"):
        nowhere.take(0)
