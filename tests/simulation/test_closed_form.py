"""One token through idle model nodes takes exactly the sum of its services, serialisations and delays."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ground_controller.client_events import TokenArrived
from ground_controller.journal import Journal
from ground_controller.preparation import prepare
from ground_controller.simulation.agenda import Agenda, Window
from ground_controller.simulation.board_model import DEFAULT, default_board
from ground_controller.simulation.fabric import Fabric
from ground_controller.simulation.frame_size import call_bytes, handover_bytes, reply_bytes
from ground_controller.simulation.run import simulate
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import Record, TokenEvidence, decode


def test_agenda_keeps_the_order_of_asking() -> None:
    agenda, seen = Agenda(), []
    for name, at_s in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        agenda.at(at_s, lambda name=name: seen.append(name))  # type: ignore[misc]
    agenda.run_until(2.0)
    assert seen == ["a"]  # the end is not part of it
    agenda.run_until(3.0)
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize("stride", [1, 4])
def test_window_maps_both_ways(stride: int) -> None:
    window = Window(tick_s=0.5, stride=stride, rate=10.0)
    assert window.host_s(3 * window.length_s) == pytest.approx(1.5)
    assert window.host_s(window.of_scenario(20.0)) == pytest.approx(2.0)
    assert window.scenario_s(window.of_scenario(15.25)) <= 20.0


def test_one_request_alone(tmp_path: Path) -> None:
    """Links with constant delays, one request at a time: every layer and step from the closed form."""
    intent = load_campaign(default_path("campaign"))
    work = intent.workload.model_copy(update={"concurrency": 1, "max_new_tokens": 4, "requests": 1})
    orbit = intent.orbit.model_copy(update={"duration_s": 50.0, "rate": 0.01})  # delays as good as stand
    policies = intent.with_selection("topk").policies
    prepared = prepare(
        load_bench(default_path("bench")),
        intent.model_copy(update={"workload": work, "orbit": orbit, "policies": policies}),
    )
    simulate(prepared, tmp_path / "run")
    journal = Journal.read(tmp_path / "run")
    try:
        steps = [decode(e.body, Record) for e in journal.entries("token")]
        arrived = [msgspec.json.decode(e.body, type=TokenArrived) for e in journal.entries("client_token")]
    finally:
        journal.close()
    assert len(arrived) == 4
    board = default_board(prepared.profiles[0])
    nodes, card = prepared.setting.nodes, prepared.manifest.model
    satellites = dict(zip(nodes, prepared.setting.satellites, strict=True))
    rate = orbit.link_rate_mbit_s * 1e6
    hop_us = board.hop_us
    for record in steps:
        body = record.body
        assert isinstance(body, TokenEvidence)
        if body.rows != 1:
            continue
        parts = sum(
            layer.trunk_us + layer.serialise_us + layer.combine_us + layer.link_us + layer.queue_us + layer.expert_us
            for layer in body.layers
        )
        # An own expert may end after the last remote answer has been counted, so only an upper part is exact.
        assert body.total_us == pytest.approx(parts + body.head_us, abs=200.0)
        for layer in body.layers:
            assert layer.trunk_us == pytest.approx(board.work("trunk").us(1))
            remote = {n for n in memory_of(layer.hosts) if n >= 0 and nodes[n] != record.node}
            assert layer.serialise_us == pytest.approx(board.work("frame").us(1) * len(remote))
            if len(remote) == 1 and len(set(memory_of(layer.hosts))) == 1:
                (host,) = remote
                at_s = (record.mono_ns / 1e9 - 1.0) * orbit.rate
                link = prepared.schedule.link(satellites[record.node], satellites[nodes[host]], at_s)
                picks = len(memory_of(layer.hosts))
                out = 8 * call_bytes(1, card.hidden, picks, "fp16") / rate
                back = 8 * reply_bytes(1, card.hidden, "fp16") / rate
                wanted_us = (out + back + 2 * link.delay_s) * 1e6 + 2 * hop_us
                assert layer.link_us == pytest.approx(wanted_us, abs=0.05)
    assert DEFAULT.shared_cores == 0


def memory_of(hosts: bytes) -> list[int]:
    """Host indices of one row."""
    return [int.from_bytes(hosts[i : i + 2], "little", signed=True) for i in range(0, len(hosts), 2)]


def test_frames_share_the_line() -> None:
    """Two frames at once: the second waits for the first one's serialisation, then both travel the delay."""
    prepared = prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))
    nodes, satellites = prepared.setting.nodes, prepared.setting.satellites
    agenda, window = Agenda(), Window(0.5, 1, 10.0)
    fabric = Fabric(agenda, window, prepared.schedule, dict(zip(nodes, satellites, strict=True)), 1.0, 1.0, 1, 0.0)
    arrived: list[float] = []
    size = handover_bytes(1, 128, tuple(nodes[:2]), "ground", "fp16")
    for _ in range(2):
        assert fabric.send(nodes[0], nodes[1], size, lambda: arrived.append(agenda.now_s))
    agenda.run_until(1.0)
    link = prepared.schedule.link(satellites[0], satellites[1], 0.0)
    line_s = 8 * size / link.rate_bit_s
    assert arrived == pytest.approx([line_s + link.delay_s, 2 * line_s + link.delay_s], abs=1e-9)  # the delay drifts
    ((sender, report),) = fabric.reports(5)
    assert (sender, report.peer, report.frames, report.bytes) == (nodes[0], nodes[1], 2, 2 * size)
