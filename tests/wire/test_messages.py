"""MQTT payloads, topics, plans, manifests and schedule files against damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hil_config.errors import ArtefactError, DataFileError, LocalProtocolError, RemoteProtocolError
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.link_schedule import LinkSchedule, ScheduleHeader
from hil_config.wire.manifest import MANIFEST_NAME, read_manifest
from hil_config.wire.orders import SetDuty
from hil_config.wire.plan import GatewaySlice, LayerPlan, SelectionPlan, Share
from hil_config.wire.provenance import measured, modelled
from hil_config.wire.schedule_changes import Samples, schedule_of
from hil_config.wire.schedule_file import decode_schedule, encode_schedule


def plan() -> SelectionPlan:
    layer = LayerPlan((0.0, 0.5), ((Share(0, 1.0),), (Share(0, 0.5), Share(1, 0.5))), (-1, -1))
    gateways = (GatewaySlice(0, 0, ("alpha", "bravo")),)
    return SelectionPlan(3, 1, 4.5, 5.0, "topk", "why", 1.0, 1.0, 1, 2, 0.0, ("alpha", "bravo"), gateways, (layer,))


def every_message() -> list[msgspec.Struct]:
    layer = m.LayerEvidence(0, b"\0\0\0\0", b"\0\0", b"\0\0", b"\1", 0, 0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    token = m.TokenEvidence(1, 1, 0, 1, 3, False, 99, 10.0, 2.0, 7, 1.0, ("lost",), (layer,))
    samples = m.SampleBatch((1, 2), {"power_w": (3.5, None)}, {"power_w": "gone"})
    body: dict[str, Any] = {"node": "alpha", "boot_id": "b", "seq": 4, "mono_ns": 1, "wall_ns": 2}
    quantity = m.Quantity("power_w", "W", 10.0, modelled("cpu"))
    return [
        m.Status(node="alpha", boot_id="b", state="online", quantities=(quantity,), missing=(m.Missing("t", "no"),)),
        *(m.Record(body=b, **body) for b in (samples, token, m.NodeEvent("PeerLost", 1, {"peer": "x"}))),
        m.Record(body=m.LinkReport("bravo", 1, 2, 3, 0, 5.0, (1.0, 2.0, 3.0)), epoch=3, **body),
        m.Watermark(node="alpha", boot_id="b", seq=3),
        m.Summary(node="alpha", power_w=3.0),
        m.Command(id="1", epoch=2, body=SetDuty(False, "hot")),
        m.CommandReply(id="1", node="alpha", boot_id="b", ok=True, mono_ns=5),
        m.ClockAnchor(epoch=1, boot_id="b", mono_ns=1, scenario_s=0.0, rate=10.0),
        m.Lease(holder="h", epoch=3, state="held", run="r", host="g", pid=1, since_utc="t", beat_s=1.0, beat=4),
        plan(),
    ]


@pytest.mark.parametrize("message", every_message(), ids=lambda x: type(x).__name__)
def test_round_trip(message: msgspec.Struct) -> None:
    assert m.decode(m.encode(message), type(message)) == message


def test_a_million_mutated_payloads_raise_protocol_errors_only() -> None:
    rng = random.Random(7)
    sources = [(m.encode(message), type(message)) for message in every_message()]
    refused = accepted = 0
    for _ in range(1_000_000):
        data, kind = rng.choice(sources)
        out = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(out))
            if rng.random() < 0.7:
                out[place] = rng.choice(b'0129-+.eE"{}[],:nulltrue\xff\x80\x00')
            else:
                del out[place : place + rng.randint(1, 4)]
            out = out or bytearray(b"{")
        try:
            m.decode(bytes(out), kind)
            accepted += 1
        except RemoteProtocolError:
            refused += 1
    assert refused > 300_000 and accepted > 10_000


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b'{"v":1}', b'{"v":1,"node":"a","x":1}'])
def test_hostile_payloads(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        m.decode(data, m.Watermark)


def test_nan_cannot_travel() -> None:
    with pytest.raises(RemoteProtocolError):
        m.decode(
            m.encode(m.ClockAnchor(epoch=1, boot_id="b", mono_ns=1, scenario_s=float("nan"), rate=1.0)),
            m.ClockAnchor,
        )


def test_another_version_is_refused_with_the_remedy() -> None:
    with pytest.raises(RemoteProtocolError, match="version 2") as caught:
        m.decode(b'{"v":2,"node":"a","boot_id":"b","seq":1}', m.Watermark)
    assert "same release" in caught.value.hint


def test_topics_go_there_and_back() -> None:
    for row in topics.TABLE:
        assert topics.parse(topics.address("bench", "alpha", row)) == ("bench", "alpha", row)
    with pytest.raises(RemoteProtocolError):
        topics.parse("hil/v1/bench/alpha/other")
    with pytest.raises(LocalProtocolError):
        topics.address("bench", "a/b", topics.STATUS)
    with pytest.raises(LocalProtocolError):
        topics.address("#", "alpha", topics.STATUS)


def test_provenance_reads_well() -> None:
    assert str(measured("INA226")) == "measured(INA226)"


def schedule() -> LinkSchedule:
    pairs = (("A", "B"), ("B", "A"))
    header = ScheduleHeader(
        epoch_utc="2024-10-21T08:20:00Z", duration_s=2.0, step_s=1.0, satellites=("A", "B"), pairs=pairs, source="test"
    )
    samples = Samples(
        np.array([0.0, 1.0, 2.0]), np.array([[0.01, 0.01], [0.02, 0.02], [0.04, 0.04]]), np.full((3, 2), 1e8),
        np.zeros((3, 2)), np.array([[1, 1], [1, 1], [0, 0]], np.uint8), np.array([[1, 0], [0.5, 0], [0, 0]]),
    )  # fmt: skip
    return schedule_of(header, samples)


def test_schedule_interpolates_delay_and_holds_the_rest() -> None:
    s = decode_schedule(encode_schedule(schedule()))
    assert s.link("A", "B", 0.5).delay_s == pytest.approx(0.015)
    assert s.link("A", "B", 1.99).up and not s.link("A", "B", 2.0).up and not s.link("A", "B", 99.0).up
    assert s.link("A", "B", -5.0).delay_s == pytest.approx(0.01)
    assert not s.link("A", "C", 0.0).up
    assert s.illumination("A", 0.5) == pytest.approx(0.75)


def test_ten_thousand_damaged_schedules_raise_data_errors_only() -> None:
    good = encode_schedule(schedule())
    rng = random.Random(3)
    for _ in range(10_000):
        out = bytearray(good)
        if rng.random() < 0.5:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        else:
            del out[rng.randrange(len(out)) :]
        with pytest.raises(DataFileError):
            decode_schedule(bytes(out))


def test_ten_thousand_damaged_manifests_raise_artefact_errors_only(tmp_path: Path) -> None:
    text = b'{"version":1,"model":{"name":"x"},"source_sha256":"","opset":21,"minimum_onnxruntime":"1","shards":[]}'
    rng = random.Random(5)
    for _ in range(10_000):
        out = bytearray(text)
        out[rng.randrange(len(out))] = rng.randrange(256)
        (tmp_path / MANIFEST_NAME).write_bytes(out)
        with pytest.raises(ArtefactError):
            read_manifest(tmp_path)
