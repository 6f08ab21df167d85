"""Power modes on real agents: ordered, read back, calibrated in each, put back however a run ends."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ground_controller.campaign import run_campaign
from ground_controller.cli.calibrate import calibrate_command, fidelity_command
from ground_controller.journal import Journal
from ground_controller.mode_runs import run_each_mode
from ground_controller.preparation import prepare
from ground_controller.replay import replay_run
from ground_controller.report.metrics import measure
from ground_controller.simulation.board_model import read_calibration
from ground_controller.simulation.mode_model import board_in
from ground_controller.simulation.run import simulate
from hil_config.errors import UsageError
from hil_config.schema.bench import Bench
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.power import Power
from hil_config.schema.profiles import load_profile
from hil_config.wire.messages import NodeEvent, Record, decode
from tests.campaign.boards import AWAY, in_service
from tests.campaign.conftest import SHORT, Launched, write_files
from tests.sensing.boards import write

MODES = "modes: [{name: full, duty: 1.0}, {name: half, duty: 0.5}, {name: tenth, duty: 0.1}]"


def profile(home: Path, modes: str = MODES) -> Path:
    """A profile of the shipped process, with other modes; its watts are modelled too."""
    text = (default_path("bench").parent.parent / "profiles" / "local-process.yaml").read_text()
    head, _, rest = text.partition("modes:")
    path = home / "own-process.yaml"
    path.write_text(f"{head}{modes}\nsource{rest.partition('source')[2]}".replace("name: local-process", "name: own"))
    return path


def said(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """(node, event, details) of what nodes said of their settings."""
    journal = Journal.read(folder)
    try:
        bodies = [(e.node, decode(e.body, Record).body) for e in journal.entries("event")]
        return [
            (node, body.name, dict(body.details))
            for node, body in bodies
            if isinstance(body, NodeEvent) and body.name in {"PowerSet", "SettingsRestored"}
        ]
    finally:
        journal.close()


def test_once_in_each_mode_then_simulated_in_one_that_was_left_out(tmp_path: Path) -> None:
    """The whole way: order, read back, measure, put back; a file by mode; a simulation in a mode that it lacks."""
    own = profile(tmp_path, "modes: [{name: full, duty: 1.0}, {name: half, duty: 0.5}]")
    boards = [{"name": name, "profile": str(own)} for name in ("alpha", "bravo", "charlie", "delta")]
    files = write_files(tmp_path / "files", {"boards": boards}, {"orbit.duration_s": 140})
    out, runs = tmp_path / "boards.json", tmp_path / "runs"
    told = CliRunner().invoke(
        calibrate_command, ["--each-mode", "--runs", str(runs), "--out", str(out), *map(str, files)]
    )
    assert told.exit_code == 0, told.output
    assert "local processes that share the cores of one machine" in told.output
    assert "modelled(own coefficients x CPU time of the agent)" in told.output, "no sensor measured these watts"
    found = read_calibration(out)
    assert [(b.profile, b.mode, b.setting["duty"]) for b in found.boards] == [("own", "full", 1), ("own", "half", 0.5)]
    for board in found.boards:
        assert board.calibrated and f"times measured in run {board.mode} (" in board.origin
        assert {w.kind for w in board.works if w.samples >= 50} >= {"trunk", "expert", "gate"}
        assert all(w.watts > 0.0 for w in board.works)
    for mode, duty in (("full", 1.0), ("half", 0.5)):
        set_to = [details for _, event, details in said(runs / mode) if event == "PowerSet" and "mode" in details]
        assert set_to == [{"duty": duty, "mode": mode}] * 4, "each board read it back"
        back = [node for node, event, details in said(runs / mode) if event == "SettingsRestored"]
        assert sorted(back) == ["alpha", "bravo", "charlie", "delta"]
        assert replay_run(runs / mode).mismatches == 0

    # The mode that the profile has got since is calculated; the others are as calibrated.
    profile(tmp_path)
    load_profile.cache_clear()
    bench, intent = load_bench(files[0]), load_campaign(files[1])
    tenth = prepare(bench, intent.model_copy(update={"power": Power(mode="tenth")}))
    simulate(tenth, tmp_path / "tenth", found)
    assert board_in(found, tenth.profiles[0], "half") == found.boards[1]
    source = measure(tmp_path / "tenth").sources["work of own in mode tenth"]
    assert source.startswith("modelled(extrapolated from mode full by duty ratio 0.1; full: times measured in run full")
    half = prepare(bench, intent.model_copy(update={"power": Power(mode="half")}))
    simulate(half, tmp_path / "half", found)
    told = CliRunner().invoke(fidelity_command, [str(runs / "half"), str(tmp_path / "half")])
    assert told.exit_code == 0, told.output
    assert "mode half of own: calibrated: times measured in run half" in told.output
    compared = json.loads(
        CliRunner().invoke(fidelity_command, [str(runs / "half"), str(tmp_path / "half"), "--json"]).output
    )
    pairs = compared["figures"]
    assert [(use["mode"], use["calibrated"]) for use in compared["modes"]] == [("half", True)]
    shares = [pair for pair in pairs if pair["name"].endswith("in mode half")]
    assert len(shares) == 4 and all(p["simulated"] == pytest.approx(1.0) for p in shares)
    assert all(0.5 < p["real"] <= 1.0 for p in shares), "a real board gets there a moment after the run began"


def test_heat_lowers_a_real_nodes_mode_and_replay_agrees(tmp_path: Path) -> None:
    own = profile(tmp_path)
    boards = [{"name": name, "profile": str(own)} for name in ("alpha", "bravo", "charlie", "delta")]
    files = write_files(
        tmp_path / "files", {"boards": boards},
        {**SHORT, "power": {"ease_above_c": 49.0}, "twin.limits.temperature_soft_c": 59},
    )  # fmt: skip
    prepared = prepare(load_bench(files[0]), load_campaign(files[1]))
    run_campaign(prepared, tmp_path / "run", lambda _progress: None)
    found = [(node, details["mode"]) for node, event, details in said(tmp_path / "run") if "mode" in details]
    assert next(mode for node, mode in found if node == "alpha") == "full"
    assert ("charlie", "half") in found and ("delta", "half") in found, "they begin above 49 C"
    assert replay_run(tmp_path / "run").mismatches == 0


def test_boards_in_service_get_their_modes_back(tmp_path: Path) -> None:
    """A run that is interrupted puts them back itself; after one that was killed the next one finds them as before."""
    own = profile(tmp_path)
    with in_service(tmp_path, str(own)) as bench, ExitStack() as stack:
        run = bench.start(stack, "interrupted", power={"mode": "tenth"}, orbit__duration_s=400)
        Launched(tmp_path / "interrupted", run).wait_tokens(1)
        run.send_signal(signal.SIGINT)
        assert run.wait(60.0) == 130
        journal = Journal.read(tmp_path / "interrupted")
        assert json.loads(journal.meta("modes_left")) == []
        journal.close()
        run = bench.start(stack, "killed", power={"mode": "tenth"}, orbit__duration_s=400)
        Launched(tmp_path / "killed", run).wait_tokens(1)
        run.kill()
        run.wait(30.0)
        done = bench.run("next", "--take-over")
        assert done.returncode == 0, f"{done.stderr}\n{bench.logs()}"
        restored = [node for node, _, details in said(tmp_path / "next") if details.get("by") == "the next run"]
        assert sorted(restored) == ["bravo", "charlie"]
        late = [details.get("by") for _, _, details in said(tmp_path / "killed")]
        assert "the next run" not in late, "the interrupted run had put back what it set"


def test_a_cap_of_the_cores_is_written_read_back_and_taken_away(tmp_path: Path) -> None:
    """Two boards with the kernel's files in a folder; the processes of this machine stay in their first mode."""
    caps = "modes: [{name: fast, cpu_khz: 1800000}, {name: slow, cpu_khz: 900000}]"
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    limits = {"scaling_max_freq": "1700000", "cpuinfo_min_freq": "600000", "cpuinfo_max_freq": "1800000"}
    roots = {
        node: write(tmp_path / f"{node}-root", {f"{policy}/{name}": khz for name, khz in limits.items()})
        for node in AWAY
    }

    def now() -> list[str]:
        return [(root / policy / "scaling_max_freq").read_text().strip() for root in roots.values()]

    with in_service(tmp_path, "local-process", str(profile(tmp_path, caps)), roots) as bench, ExitStack() as stack:
        run = bench.start(stack, "run", power={"mode": "slow"}, orbit__duration_s=400)
        Launched(tmp_path / "run", run).wait_tokens(1)
        assert now() == ["900000", "900000"]
        run.send_signal(signal.SIGINT)
        assert run.wait(60.0) == 130
        assert now() == ["1700000", "1700000"], "as they were before the run, which is none of the modes"
        set_to = {node: details for node, event, details in said(tmp_path / "run") if "mode" in details}
        assert set_to["bravo"] == {"duty": 1.0, "mode": "slow", "cpu_khz": "900000"}
        assert set_to["alpha"] == {"duty": 1.0, "mode": "full"}


def test_a_mode_that_a_board_cannot_be_set_to_ends_the_run_and_says_so(tmp_path: Path) -> None:
    with in_service(tmp_path) as bench:  # raspberry-pi-5, whose modes are caps of a frequency that no cpufreq sets here
        done = bench.run("refused", power={"mode": "1500MHz"})
        assert done.returncode == 2, done.stderr
        assert "cpu_khz: this board cannot set that" in done.stderr
        assert bench.run("after").returncode == 0


def test_a_bench_without_modes_has_no_programme(tmp_path: Path) -> None:
    bench = load_bench(default_path("bench"))
    jetsons = tuple(board.model_copy(update={"profile": "jetson-orin-nano"}) for board in bench.boards)
    without = Bench(bench="b", boards=jetsons)
    with pytest.raises(UsageError, match="no real board offers power modes"):
        run_each_mode(without, load_campaign(default_path("campaign")), tmp_path, lambda _mode, _progress: None)
