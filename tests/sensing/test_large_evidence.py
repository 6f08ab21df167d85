"""A record that no message holds gives way to an event: the broker hung up for it, and it was sent again for ever."""

from __future__ import annotations

from pathlib import Path

from hil_config.epoch_file import EpochFile
from hil_config.wire.messages import MAX_MESSAGE_BYTES, LayerEvidence, NodeEvent, Record, TokenEvidence, decode
from node_agent.config import AgentConfig, PowerModel
from node_agent.evidence import Evidence, open_spool
from node_agent.mqtt_link import MqttLink


def _scored(rows: int) -> TokenEvidence:
    """A text scored whole by one gateway of a model of 24 layers x 32 experts, 8 of them a row."""
    layers = tuple(
        LayerEvidence(n, bytes(128 * rows), bytes(16 * rows), bytes(16 * rows), b"\1", 0, 0, *(1.0,) * 6)
        for n in range(24)
    )
    return TokenEvidence(7, 1, 0, rows, 1, False, 1, 1.0, 1.0, -1, 1.0, (), layers)


def test_what_is_too_large_for_a_message_is_told_by_name(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "alpha", "b", 1 << 28)
    config = AgentConfig(
        "alpha", "bench", "127.0.0.1", 1, "127.0.0.1", 0, "", str(tmp_path), PowerModel("none", 1.0, 1.0, 1, 1.0)
    )
    link = MqttLink(config, "b", lambda: None, lambda *_: None, EpochFile(tmp_path / "epoch"))  # type: ignore[arg-type,return-value]  # never connected
    evidence = Evidence("alpha", "b", spool, link)
    for rows in (1000, 3726):
        evidence.put(_scored(rows))
    whole, told = (decode(payload, Record) for _, payload in spool.after(0, 10, 10))
    assert isinstance(whole.body, TokenEvidence) and whole.body.rows == 1000
    assert isinstance(told.body, NodeEvent) and told.body.name == "EvidenceTooLarge" and told.seq == 2
    assert (told.body.details["request"], told.body.details["rows"]) == (7, 3726)
    assert f"at most {MAX_MESSAGE_BYTES}" in str(told.body.details["reason"])
    spool.close()
