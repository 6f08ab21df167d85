"""Simulated runs whose process was killed end as unbroken ones; what was changed or is under way is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.soak.controller_kills import broken_run, campaign_file, killed_at, simulate
from ground_controller.journal import Journal
from ground_controller.preparation import prepare
from ground_controller.run_lock import RunLock
from ground_controller.simulation.continuation import content_hash, continue_simulation
from ground_controller.simulation.run import simulate as simulate_here
from hil_config.errors import EnvironmentFault, InvalidRunError, UsageError
from hil_config.schema.load import default_path, load_bench, load_campaign


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("continuation")
    simulate_here(prepare(load_bench(default_path("bench")), load_campaign(campaign_file(home))), home / "unbroken")
    return home / "unbroken"


def entries(folder: Path) -> int:
    journal = Journal.read(folder)
    try:
        return sum(1 for _ in journal.entries())
    finally:
        journal.close()


def test_killed_four_times(unbroken: Path) -> None:
    broken = unbroken.with_name("broken")
    met = broken_run(campaign_file(unbroken.parent), broken, entries(unbroken), kills=4, seed=7)
    assert met >= 1
    assert entries(broken) == entries(unbroken)
    assert content_hash(broken) == content_hash(unbroken)


def test_a_changed_record_is_found(unbroken: Path) -> None:
    folder = unbroken.with_name("changed")
    assert killed_at(simulate(campaign_file(unbroken.parent), folder), folder, 200)
    db = sqlite3.connect(folder / "journal.sqlite")
    with db:
        db.execute("UPDATE entry SET scenario_s = scenario_s + 1 WHERE id = 100")
    db.close()
    with pytest.raises(InvalidRunError, match=r"entry 100 .* is not what the same simulation gives now"):
        continue_simulation(folder)


def test_refused(unbroken: Path) -> None:
    with pytest.raises(UsageError, match="this run has ended"):
        continue_simulation(unbroken)
    lock = RunLock(unbroken)
    with pytest.raises(EnvironmentFault, match=r"process \d+ is running this run"):
        RunLock(unbroken)
    lock.release()
    RunLock(unbroken).release()
