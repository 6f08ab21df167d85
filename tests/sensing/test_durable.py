"""Telemetry from node to journal through a real broker that dies, and over the death of the agent itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.light_agents import BENCH, LightAgent
from benchmarks.telemetry import KilledBroker, load
from ground_controller.admission import Refused
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from ground_controller.journal import Entry, Journal
from hil_config.errors import EnvironmentFault
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.spool_file import segment_name
from node_agent.crew import Crew
from node_agent.evidence import left_spools, open_spool


class Ground:
    """Inbox, journal and watermarks; `tick` is one control step."""

    def __init__(self, folder: Path, port: int) -> None:
        self._inbox, self.journal = Inbox(), Journal.create(folder)
        self._fleet = MqttFleet(BENCH, 1, self._inbox)
        self._fleet.start("127.0.0.1", port)

    def tick(self) -> None:
        self.journal.commit([Entry(0, 0.0, *arrival[:6]) for arrival in self._inbox.drain() if arrival.seq])
        for (node, boot_id), seq in self.journal.watermarks().items():
            self._fleet.publish(node, topics.WATERMARK, m.Watermark(node=node, boot_id=boot_id, seq=seq))

    def until(self, done: Callable[[], bool], timeout_s: float = 30.0) -> None:
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while not done():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self.journal.watermarks()}"
            self.tick()
            pause.wait(0.05)

    def seqs(self, boot_id: str) -> list[int]:
        return sorted(e.seq for e in self.journal.entries() if e.boot_id == boot_id)

    def close(self) -> None:
        self._fleet.stop()
        self.journal.close()


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[KilledBroker]:
    try:
        broker = KilledBroker(tmp_path / "broker")
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")
    yield broker
    broker.stop()


@pytest.fixture
def ground(tmp_path: Path, killable: KilledBroker) -> Iterator[Ground]:
    made = Ground(tmp_path / "run", killable.port)
    yield made
    made.close()


def test_nothing_is_lost_or_counted_twice_when_the_broker_is_killed() -> None:
    try:
        outcome = load(8, 10.0, 60, 1, kills=3)
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")
    assert (outcome.numbered, outcome.committed, outcome.missing) == (480, 480, 0)


def test_what_a_dead_agent_left_is_handed_in_by_the_next(
    tmp_path: Path, killable: KilledBroker, ground: Ground
) -> None:
    """Twenty starts that each write and die without a goodbye: nothing is lost, nothing comes twice."""
    spool, written = tmp_path / "spool", {}
    for start in range(20):
        crew = Crew()
        agent = LightAgent(spool, killable.port, "alpha", f"boot{start:02d}", crew)
        for _ in range(5):
            agent.sample()
        written[f"boot{start:02d}"] = 5
        crew.dismiss()  # its threads end; its spool is not closed and nothing waits for the ground
        agent.link.stop()
    crew = Crew()
    last = LightAgent(spool, killable.port, "alpha", "last", crew)
    last.sample()
    ground.until(lambda: not last.evidence.waiting)
    assert {boot: ground.seqs(boot)[:5] for boot in written} == {boot: [1, 2, 3, 4, 5] for boot in written}
    assert ground.seqs("last") == [1] and ground.journal.gaps() == {} and ground.journal.shed() == {}
    last.link.stop()
    crew.dismiss()
    last.spool.close()
    assert not list(spool.iterdir()), "and the spools of the dead are gone"


def test_a_gap_is_known_by_number_and_the_watermark_passes_it(
    tmp_path: Path, killable: KilledBroker, ground: Ground
) -> None:
    crew = Crew()
    agent = LightAgent(tmp_path / "spool", killable.port, "alpha", "b", crew)
    agent.link.connected.clear()  # a partition: records wait
    agent.spool._max_bytes = 20_000
    for _ in range(1000):
        agent.sample()
    assert agent.spool.shed_records > 500
    agent.link.connected.set()
    ground.until(lambda: not agent.evidence.waiting)
    assert ground.journal.watermarks()["alpha", "b"] == agent.spool.last_seq
    assert ground.journal.shed()["alpha", "b"] == agent.spool.last_seq - len(ground.seqs("b"))
    assert ground.journal.gaps() == {}, "every missing number is explained"
    agent.link.stop()
    crew.dismiss()
    agent.spool.close()


def test_what_is_not_believed_is_kept_and_holds_nothing_up(
    tmp_path: Path, killable: KilledBroker, ground: Ground
) -> None:
    """A record of a later release, and one that cannot be true: committed as refused, so that the node goes on."""
    crew = Crew()
    agent = LightAgent(tmp_path / "spool", killable.port, "alpha", "b", crew)
    later: list[bytes] = []

    def of_a_later_release(seq: int) -> bytes:
        body = m.Record(node="alpha", boot_id="b", seq=seq, mono_ns=1, wall_ns=1, body=m.NodeEvent("New", 1))
        later.append(m.encode(body)[:-1] + b',"novelty":{"of":1}}')
        return later[-1]

    agent.sample()
    agent.spool.append(of_a_later_release)
    agent.evidence.put(m.SampleBatch((1, 2), {"power_w": (4.9,)}))
    agent.sample()
    ground.until(lambda: not agent.evidence.waiting)
    kinds = {entry.seq: entry.kind for entry in ground.journal.entries()}
    assert kinds == {1: "samples", 2: "refused", 3: "refused", 4: "samples"}
    assert ground.journal.refused() == {("alpha", "b"): 2} and ground.journal.gaps() == {}
    told = [msgspec.json.decode(entry.body, type=Refused) for entry in ground.journal.entries("refused")]
    assert told[0].record == later[0] and "novelty" in told[0].reason
    assert told[1].reason == "1 values of power_w at 2 instants"
    agent.link.stop()
    crew.dismiss()
    agent.spool.close()


def test_a_second_controller_starts_where_the_first_one_ended(tmp_path: Path, killable: KilledBroker) -> None:
    crew = Crew()
    agent = LightAgent(tmp_path / "spool", killable.port, "alpha", "b", crew)
    first = Ground(tmp_path / "first", killable.port)
    for _ in range(7):
        agent.sample()
    first.until(lambda: not agent.evidence.waiting)
    first.close()
    second = Ground(tmp_path / "second", killable.port)
    agent.evidence.new_run(2)
    agent.sample()
    second.until(lambda: not agent.evidence.waiting)
    assert second.seqs("b") == [8, 9] and second.journal.watermarks()["alpha", "b"] == 9
    second.close()
    agent.link.stop()
    crew.dismiss()
    agent.spool.close()


def test_what_a_dead_agent_left_and_a_dead_controller_took_half_of(tmp_path: Path, killable: KilledBroker) -> None:
    crew = Crew()
    dead = LightAgent(tmp_path / "spool", killable.port, "alpha", "dead", crew)
    for _ in range(7):
        dead.sample()
    crew.dismiss()
    dead.link.stop()
    crew = Crew()
    agent = LightAgent(tmp_path / "spool", killable.port, "alpha", "b", crew)
    agent.evidence.committed(m.Watermark(node="alpha", boot_id="dead", seq=4))  # of a controller that is gone then
    second = Ground(tmp_path / "second", killable.port)
    agent.evidence.new_run(2)
    second.until(lambda: not agent.evidence.waiting)
    assert {5, 6, 7} <= set(second.seqs("dead")) and second.journal.watermarks()["alpha", "dead"] == 8
    assert second.journal.gaps() == {}, "every missing number is explained"
    second.close()
    agent.link.stop()
    crew.dismiss()
    agent.spool.close()


def test_what_cannot_be_read_now_is_not_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "alpha-dead"
    (folder / segment_name(1)).mkdir(parents=True)  # opens, and every read of it fails
    assert left_spools(tmp_path, "alpha", "now", 100_000) == []
    assert (folder / segment_name(1)).exists(), "a card may be well again at the next start"
    (folder / segment_name(1)).rmdir()
    assert left_spools(tmp_path, "alpha", "now", 100_000) == [] and not folder.exists()


def test_what_many_starts_left_has_the_room_of_one(tmp_path: Path) -> None:
    """Each night off, and nobody takes the evidence."""
    for start in range(6):
        spool = open_spool(tmp_path, "alpha", f"boot{start}", 50_000)
        for n in range(100):
            spool.append(lambda seq: b"%0400d" % seq, low=n % 2 == 0)
        spool.close()
        for path in spool.folder.iterdir():
            os.utime(path, (start, start))
    left = left_spools(tmp_path, "alpha", "now", 100_000)
    assert [boot for boot, _ in left] == [f"boot{start}" for start in reversed(range(6))], "the newest first"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.spool")) < 110_000
    held = [len(spool.after(0, 200, 200)) for _, spool in left]
    assert held[:2] == [100, 100] and 1 < held[2] < 100 and held[3:] == [1, 1, 1]
    for _, spool in left[3:]:
        ((_, told),) = spool.gaps()
        gap = m.decode(told, m.Record).body
        assert isinstance(gap, m.Gap) and (gap.ranges, gap.reason) == (((1, 100),), "the spool was full")
    for _, spool in left:
        spool.close()


@pytest.mark.parametrize("ranges", [((1, 10**15),), ((-5, 3),), ((7, 2),), ()])
def test_a_gap_record_gives_up_nothing_above_itself(tmp_path: Path, ranges: tuple[tuple[int, int], ...]) -> None:
    journal = Journal.create(tmp_path)
    body = m.encode(m.Record(node="a", boot_id="b", seq=5, mono_ns=1, wall_ns=1, body=m.Gap(ranges, 1, "x")))
    journal.commit([Entry(0, 0.0, 0, "gap", "a", "b", 5, body)])
    assert journal.watermarks()["a", "b"] in {0, 3, 5}
    journal.commit([Entry(0, 0.0, 0, "samples", "a", "b", seq, b"{}") for seq in (1, 2, 3, 4)])
    assert journal.watermarks()["a", "b"] == 5 and journal.gaps() == {} and journal.shed() == {}
    journal.close()
