"""Calibration from a real run on local nodes, and its simulation beside it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import nnls

from ground_controller.campaign import run_campaign
from ground_controller.cli.calibrate import fidelity_command, verdict
from ground_controller.interruption import KIND, RunResumed
from ground_controller.journal import Entry, Journal
from ground_controller.preparation import prepare
from ground_controller.report.metrics import measure
from ground_controller.simulation.board_model import DEFAULT, Calibration, read_calibration, write_calibration
from ground_controller.simulation.fidelity import Pair, compare, power_of
from ground_controller.simulation.fit import calibrate_run, calibrate_runs, fit_line
from ground_controller.simulation.run import simulate
from hil_config.errors import DataFileError, EnvironmentFault, InvalidRunError, UsageError
from hil_config.schema.campaign import Policy
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.profiles import load_profile
from hil_config.wire import messages as m
from hil_config.wire.provenance import measured


def test_line_through_medians() -> None:
    rows = [float(n) for n in (1, 2, 8) for _ in range(40)]
    us = [100.0 + 5.0 * n for n in rows]
    us[::10] = [9_000.0] * len(us[::10])  # busy moments do not count
    line = fit_line(rows, us)
    assert line.base_us == pytest.approx(100.0)
    assert line.row_us == pytest.approx(5.0)
    assert line.residual == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InvalidRunError, match="at least"):
        fit_line([1.0], [1.0])


def test_a_line_through_one_point_has_no_misfit_to_tell() -> None:
    us = np.random.default_rng(3).lognormal(5.0, 0.5, 200)  # half of it and twice as much alike
    line = fit_line([1.0] * len(us), us.tolist())
    assert line.base_us == pytest.approx(float(np.median(us)))
    assert line.row_us == 0.0
    assert line.residual is None


@pytest.mark.parametrize("bend", [0.8, 1.0, 1.2, 1.4])
def test_no_line_of_times_above_0_is_nearer(bend: float) -> None:
    """Work that grows faster than its rows asks for less than nothing at none."""
    counts = {1: 40, 2: 30, 8: 20, 32: 10}
    rows = [float(n) for n, count in counts.items() for _ in range(count)]
    line = fit_line(rows, [10.0 * n**bend for n in rows])
    x, weight = np.array(list(counts), np.float64), np.sqrt(np.array(list(counts.values()), np.float64))
    (base, slope), _ = nnls(np.c_[weight, weight * x], weight * 10.0 * x**bend)
    assert line.base_us == pytest.approx(base, abs=1e-6)
    assert line.row_us == pytest.approx(slope, rel=1e-9)


def test_file_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "boards.json"
    write_calibration(path, DEFAULT)
    assert read_calibration(path) == DEFAULT
    for text, found in (
        ("{", "not a calibration"),
        (json.dumps({"source": "", "boards": [], "version": 9}), "version 9"),
    ):
        path.write_text(text)
        with pytest.raises(DataFileError, match=found):
            read_calibration(path)
    with pytest.raises(DataFileError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")


def test_a_slower_profile_takes_longer() -> None:
    here, pi = (DEFAULT.board(load_profile(name)) for name in ("local-process", "raspberry-pi-4b"))
    assert pi.work("expert").us(1) == pytest.approx(4.0 * here.work("expert").us(1))


def test_calibrate_and_compare(tmp_path: Path) -> None:
    """Thirteen seconds on real local nodes. Whether the aims are met depends on the machine, so it is no test."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 130.0})})
    prepared = prepare(load_bench(default_path("bench")), intent)
    try:
        run_campaign(prepared, tmp_path / "real", lambda _progress: None)
    except EnvironmentFault as error:
        pytest.skip(f"no broker here: {error.message}")
    found = calibrate_run(tmp_path / "real")
    (board,) = found.boards
    assert board.profile == "local-process"
    assert {work.kind for work in board.works} == {"trunk", "expert", "head", "gate", "frame"}
    assert all(work.watts > 0.0 for work in board.works)
    assert "modelled(" in found.source  # the power it was fitted to was no measurement
    simulate(prepared, tmp_path / "simulated", found)
    pairs = {pair.name: pair for pair in compare(tmp_path / "real", tmp_path / "simulated")}
    assert pairs["TPOT p50, ms"].within is not None
    assert pairs["energy gross, J"].within is not None
    assert pairs["bytes alpha to bravo a token"].ratio is not None
    shares = [pair for name, pair in pairs.items() if name.startswith("share of steps at ")]
    assert sum(pair.real or 0.0 for pair in shares) == pytest.approx(1.0)
    assert sum(pair.simulated or 0.0 for pair in shares) == pytest.approx(1.0)
    told = CliRunner().invoke(fidelity_command, [str(tmp_path / "real"), str(tmp_path / "simulated"), "--json"])
    said = json.loads(told.stdout)
    assert [one["name"] for one in said["figures"]] == list(pairs) and "aims" in said["verdict"]
    assert said["power"].startswith("modelled(") and said["modes"] == []  # its joules of boards are no measurement
    with pytest.raises(InvalidRunError, match="was simulated"):
        calibrate_run(tmp_path / "simulated")
    assert power_of(tmp_path / "real").startswith("modelled(")
    with pytest.raises(InvalidRunError, match="in this order"):
        compare(tmp_path / "simulated", tmp_path / "real")


def test_boards_with_clocks_of_their_own_calibrate_alike(tmp_path: Path) -> None:
    """Boards are not started at the same moment: hours lie between their monotonic clocks, and the ground's."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 130.0})})
    simulate(prepare(load_bench(default_path("bench")), intent), tmp_path / "modelled")
    ahead_h = {"alpha": 0.0, "bravo": 5.0, "charlie": -0.25, "delta": 700.0}
    found = []
    for name, hours in (("together", dict.fromkeys(ahead_h, 0.0)), ("apart", ahead_h)):
        _as_on_boards(tmp_path / "modelled", tmp_path / name, {node: round(h * 3.6e12) for node, h in hours.items()})
        found.append(calibrate_run(tmp_path / name))
    assert found[0].boards == found[1].boards


def test_equal_times_of_two_steps_do_not_make_them_one_batch(tmp_path: Path) -> None:
    """Clocks tell nanoseconds: in a long run many steps share a trunk time, or one of the head, with others."""
    intent = load_campaign(default_path("campaign"))
    orbit = intent.orbit.model_copy(update={"duration_s": 130.0})
    intent = intent.model_copy(
        update={"orbit": orbit, "workload": intent.workload.model_copy(update={"concurrency": 1})}
    )
    board = msgspec.structs.replace(DEFAULT.board(load_profile("local-process")), spread=0.2)
    boards = Calibration("", (board,))
    simulate(prepare(load_bench(default_path("bench")), intent), tmp_path / "modelled", boards)
    _as_on_boards(tmp_path / "modelled", tmp_path / "real", dict.fromkeys(("alpha", "bravo", "charlie", "delta"), 0))
    journal = Journal.read(tmp_path / "real")
    steps = [m.decode(entry.body, m.Record).body for entry in journal.entries("token")]
    journal.close()
    layers = [layer for step in steps if isinstance(step, m.TokenEvidence) for layer in step.layers]
    assert len({layer.trunk_us for layer in layers}) < len(layers) / 2
    calibration = calibrate_run(tmp_path / "real")
    share = float(calibration.boards[0].origin.split("work took ")[1].split("%")[0]) / 100.0
    above = measure(tmp_path / "modelled").energy_net_j
    assert above is not None  # of 4 boards in the 13 s: watts while at work, for as long as there was work
    assert calibration.boards[0].works[0].watts * share * 4 * 13.0 == pytest.approx(above, rel=0.1)
    assert "of spacemoe-reference" in calibration.source, "a file that is used for another model says so"
    (found,) = calibration.boards
    assert found.work("trunk").samples == len(layers)
    assert found.work("head").samples == sum(step.head_us > 0.0 for step in steps if isinstance(step, m.TokenEvidence))


def test_boards_that_send_no_frames_keep_the_default_hop_and_idle_ones_are_named(tmp_path: Path) -> None:
    """Everything on the first of two boards: between a board and itself a frame takes no time, between two it does."""
    intent, bench = load_campaign(default_path("campaign")), load_bench(default_path("bench"))
    orbit = {"duration_s": 550.0, "satellites": intent.orbit.satellites[:2]}
    placement = Policy(name="ground_controller.studies.simulated:OneBoard")
    intent = intent.model_copy(
        update={
            "orbit": intent.orbit.model_copy(update=orbit),
            "twin": intent.twin.model_copy(update={"start": intent.twin.start[:2]}),
            "model": intent.model.model_copy(update={"replicas": 1}),
            "policies": intent.policies.model_copy(update={"placement": placement}),
        }
    )
    other = bench.boards[1].model_copy(update={"profile": "raspberry-pi-5"})
    for name, boards in (("alike", bench.boards[:2]), ("apart", (bench.boards[0], other))):
        simulate(prepare(bench.model_copy(update={"boards": boards}), intent), tmp_path / name)
        _as_on_boards(tmp_path / name, tmp_path / f"real-{name}", {"alpha": 0, "bravo": 0})
    (found,) = calibrate_run(tmp_path / "real-alike").boards
    assert found.hop_us == DEFAULT.board(load_profile("local-process")).hop_us
    assert found.origin.endswith("hop: the default, hardly a frame was sent")
    with pytest.raises(InvalidRunError, match=r"0 measurements of work and \d+ seconds of power of raspberry-pi-5"):
        calibrate_run(tmp_path / "real-apart")


def test_of_two_runs_with_one_name_neither_passes_for_the_other(tmp_path: Path) -> None:
    """In every variant of a matrix there is an `s1`: modelled watts of one are not measured because the other's are."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 300.0})})
    simulate(prepare(load_bench(default_path("bench")), intent), tmp_path / "modelled")
    nodes = dict.fromkeys(("alpha", "bravo", "charlie", "delta"), 0)
    for name in ("metered", "other"):
        _as_on_boards(tmp_path / "modelled", tmp_path / name, nodes)
    metered = Journal.reopen(tmp_path / "metered")
    metered.set_meta("began_utc", "2026-01-02T03:04:05Z")
    metered.close()
    with sqlite3.connect(tmp_path / "metered" / "journal.sqlite") as db:
        for row, body in db.execute("SELECT id, body FROM entry WHERE kind = 'status'").fetchall():
            status = m.decode(body, m.Status)
            power = tuple(msgspec.structs.replace(q, provenance=measured("meter")) for q in status.quantities)
            said = m.encode(msgspec.structs.replace(status, quantities=power))
            db.execute("UPDATE entry SET body = ? WHERE id = ?", (said, row))
    db.close()
    found = calibrate_runs((tmp_path / "metered", tmp_path / "other"))
    assert "meter" in found.source and "modelled(" in found.source
    assert found.boards[0].origin.startswith("times measured in run modelled (2026-01-02T03:04:05Z), modelled (")


def test_runs_of_two_models_are_not_fitted_together(tmp_path: Path) -> None:
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 20.0})})
    simulate(prepare(load_bench(default_path("bench")), intent), tmp_path / "modelled")
    for name in ("one", "other"):
        _as_on_boards(tmp_path / "modelled", tmp_path / name, dict.fromkeys(("alpha", "bravo", "charlie", "delta"), 0))
    other = Journal.reopen(tmp_path / "other")
    card = json.loads(other.meta("model_card"))
    other.set_meta("model_card", json.dumps({**card, "name": "larger", "expert_width": 2 * card["expert_width"]}))
    other.set_meta("run", "another")
    other.close()
    with pytest.raises(UsageError, match="its model larger is not spacemoe-reference"):
        calibrate_runs((tmp_path / "one", tmp_path / "other"))


def test_boards_that_were_rebooted_in_an_interruption_calibrate_alike(tmp_path: Path) -> None:
    """Their clocks begin anew; what each recorded before and after is read by the clock of its boot."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 130.0})})
    simulate(prepare(load_bench(default_path("bench")), intent), tmp_path / "modelled")
    same = dict.fromkeys(("alpha", "bravo", "charlie", "delta"), 0)
    hour = 3_600_000_000_000
    before = {"alpha": 0, "bravo": 5 * hour, "charlie": 70 * hour, "delta": 700 * hour}
    since = {"alpha": 0, "bravo": 0, "charlie": 2 * hour, "delta": -hour // 4}
    found = []
    for name, ahead, again in (("together", same, same), ("apart", before, since)):
        _as_on_boards(tmp_path / "modelled", tmp_path / name, ahead, again)
        found.append(calibrate_run(tmp_path / name))
    assert found[0].boards == found[1].boards


def test_a_simulation_of_other_boards_is_not_compared(tmp_path: Path) -> None:
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 20.0})})
    bench = load_bench(default_path("bench"))
    slower = tuple(board.model_copy(update={"profile": "raspberry-pi-4b"}) for board in bench.boards)
    simulate(prepare(bench, intent), tmp_path / "modelled")
    _as_on_boards(tmp_path / "modelled", tmp_path / "real", dict.fromkeys((b.name for b in bench.boards), 0))
    simulate(prepare(bench.model_copy(update={"boards": slower}), intent), tmp_path / "slower")
    with pytest.raises(InvalidRunError, match="boards are not those of"):
        compare(tmp_path / "real", tmp_path / "slower")
    with pytest.raises(InvalidRunError, match="real: the run has not ended"):
        compare(tmp_path / "real", tmp_path / "modelled")  # the record lacks its end


def _whole_us(body: Any) -> Any:
    """With times of trunk and head in whole microseconds, of which few differ."""
    if not isinstance(body, m.TokenEvidence):
        return body
    layers = tuple(msgspec.structs.replace(layer, trunk_us=round(layer.trunk_us)) for layer in body.layers)
    return msgspec.structs.replace(body, layers=layers, head_us=round(body.head_us))


def _as_on_boards(
    modelled: Path, folder: Path, ahead_ns: dict[str, int], again_ns: dict[str, int] | None = None
) -> None:
    """The record of a simulated run as if boards with clocks so far ahead of the ground's had made it. `again_ns`:
    after 6.5 host seconds it was interrupted for no time at all, and the boards came back with such clocks."""
    source, target = Journal.read(modelled), Journal.create(folder)
    for key in ("run", "bench", "campaign", "model_card", "anchor_host_ns", "began_utc", "schedule_sha256"):
        target.set_meta(key, source.meta(key))
    offsets = {node: (ahead, 0) for node, ahead in ahead_ns.items()}
    target.set_meta("clock_offsets_ns", json.dumps(offsets))
    entries, waiting, at_ns = list[Entry](), list[Entry](), int(source.meta("anchor_host_ns")) + 6_500_000_000
    if again_ns is not None:
        clocks, boots = {node: (ahead, 0) for node, ahead in again_ns.items()}, dict.fromkeys(again_ns, "again")
        resumed = RunResumed(2, 65.0, at_ns, at_ns, 10.0, clocks, boots, (), (), "")
        waiting = [Entry(0, 65.0, at_ns, KIND, "", "", 0, msgspec.json.encode(resumed))]
    for entry in source.entries():
        one = entry
        if waiting and entry.host_ns >= at_ns:
            entries.append(waiting.pop())
        if entry.seq > 0:
            record, ahead = m.decode(entry.body, m.Record), ahead_ns[entry.node]
            body: Any = record.body
            then = body.mono_ns
            if again_ns is not None and (then[0] if isinstance(then, tuple) else then) >= at_ns:
                ahead, one = again_ns[entry.node], entry._replace(boot_id="again")
            then = tuple(at + ahead for at in then) if isinstance(then, tuple) else then + ahead
            moved = msgspec.structs.replace(_whole_us(body), mono_ns=then)
            one = one._replace(
                body=m.encode(msgspec.structs.replace(record, mono_ns=record.mono_ns + ahead, body=moved))
            )
        entries.append(one)
    target.commit(entries)
    source.close()
    target.close()


def test_the_verdict_does_not_call_an_unknown_figure_met() -> None:
    def pair(name: str, within: bool | None) -> Pair:
        return Pair(name, 1.0, None if within is None else 1.0, None, within)

    both = ("TPOT p50, ms", "energy gross, J")
    assert verdict([pair(name, True) for name in both]) == "all aims met, on this pair of runs"
    assert verdict([pair(both[0], True), pair(both[1], None)]) == (
        "aims not judged, a figure is not known: energy gross, J"
    )
    assert verdict([pair(both[0], False)]).startswith("aims missed: TPOT p50, ms; aims not judged")
