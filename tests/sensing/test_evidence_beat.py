"""The thread that hands evidence in beats with every record: all there is may take a slow board very long."""

from __future__ import annotations

import time
from pathlib import Path

from hil_config.epoch_file import EpochFile
from hil_config.wire.messages import NodeEvent
from hil_config.wire.topics import Topic
from node_agent.config import AgentConfig, PowerModel
from node_agent.crew import Crew
from node_agent.evidence import Evidence, open_spool
from node_agent.mqtt_link import MqttLink

RECORDS = 50


def test_every_record_is_a_sign_of_life(tmp_path: Path) -> None:
    beats: list[float] = []
    crew = Crew()

    class Listened(MqttLink):
        """Says when the beat before each record was; ends after the last one."""

        def publish_raw(self, row: Topic, payload: bytes) -> None:
            beats.append(evidence.beat_s)
            super().publish_raw(row, payload)
            if len(beats) == RECORDS:
                crew.stopping.set()

    spool = open_spool(tmp_path, "alpha", "b", 1 << 20)
    config = AgentConfig(
        "alpha", "bench", "127.0.0.1", 1, "127.0.0.1", 0, "", str(tmp_path), PowerModel("none", 1.0, 1.0, 1, 1.0)
    )
    link = Listened(config, "b", lambda: None, lambda *_: None, EpochFile(tmp_path / "epoch"))  # type: ignore[arg-type,return-value]  # never connected
    link.connected.set()
    evidence = Evidence("alpha", "b", spool, link)
    for _ in range(RECORDS):
        evidence.put(NodeEvent("Something", time.monotonic_ns()))
    evidence.work(crew)
    assert len(beats) == RECORDS, "one pass over all of them"
    assert sorted(set(beats)) == beats
    spool.close()
