"""Sweeps: cells and their keys, processes of this machine and a Dask cluster, what fails, going on, the table."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ground_controller.cli.sweep import sweep_command
from ground_controller.simulation.board_model import DEFAULT
from ground_controller.sweep.cells import SweepCell, cells_of, policy_axis, seeds_of, value_axes, value_axis, with_axes
from ground_controller.sweep.execute import CellResult, run_cell
from ground_controller.sweep.pools import DIED, in_processes, on_cluster
from ground_controller.sweep.run import TABLE, run_sweep
from ground_controller.sweep.table import unit_of
from hil_config.errors import ConfigError, EnvironmentFault, InvalidRunError, UsageError
from hil_config.schema.load import default_path, load_bench
from hil_config.schema.profiles import PROFILES
from hil_config.schema.yaml_text import read_yaml

BENCH = load_bench(default_path("bench"))


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """The demonstration, ten orbit seconds of it."""
    text = default_path("campaign").read_text(encoding="utf-8")
    path = tmp_path / "campaign.yaml"
    path.write_text(text.replace("duration_s: 600", "duration_s: 10"), encoding="utf-8")
    return path


def cells(campaign: Path, policies: Sequence[str], seeds: Sequence[int], *changes: str) -> list[SweepCell]:
    axes = policy_axis(policies) | value_axes(changes)
    return cells_of(BENCH, with_axes(read_yaml(campaign), axes, seeds), DEFAULT, 1)


def modelled(result: CellResult) -> dict[str, float | None]:
    """The figures without those of a clock."""
    return {key: value for key, value in result.figures.items() if not key.startswith(("decide_ms", "lateness_ms"))}


def nothing(done: int, total: int, note: str) -> None:
    """Nobody watches."""


def test_cells_are_variants_times_seeds_each_with_its_own_key(campaign: Path) -> None:
    found = cells(campaign, ("topk", "lyapunov"), (1, 2), "twin.platform.battery_wh=40,60.5")
    assert len(found) == 8 == len({cell.key for cell in found})
    assert found[0].labels == {"policy": "topk", "twin_platform_battery_wh": "40"} and found[1].seed == 2
    inner = json.loads(found[-1].campaign)
    assert inner["twin"]["platform"]["battery_wh"] == 60.5 and inner["policies"]["selection"]["name"] == "lyapunov"
    assert cells(campaign, ("topk",), (1,))[0].key == cells(campaign, ("topk",), (1,))[0].key


def test_a_file_that_the_campaign_names_is_part_of_the_key(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the command is given in the campaign's folder, and the file has a bare name."""
    monkeypatch.chdir(tmp_path)
    demo = campaign.read_text(encoding="utf-8")
    prompts = tmp_path / "prompts.json"
    for written in (str(prompts), prompts.name):
        prompts.write_text('[{"domain": "a", "text": "one"}]')
        campaign.write_text(demo.replace("prompts: reference", f"prompts: {written}"))
        (before,) = cells(Path(campaign.name), (), (1,))
        prompts.write_text('[{"domain": "a", "text": "two"}]')
        (after,) = cells(Path(campaign.name), (), (1,))
        assert before.campaign == after.campaign and before.key != after.key


def test_a_profile_of_ones_own_is_part_of_the_key(campaign: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    ours = (PROFILES / "raspberry-pi-5.yaml").read_text(encoding="utf-8").replace("raspberry-pi-5", "mine")
    bench = tmp_path / "bench.yaml"
    bench.write_text(default_path("bench").read_text(encoding="utf-8").replace("local-process", str(profile)))
    keys = set()
    for text in (ours, ours + "\n# looked at again\n"):
        profile.write_text(text, encoding="utf-8")
        (cell,) = cells_of(load_bench(bench), read_yaml(campaign), DEFAULT, 1)
        keys.add(cell.key)
    assert len(keys) == 2


def test_an_axis_of_the_file_and_a_mistake_in_an_option_are_told(campaign: Path) -> None:
    campaign.write_text(
        campaign.read_text() + "\nmatrix:\n  axes:\n    policy:\n      plain: {policies.selection: {name: topk}}\n"
    )
    (only,) = cells(campaign, (), ())
    assert only.labels == {"policy": "plain"} and only.seed == 1
    with pytest.raises(ConfigError, match="has 'policy' already"):
        cells(campaign, ("lyapunov",), ())
    with pytest.raises(ConfigError, match="nonsense"):
        cells(campaign, (), (), "twin.nonsense=1")
    with pytest.raises(ConfigError, match=r"matrix\.seeds\[1\]: found 4294967296, wanted a whole number from 0 to"):
        cells(campaign, (), (1, 2**32))
    campaign.write_text(campaign.read_text() + "  repeats: 2\n")
    with pytest.raises(ConfigError, match="once"):
        cells(campaign, (), ())


def test_seeds_and_values_are_read_or_refused() -> None:
    assert seeds_of("1-3,7") == (1, 2, 3, 7)
    assert value_axis("orbit.relay=none,mapped") == {
        "orbit_relay": {"none": {"orbit.relay": "none"}, "mapped": {"orbit.relay": "mapped"}}
    }
    for wrong in ("x", "5-2", "1,,2"):
        with pytest.raises(UsageError, match="--seeds"):
            seeds_of(wrong)
    assert len(value_axis("key=1,true")["key"]) == 2
    for wrong in ("key", "key=", "key=1,1", "key=40,4e1", "key=1,1.0"):
        with pytest.raises(UsageError, match="--set"):
            value_axis(wrong)
    with pytest.raises(UsageError, match="its key is there twice"):
        value_axes(("a.b=1,2", "a.c=1", "a.b=3"))


def test_a_failed_cell_is_recorded_and_only_it_runs_again(campaign: Path, tmp_path: Path) -> None:
    """48 tokens fit the model's context, 250 do not: half of the cells fail, the table has all of them."""
    asked = cells(campaign, ("topk",), (1, 2), "workload.max_new_tokens=16,250")
    ran: list[int] = []

    def counted(missing: Sequence[SweepCell]) -> Iterator[CellResult]:
        ran.append(len(missing))
        return map(run_cell, missing)

    out = tmp_path / "out"
    first = run_sweep(out, asked, counted, nothing)
    assert len(first.failed) == 2 and all("max_new_tokens is 250" in r.error for _, r in first.failed)
    again = run_sweep(out, asked, counted, nothing)
    assert ran == [4, 2] and again.skipped == 2
    table = pq.read_table(out / TABLE)
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    assert rows[0]["tokens"] > 0 and rows[2]["tokens"] is None and "ConfigError" in rows[2]["error"]
    assert [row["set.workload.max_new_tokens"] for row in rows] == [16, 16, 250, 250]
    field = table.schema.field("gross_j_per_token").metadata
    assert field[b"unit"] == b"J/token" and b"model" in field[b"provenance"]
    assert table.schema.metadata[b"provenance"].startswith(b"modelled")
    assert rows[0]["energy_gross_j"] != rows[1]["energy_gross_j"] or rows[0]["tokens"] != rows[1]["tokens"]


def test_a_broken_off_sweep_keeps_what_it_had(campaign: Path, tmp_path: Path) -> None:
    asked = cells(campaign, ("topk",), (1, 2))

    def broken(missing: Sequence[SweepCell]) -> Iterator[CellResult]:
        yield run_cell(missing[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(tmp_path / "out", asked, broken, nothing)
    assert pq.read_table(tmp_path / "out" / TABLE).num_rows == 1
    kept = tmp_path / "out" / "cells" / f"{asked[0].key}.json"
    kept.write_bytes(kept.read_bytes()[:40])  # as after a full disk
    done = run_sweep(tmp_path / "out", asked[:1], lambda missing: iter([run_cell(missing[0])]), nothing)
    assert done.skipped == 0 and not done.failed


def test_a_process_that_dies_takes_no_other_cell_with_it(campaign: Path) -> None:
    asked = cells(campaign, ("topk", "tests.sweep.deadly:Deadly"), (1,))
    found = {result.key: result for result in in_processes(asked, 2)}
    assert [found[cell.key].error for cell in asked] == ["", DIED]


def test_a_cluster_gives_what_this_machine_gives(campaign: Path) -> None:
    distributed = pytest.importorskip("distributed")
    asked = cells(campaign, ("topk",), (1,), "workload.max_new_tokens=16,250")
    here = {cell.key: run_cell(cell) for cell in asked}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        there = {result.key: result for result in on_cluster(asked, cluster.scheduler_address)}
    assert {key: modelled(result) for key, result in there.items()} == {key: modelled(r) for key, r in here.items()}
    assert [bool(there[cell.key].error) for cell in asked] == [False, True]


def test_a_scheduler_that_is_not_there_is_told() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(EnvironmentFault, match="no scheduler answers"):
        list(on_cluster([], "nonsense://127.0.0.1:1"))


def test_the_command_prints_a_table_and_fails_where_a_cell_did(campaign: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = ["--set", "workload.max_new_tokens=16,250", "--jobs", "1", "--out", str(out)]
    found = CliRunner().invoke(sweep_command, [str(default_path("bench")), str(campaign), *told, "--json"])
    assert isinstance(found.exception, InvalidRunError) and "1 of 2 cells failed" in found.exception.message
    line = json.loads([text for text in found.stdout.splitlines() if text.startswith("{")][-1])
    assert line["cells"] == 2 and len(line["failed"]) == 1 and Path(line["table"]).exists()


def test_every_figure_has_the_unit_its_name_ends_in() -> None:
    assert [unit_of(name) for name in ("tpot_ms", "tokens_per_s", "gross_j_per_token", "energy_net_j", "tokens")] == [
        "ms", "1/s", "J/token", "J", "count",
    ]  # fmt: skip
    keys = ("twin.platform.battery_wh", "orbit.link_rate_mbit_s", "orbit.duration_s", "orbit.rate", "workload.requests")
    assert [unit_of(key, "") for key in keys] == ["Wh", "Mbit/s", "s", "", ""]


def test_only_what_took_time_here_is_called_measured(campaign: Path) -> None:
    """A tick of a stepped clock is never late: that is no measurement."""
    found = run_cell(cells(campaign, ("topk",), (1,))[0])
    assert not found.error
    measured = {name for name, source in found.sources.items() if source.startswith("measured")}
    assert measured == {f"decide_ms_{statistic}" for statistic in ("p50", "p95", "p99", "max")}


def test_processes_end_with_a_command_that_is_killed(campaign: Path, tmp_path: Path) -> None:
    """They would wait for their next cell for ever, each with the model in memory."""
    campaign.write_text(campaign.read_text().replace("duration_s: 10", "duration_s: 600"))
    told = ["sweep", str(default_path("bench")), str(campaign), "--seeds", "1-20", "--jobs", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "hil_config.door", *told, "--out", str(tmp_path / "out")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found: list[psutil.Process] = []
    pause, deadline = threading.Event(), time.monotonic() + 60.0
    while len(found) < 3:  # two at work, and the one that keeps count of what they share
        assert command.poll() is None and time.monotonic() < deadline
        pause.wait(0.05)
        found = psutil.Process(command.pid).children()
    command.kill()
    command.wait()
    gone, alive = psutil.wait_procs(found, timeout=30.0)
    for left in alive:
        left.kill()
    assert len(gone) == 3 and not alive


def test_cells_travel_between_processes(campaign: Path) -> None:
    (cell,) = cells(campaign, ("topk",), (3,))
    assert msgspec.json.decode(msgspec.json.encode(cell), type=SweepCell) == cell
    assert partial(run_cell, cell).args == (cell,)
