"""Four timestamps, and what a jumping wall clock cannot do."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_config.clock_offset import Exchange, estimate
from hil_config.epoch_file import EpochFile
from hil_config.errors import RemoteProtocolError
from hil_config.wire.messages import NodeEvent, Record, decode
from node_agent.config import AgentConfig, PowerModel
from node_agent.evidence import Evidence, open_spool
from node_agent.mqtt_link import MqttLink

WAY = st.tuples(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7))


@given(st.integers(-(10**15), 10**15), st.lists(WAY, min_size=1, max_size=32), st.integers(0, 10**15))
def test_the_truth_is_within_the_stated_uncertainty(truth: int, ways: list[tuple[int, int, int]], now: int) -> None:
    exchanges = []
    for out, there, back in ways:
        sent = now
        received = sent + out + truth
        exchanges.append(Exchange(sent, received, received + there, sent + out + there + back))
        now += 10**8
    found = estimate(exchanges)
    assert abs(found.offset_ns - truth) <= found.uncertainty_ns
    assert found.uncertainty_ns == (min(out + back for out, _, back in ways) + 1) // 2


@pytest.mark.parametrize("bad", [[], [Exchange(0, 10, 5, 20)], [Exchange(10, 0, 0, 5)], [Exchange(0, 0, 30, 10)]])
def test_timestamps_that_run_backwards_are_refused(bad: list[Exchange]) -> None:
    with pytest.raises(RemoteProtocolError):
        estimate(bad)


def test_a_wall_clock_that_jumps_reorders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred jumps of up to three days, and back to 1970: numbers and monotonic stamps stay in order."""
    chance, wall = random.Random(1), [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: wall[0])
    spool = open_spool(tmp_path, "alpha", "b", 1 << 20)
    power = PowerModel("none", 1.0, 1.0, 1, 1.0)
    config = AgentConfig("alpha", "bench", "127.0.0.1", 1, "127.0.0.1", 0, "", str(tmp_path), power)
    link = MqttLink(config, "b", lambda: None, lambda *_: None, EpochFile(tmp_path / "epoch"))  # type: ignore[arg-type,return-value]  # never connected
    evidence = Evidence("alpha", "b", spool, link)
    for n in range(100):
        wall[0] = 0 if n == 50 else wall[0] + round(chance.uniform(-3, 3) * 86_400e9)
        evidence.put(NodeEvent("Something", time.monotonic_ns()))
    records = [decode(payload, Record) for _, payload in spool.after(0, 200, 256)]
    assert [record.seq for record in records] == list(range(1, 101))
    stamps = [record.mono_ns for record in records]
    assert stamps == sorted(stamps)
    walls = [record.wall_ns for record in records]
    assert walls != sorted(walls), "the wall clock did jump; it is a label and nothing else"
    spool.close()
