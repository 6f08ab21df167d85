"""Records whose types are right and that cannot be true are refused by name; whatever passes, no reader trips over."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ground_controller.admission import KIND, Refused, Shape, refusal
from ground_controller.fleet.evidence import arrival
from ground_controller.journal import NAME
from ground_controller.live.follower import Follower
from ground_controller.preparation import Prepared, prepare
from ground_controller.simulation.run import simulate
from hil_config.door import run as hil
from hil_config.errors import RemoteProtocolError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire import messages as m
from tests.disturbed import disturbed

RUN = Shape(("alpha", "bravo"), layers=2, experts=4)


def record(body: Any, **more: Any) -> m.Record:
    told = {"node": "alpha", "boot_id": "b", "seq": 4, "mono_ns": 9, "wall_ns": 9, **more}
    return m.Record(body=body, **told)


def layer(**changed: Any) -> m.LayerEvidence:
    """Of two rows that each use the experts 1 and 3 on the second node."""
    good = m.LayerEvidence(
        1, np.ones((2, 4), "<f4").tobytes(), np.array([[1, 3]] * 2, "<i2").tobytes(), np.ones((2, 2), "<i2").tobytes(),
        b"\1\0", 0, 0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, sent=(m.Sent(1, 2, 0.5, "fp32", "int8"),),
    )  # fmt: skip
    return msgspec.structs.replace(good, **changed)


def token(*layers: m.LayerEvidence, **changed: Any) -> m.TokenEvidence:
    good = m.TokenEvidence(1, 1, 0, 2, 3, False, 99, 10.0, 2.0, -1, 1.0, (), layers or (layer(),))
    return msgspec.structs.replace(good, **changed)


def links(**changed: Any) -> m.LinkReport:
    good = m.LinkReport("bravo", 1, 2, 3, 0, 5.0, (-1.0, 2.0, 3.0), (0,) * (len(m.ERROR_EDGES_US) + 1))
    return msgspec.structs.replace(good, **changed)


@pytest.mark.parametrize(
    "body",
    [
        m.SampleBatch((1, 2), {"power_w": (3.5, None), "temperature_c": (-4.0, 20.0)}),
        m.SampleBatch((1,), {"power_factor": (-0.9,), "power_mw": (4900.0,), "powerbank_c": (-5.0,)}),
        m.SampleBatch((), {}),
        token(kept_mass=2.4),
        m.NodeEvent("ShardsChanged", 1, {"order": "load", "held": '[[1,3,"int8"]]'}),
        m.NodeEvent("ShardsRefused", 1, {"order": "drop", "held": "[[1,3]]", "reason": "x"}),
        token(),
        token(layer(layer=0, mixing=layer().scores), layer(picks=b"", hosts=b"", sent=())),
        m.NodeEvent("PeerLost", 1, {"peer": "x"}),
        links(),
        m.WorkSummary(1, 4, 3, 12, ((0, 5), (1, 7))),
        m.Gap(((1, 3),), 1, "full"),
    ],
    ids=lambda body: type(body).__name__,
)
def test_what_can_be_true_is_taken(body: Any) -> None:
    data = m.encode(record(body))
    taken = arrival(data, RUN)
    assert (taken.node, taken.boot_id, taken.seq, taken.body) == ("alpha", "b", 4, data) and taken.kind != KIND


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (m.SampleBatch((1, 2), {"power_w": (3.5,)}), "1 values of power_w at 2 instants"),
        (m.SampleBatch((2, 2), {}), "not in the order"),
        (m.SampleBatch((-1,), {}), "mono_ns"),
        (m.SampleBatch((1 << 60,), {}), "mono_ns"),
        (m.SampleBatch((1,), {"power_w": (1e300,)}), "power_w: 1e+300"),
        (m.SampleBatch((1,), {"power_gpu_w": (-2.0,)}), "power_gpu_w: -2"),
        (token(rows=0), "a step"),
        (token(rows=4), "32 and 0 bytes of scores for 4 rows"),
        (token(request=1 << 60), "a step"),
        (token(token=-2), "a step"),
        (token(kept_mass=-0.1), "kept mass"),
        (token(kept_mass=1e9), "kept mass"),
        (token(total_us=-1.0), "times of a step"),
        (token(layers=()), "layers []"),
        (token(layer(layer=0), layer(layer=0)), "layers [0, 0]"),
        (token(layer(layer=2)), "layer 2 of 2"),
        (token(layer(scores=b"")), "0 and 0 bytes of scores"),
        (token(layer(mixing=b"1234")), "32 and 4 bytes of scores"),
        (token(layer(scores=np.full((2, 4), np.nan, "<f4").tobytes())), "not finite"),
        (token(layer(picks=b"\0\0")), "2 bytes of picks and 8 of hosts"),
        (token(layer(hosts=b"\0\0\0")), "8 bytes of picks and 3 of hosts"),
        (token(layer(picks=b"\0", hosts=b"\0")), "1 bytes of picks"),
        (token(layer(picks=np.full((2, 2), 4, "<i2").tobytes())), "picks: 4 to 4"),
        (token(layer(hosts=np.full((2, 2), -2, "<i2").tobytes())), "hosts: -2 to -2"),
        (token(layer(live=b"\1")), "which of 2 nodes live"),
        (token(layer(live=b"\1\2")), "which of 2 nodes live"),
        (token(layer(lost=-1)), "rows of layer 1"),
        (token(layer(link_us=-0.1)), "times of layer 1"),
        (token(layer(sent=(m.Sent(2, 1, 0.5, "fp32", "int8"),))), "a call to node 2 of 2"),
        (token(layer(sent=(m.Sent(0, 0, 0.5, "fp32", "int8"),))), "rows of a call of layer 1"),
        (token(layer(sent=(m.Sent(0, 1, -0.5, "fp32", "int8"),))), "importance in layer 1"),
        (m.NodeEvent("PeerLost", -1), "mono_ns"),
        (m.NodeEvent("ShardsChanged", 1, {"held": "garbage"}), "held: JSON"),
        (m.NodeEvent("ShardsChanged", 1, {"held": "[1]"}), "held: Expected"),
        (m.NodeEvent("ShardsRefused", 1, {"held": '[["a"]]'}), "['a'] is no layer and expert"),
        (m.NodeEvent("ShardsRefused", 1, {"held": '[["a",1]]'}), "['a', 1] is no layer and expert"),
        (links(bytes=-1), "link report"),
        (links(histogram=(1, 2)), "2 bins"),
        (links(scheduled_us=1e300), "scheduled delay"),
        (links(error_us=(0.0, -1e300, 0.0)), "error of delay"),
        (m.WorkSummary(1, 4, 3, -1, ()), "work"),
        (m.WorkSummary(1, 4, 3, 1, ((2, 1),)), "nodes that are none"),
        (m.Gap((), -1, ""), "mono_ns"),
    ],
    ids=str,
)
def test_what_cannot_be_true_is_refused_by_name(body: Any, reason: str) -> None:
    data = m.encode(record(body, epoch=7))
    refused = arrival(data, RUN)
    assert (refused.node, refused.boot_id, refused.seq, refused.epoch, refused.kind) == ("alpha", "b", 4, 7, KIND)
    told = msgspec.json.decode(refused.body, type=Refused)
    assert reason in told.reason and told.record == data
    assert m.decode(told.record, m.Record).body == body


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"node":"a","boot_id":"b","seq":-1}'])
def test_what_has_no_number_cannot_even_be_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        arrival(data, RUN)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Of a run in which everything is decided that can be: warm boards, one about to be too empty to serve."""
    intent = load_campaign(default_path("campaign")).model_dump()
    start = [{"temperature_c": 52.0 + i, "charge": 0.7} for i in range(4)]
    start[1] = {"temperature_c": 40.0, "charge": 0.352}
    intent["orbit"] |= {"duration_s": 60.0}
    intent["twin"] |= {"start": tuple(start)}
    intent["model"] |= {"replicas": 1}
    intent["policies"] |= {
        "precision": {"name": "by_importance_and_heat"}, "transmission": {"name": "importance"}, "routing": "cgr",
        "replacement": {"name": "forecast", "options": {"patience": 1, "worth_j": 100.0, "spare_k": 0.0}},
    }  # fmt: skip
    return prepare(load_bench(default_path("bench")), Campaign.model_validate(intent))


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_nodes_tell_every_reader_of_the_run_lives(prepared: Prepared, seed: int, tmp_path: Path) -> None:
    """A third of the records say something else; what passes is read by all there is, the deciding core included."""
    folder, draw, kinds = tmp_path / "run", random.Random(seed), set()
    simulate(prepared, folder)
    with closing(sqlite3.connect(folder / NAME)) as db:
        for number, body in db.execute("SELECT id, body FROM entry WHERE seq > 0").fetchall():
            assert refusal(m.decode(body, m.Record), prepared.setting.shape) == ""
            if draw.random() < 0.33:
                found = arrival(disturbed(draw, body, "body"), prepared.setting.shape)
                db.execute("UPDATE entry SET kind = ?, body = ? WHERE id = ?", (found.kind, found.body, number))
                kinds.add(found.kind)
        db.commit()
    assert kinds >= {KIND, "token", "samples"}
    formats = [word for name in ("parquet", "csv", "influx", "mcap") for word in ("--format", name)]
    assert hil(["report", str(folder)]) == 0
    assert hil(["export", str(folder), *formats]) == 0
    assert hil(["explain", str(folder), "--node", "bravo", "--at", "20"]) == 0
    assert hil(["campaign", "replay", str(folder)]) == hil(["campaign", "verify", str(folder)]) == 10
    follower = Follower.open(folder)
    assert follower is not None
    while follower.read():
        pass
    now = follower.now()
    assert now is not None and any("was refused" in event.what for event in now.events)
    follower.close()
