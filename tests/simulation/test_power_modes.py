"""Model nodes in power modes: as calibrated, else calculated and called so; ordered by the limits, and replayed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest

from ground_controller.core import Core
from ground_controller.journal import Entry, Journal
from ground_controller.power_modes import order_of
from ground_controller.preparation import Prepared, prepare
from ground_controller.replay import replay_run
from ground_controller.report.metrics import measure
from ground_controller.report.terminal import summary_rows
from ground_controller.simulation.board_model import (
    DEFAULT,
    BoardModel,
    Calibration,
    Work,
    read_calibration,
    write_calibration,
)  # fmt: skip
from ground_controller.simulation.company import Company, Turn
from ground_controller.simulation.continuation import content_hash
from ground_controller.simulation.mode_model import board_in, mode_uses
from ground_controller.simulation.mode_times import ModeTimes
from ground_controller.simulation.run import simulate
from ground_controller.telemetry.scenario_time import ScenarioTime
from hil_config.errors import DataFileError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.power import PowerMode
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.messages import NodeEvent, Record, TokenEvidence, decode, encode

PI = load_profile("raspberry-pi-4b")
LOCAL = load_profile("local-process")


def measured(profile: BoardProfile, mode: str = "default", **setting: float) -> BoardModel:
    """A model as `hil calibrate` writes it, with round numbers."""
    works = tuple(Work(kind, 100.0, 10.0, 2.0, samples=60) for kind in ("trunk", "expert", "head", "gate", "frame"))
    return BoardModel(profile.name, 2.0, 50.0, works, profile.cores, mode=mode, setting=setting, origin="run x")


def test_a_calibrated_mode_is_used_as_it_is() -> None:
    slow = measured(PI, "600MHz", duty=1.0, cpu_khz=600_000)
    assert board_in(Calibration("x", (measured(PI, "1500MHz"), slow)), PI, "600MHz") is slow


def test_by_frequency_everything_slows_and_its_energy_stays() -> None:
    found = board_in(Calibration("x", (measured(PI, "1500MHz", duty=1.0, cpu_khz=1_500_000),)), PI, "600MHz")
    assert not found.calibrated and found.origin.startswith("extrapolated from mode 1500MHz by frequency ratio 0.4;")
    for kind in ("trunk", "gate", "frame"):
        work = found.work(kind)
        assert work.us(4) == pytest.approx(140.0 / 0.4) and work.samples == 0
        assert work.us(4) * work.watts == pytest.approx(140.0 * 2.0)
    assert found.hop_us == pytest.approx(125.0) and found.idle_w == 2.0 and found.rest == 0.0


def test_by_duty_work_takes_its_time_and_then_rests() -> None:
    found = board_in(Calibration("x", (measured(LOCAL, "full", duty=1.0),)), LOCAL, "quarter")
    assert found.work("trunk").us(4) == 140.0 and found.rest == pytest.approx(3.0)
    assert "by duty ratio 0.25" in found.origin


def test_times_that_hold_waiting_for_turns_are_the_last_choice() -> None:
    full, half = measured(LOCAL, "full", duty=1.0), measured(LOCAL, "half", duty=0.5)
    assert "from mode full" in board_in(Calibration("x", (half, full)), LOCAL, "quarter").origin
    alone = board_in(Calibration("x", (half,)), LOCAL, "quarter")
    assert "from mode half" in alone.origin and alone.rest == pytest.approx(1.0)


def test_a_mode_that_was_set_otherwise_then_is_not_the_same() -> None:
    then = measured(PI, "600MHz", duty=1.0, cpu_khz=750_000)
    found = board_in(Calibration("x", (then,)), PI, "600MHz")
    assert not found.calibrated and found.work("trunk").us(0) == pytest.approx(125.0)


def test_without_an_order_the_board_is_taken_to_be_in_its_first_mode() -> None:
    known = Calibration("x", (measured(PI),))
    first = board_in(known, PI, "1500MHz")
    assert first.calibrated and "taken for mode 1500MHz" in first.origin
    assert board_in(known, PI, "600MHz").work("trunk").us(0) == pytest.approx(250.0)
    assert not board_in(DEFAULT, PI, "1500MHz").calibrated, "the package's defaults were fitted to nothing of yours"


def test_numbers_of_nvpmodel_tell_no_speed_but_the_profile_may() -> None:
    modes = tuple(PowerMode(name=name, nvp_mode=n) for n, name in enumerate(("fast", "slow")))
    board = load_profile("jetson-orin-nano").model_copy(update={"modes": modes})
    known = Calibration("x", (measured(board, "fast", duty=1.0, nvp_mode=0, speed=1.0),))
    with pytest.raises(DataFileError, match="mode slow was not calibrated, and nothing tells its speed"):
        board_in(known, board, "slow")
    told = board.model_copy(update={"modes": (modes[0], modes[1].model_copy(update={"speed": 0.5}))})
    assert board_in(known, told, "slow").work("gate").us(0) == pytest.approx(200.0)


# --- files ------------------------------------------------------------------------------------------------------

WORK = {"base_us": 100.0, "row_us": 1.0, "watts": 2.0, "precision": "any", "residual": 0.1, "samples": 99}
FIRST = {
    "source": "fitted to run old", "shared_cores": 0, "version": 1,
    "boards": [
        {
            "profile": "local-process", "idle_w": 2.7, "hop_us": 5.0, "workers": 4, "spread": 0.0,
            "power_residual_w": 0.1, "load_us": 9.0,
            "works": [
                {**WORK, "kind": "trunk", "mode": "default"}, {**WORK, "kind": "expert", "mode": "default"},
                {**WORK, "kind": "trunk", "mode": "half", "base_us": 300.0},
            ],
        }
    ],
}  # fmt: skip
"""A file of the first version, which held all modes of a board in one list."""


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(FIRST))
    found = read_calibration(path)
    usual, half = found.boards
    assert (usual.mode, half.mode) == ("default", "half") and usual.origin == "fitted to run old"
    assert [w.base_us for w in usual.works] == [100.0, 100.0]
    assert half.work("trunk").base_us == 300.0
    assert half.work("expert").base_us == 100.0, "what a mode's own lacked was the default's"
    assert found.board(LOCAL) == usual and board_in(found, LOCAL, "half") == half
    write_calibration(path, found)
    assert json.loads(path.read_text())["version"] == 2 and read_calibration(path) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", "not a calibration"),
        ('{"source": "x", "boards": [{"works": [{}]}]}', "not a calibration"),
        ('{"source": "x", "boards": [], "version": 3}', "version 3, this release reads 1 to 2"),
        ('{"source": "x", "boards": [7], "version": 1}', "not a calibration"),
    ],
)
def test_files_that_are_none_are_refused(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    path.write_text(text)
    with pytest.raises(DataFileError, match=found):
        read_calibration(path)
    one = measured(PI)
    write_calibration(path, Calibration("x", (one, one)))
    with pytest.raises(DataFileError, match="raspberry-pi-4b in mode default comes twice"):
        read_calibration(path)


# --- what a node said -------------------------------------------------------------------------------------------


def times(tmp_path: Path, *said: tuple[int, str, dict[str, Any]]) -> ModeTimes:
    """Of a node whose clock is 100 ns ahead of the ground's."""
    journal = Journal.create(tmp_path, power_safe=False)
    for key, value in (
        ("clock_offsets_ns", '{"alpha": [100, 1], "bravo": [0, 1]}'), ("anchor_host_ns", "0"),
        ("campaign", '{"orbit": {"rate": 1.0}}'),
    ):  # fmt: skip
        journal.set_meta(key, value)
    for seq, (mono_ns, name, details) in enumerate(said, 1):
        body = encode(
            Record(node="alpha", boot_id="b", seq=seq, mono_ns=mono_ns, wall_ns=0,
                   body=NodeEvent(name, mono_ns, details))
        )  # fmt: skip
        journal.commit([Entry(0, 0.0, 0, "event", "alpha", "b", seq, body)])
    found = ModeTimes(journal, ScenarioTime(journal))
    journal.close()
    return found


def test_the_mode_is_what_the_node_read_back(tmp_path: Path) -> None:
    found = times(
        tmp_path,
        (1_000, "PowerSet", {"duty": 0.5, "mode": "half"}),
        (2_000, "PowerSet", {"duty": 1.0, "mode": "fast", "refused": "it does not want to"}),
        (3_000, "PowerSet", {"duty": 0.5, "mode": "half"}),
        (4_000, "SafetyActed", {"state": "ease", "reason": "the firmware throttles"}),
        (5_000, "SafetyActed", {"state": "ok", "reason": ""}),
        (6_000, "SettingsRestored", {"by": "order", "problems": ""}),
        (6_001, "PowerSet", {"duty": 1.0}),
    )
    assert found.over("alpha", 0, 899) == "default"
    assert found.over("alpha", 900, 1_899) == "half", "900 of the ground's clock is 1000 of alpha's"
    assert found.over("alpha", 800, 1_000) is None, "it changed meanwhile"
    assert found.over("alpha", 2_400, 2_400) is None, "the order was refused"
    assert found.over("alpha", 4_400, 4_500) is None, "the board had slowed itself down"
    assert found.over("alpha", 5_400, 5_500) == "half"
    assert found.over("alpha", 6_400, 6_500) == "default"
    assert found.over("bravo", 0, 9_000) == "default"
    assert {mode: round(s * 1e9) for mode, s in found.seconds("alpha", 900, 4_900).items()} == {
        "half": 2_000, "unknown": 2_000,
    }  # fmt: skip


# --- a heat limit in a simulated campaign ------------------------------------------------------------------------


def warming(ease_above_c: float, profile: str = "raspberry-pi-4b") -> Prepared:
    bench = load_bench(default_path("bench"))
    boards = tuple(board.model_copy(update={"profile": profile, "kind": "model"}) for board in bench.boards)
    intent = load_campaign(default_path("campaign")).model_dump()
    intent["orbit"] |= {"duration_s": 150.0}
    intent["workload"] |= {"max_new_tokens": 12}
    # The first two warm up from cold, through the limit; the others stay below it.
    intent["twin"] |= {"start": tuple({"temperature_c": 30.0 - 8.0 * (i > 1), "charge": 0.9} for i in range(4))}
    intent["power"] = {"mode": None, "ease_above_c": ease_above_c, "ease_below_charge": None}
    return prepare(bench.model_copy(update={"boards": boards}), Campaign.model_validate(intent))


def trunk_us(folder: Path) -> dict[tuple[str, str], list[float]]:
    """Trunk times of single rows by (gateway, the mode that it was in)."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    journal = Journal.read(folder)
    try:
        when = ScenarioTime(journal)
        modes = ModeTimes(journal, when)
        for entry in journal.entries("token"):
            body = decode(entry.body, Record).body
            assert isinstance(body, TokenEvidence)
            ended_ns = when.host_ns(entry.node, body.mono_ns, entry.boot_id)
            mode = modes.over(entry.node, ended_ns - round(body.total_us * 1e3), ended_ns)
            if mode is not None and body.rows == 1:
                found[entry.node, mode] += [layer.trunk_us for layer in body.layers]
    finally:
        journal.close()
    return found


def test_a_node_slows_down_when_its_mode_drops(tmp_path: Path) -> None:
    prepared = warming(ease_above_c=32.0)
    known = Calibration("fitted to x", (measured(PI, "1500MHz", duty=1.0, cpu_khz=1_500_000),))
    simulate(prepared, tmp_path / "run", known)
    took = trunk_us(tmp_path / "run")
    slowed = {node for node, mode in took if mode == "1000MHz"}
    assert slowed, "some gateway was eased"
    for node in slowed:
        assert took[node, "1500MHz"], f"{node} began fast"
        ratio = min(took[node, "1000MHz"]) / min(took[node, "1500MHz"])
        assert ratio == pytest.approx(1.5), "by the ratio of the frequencies"
    assert replay_run(tmp_path / "run").mismatches == 0
    metrics = measure(tmp_path / "run")
    fast, slow = (metrics.sources[f"work of raspberry-pi-4b in mode {mode}"] for mode in ("1500MHz", "1000MHz"))
    assert fast == "modelled(calibrated: run x)"
    assert slow == "modelled(extrapolated from mode 1500MHz by frequency ratio 0.6667; 1500MHz: run x)"
    assert "work of raspberry-pi-4b in mode 600MHz" in metrics.provenance
    assert metrics.provenance.startswith("Measured: nothing.")
    lowered = {node for node, shares in metrics.modes.items() if shares.get("1000MHz", 0.0) > 0.0}
    assert slowed <= lowered < set(prepared.setting.nodes), "some nodes, not all"
    assert all(sum(shares.values()) == pytest.approx(1.0, abs=2e-3) for shares in metrics.modes.values())
    line = dict(summary_rows(metrics))["power modes"]
    assert f"changed: {', '.join(node for node in prepared.setting.nodes if node in lowered)}" in line


def test_the_same_simulation_has_the_same_content_with_modes_too(tmp_path: Path) -> None:
    prepared = warming(ease_above_c=32.0, profile="local-process")
    for name in ("one", "two"):
        simulate(prepared, tmp_path / name, DEFAULT, stride=10)
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")


def test_a_duty_below_what_the_work_needs_holds_it_up(tmp_path: Path) -> None:
    """All boards held in one mode: at a quarter of the time the gateways' trunks wait for their turns."""
    waits = {}
    for mode in ("full", "quarter"):
        prepared = warming(32.0, "local-process")
        intent = prepared.campaign.model_dump()
        intent["power"] = {"mode": mode, "ease_above_c": None, "ease_below_charge": None}
        intent["orbit"] |= {"delay_scale": 0.0}
        again = prepare(prepared.bench, Campaign.model_validate(intent))
        simulate(again, tmp_path / mode, Calibration("x", (measured(LOCAL, "full", duty=1.0),)))
        waits[mode] = trunk_us(tmp_path / mode)
        journal = Journal.read(tmp_path / mode)
        uses = json.loads(journal.meta("simulated"))["modes"]
        journal.close()
        assert [use["mode"] for use in uses] == [mode], "no other mode can be ordered"
    for node, mode in waits["quarter"]:
        assert mode == "quarter"
        assert median(waits["quarter"][node, mode]) >= median(waits["full"][node, "full"])
        assert max(waits["quarter"][node, mode]) > max(waits["full"][node, "full"])


def test_what_cannot_be_calculated_is_said_before_the_run(tmp_path: Path) -> None:
    prepared = warming(32.0)
    known = Calibration("x", (measured(PI, "fast", duty=1.0, nvp_mode=0),))
    with pytest.raises(DataFileError, match="nothing tells its speed"):
        simulate(prepared, tmp_path / "run", known)
    assert msgspec.json.decode(msgspec.json.encode(known), type=Calibration) == known


def test_model_nodes_beside_real_ones_take_their_orders_too() -> None:
    """The first two boards stand for real ones, whose modes are none of the model nodes' business."""
    bench = load_bench(default_path("bench"))
    kinds = ("local", "local", "model", "model")
    boards = tuple(
        board.model_copy(update={"profile": "raspberry-pi-4b", "kind": kind})
        for board, kind in zip(bench.boards, kinds, strict=True)
    )
    intent = load_campaign(default_path("campaign")).model_dump()
    intent["power"] = {"mode": None, "ease_above_c": 50.0, "ease_below_charge": None}
    prepared = prepare(bench.model_copy(update={"boards": boards}), Campaign.model_validate(intent))
    company = Company(prepared, DEFAULT, 0)
    plan = Core(prepared.setting, prepared.policy, 1, 5.0).advance(-1, 0.0, []).plan
    slow = order_of(PI.modes[1])
    arrived = company.take(Turn(0.5, 0.0, 1.0, plan, (), None, (("alpha", slow), ("delta", slow))))
    bodies = [(one.node, decode(one.body, Record).body) for one in arrived if one.kind == "event"]
    told = [(node, body.details["mode"]) for node, body in bodies if isinstance(body, NodeEvent)]
    assert told == [("charlie", "1500MHz"), ("delta", "1500MHz"), ("delta", "1000MHz")]
    uses = mode_uses(DEFAULT, prepared.profiles, prepared.setting.modes, real=(0, 1))
    assert [(use.mode, use.calibrated) for use in uses] == [(mode.name, False) for mode in PI.modes]
    assert mode_uses(DEFAULT, prepared.profiles, prepared.setting.modes, real=range(4)) == ()
