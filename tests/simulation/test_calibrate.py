"""Calibration from a real run on local nodes, and its simulation beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.optimize import nnls

from ground_controller.campaign import run_campaign
from ground_controller.cli.calibrate import verdict
from ground_controller.interruption import KIND, RunResumed
from ground_controller.journal import Entry, Journal
from ground_controller.preparation import prepare
from ground_controller.simulation.board_model import DEFAULT, read_calibration, write_calibration
from ground_controller.simulation.fidelity import Pair, compare, power_of
from ground_controller.simulation.fit import calibrate_run, fit_line
from ground_controller.simulation.run import simulate
from hil_config.errors import DataFileError, EnvironmentFault, InvalidRunError
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.profiles import load_profile
from hil_config.wire import messages as m


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
            moved = msgspec.structs.replace(body, mono_ns=then)
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
