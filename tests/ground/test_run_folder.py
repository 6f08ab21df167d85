"""What a run folder says of itself, and which ones are read."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from ground_controller.preparation import prepare
from ground_controller.report.metrics import measure
from ground_controller.run_folder import MANIFEST, changed_files, open_run, read_manifest, write_manifest
from ground_controller.simulation.run import simulate
from ground_controller.software import software
from ground_controller.telemetry.export import export_run
from ground_controller.verification.verify import verify_run
from hil_config.errors import InvalidRunError
from hil_config.schema.load import default_path, load_bench, load_campaign


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": 60.0})
    folder = tmp_path_factory.mktemp("folder") / "run"
    simulate(prepare(load_bench(default_path("bench")), campaign.model_copy(update={"orbit": orbit})), folder)
    write_manifest(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(run: Path, command: str, *values: object) -> None:
    db = sqlite3.connect(run / "journal.sqlite")
    with db:
        db.execute(command, values)
    db.close()


def test_a_manifest_says_what_made_the_run(run: Path) -> None:
    m = read_manifest(run)
    assert (m.format, m.kind, m.complete, m.seed, m.journal_version) == (1, "simulated", True, 1, 2)
    assert m.software == software()
    assert {"numpy", "msgspec"} <= set(software().libraries)
    assert [board.name for board in m.boards] == ["alpha", "bravo", "charlie", "delta"]
    assert all(board.boot_ids for board in m.boards)
    assert {"bench", "campaign", "config", "manifest", "schedule", "profiles"} <= set(m.hashes)
    journal = m.files["journal.sqlite"]
    assert journal.role == "record"
    assert journal.sha256 == hashlib.sha256((run / "journal.sqlite").read_bytes()).hexdigest()
    assert changed_files(run, m) == ()


def test_export_and_manifest_name_each_other(run: Path) -> None:
    files = export_run(run, ("csv",))
    m = read_manifest(run)
    assert {path.relative_to(run).as_posix() for path in files} <= set(m.files)
    assert m.changed == (), "reading the journal changes no byte of it"
    files[0].write_text("changed")
    assert changed_files(run, m) == (f"export/{files[0].name}",)
    assert changed_files(run, m, ("record",)) == ()


def test_a_journal_changed_after_the_end_is_named_and_stays_named(run: Path) -> None:
    edit(run, "UPDATE entry SET scenario_s = scenario_s + 1 WHERE id = 5")
    assert write_manifest(run).changed == ("journal.sqlite",)
    assert write_manifest(run).changed == ("journal.sqlite",), "a second one does not bless it"
    (failed,) = [check for check in verify_run(run) if check.name == "record files"]
    assert failed.outcome == "fail" and "journal.sqlite" in failed.where


def test_a_folder_without_a_manifest_is_read_and_brought_up(run: Path) -> None:
    """As folders were before there was one: nothing of the software was recorded."""
    (run / MANIFEST).unlink()
    edit(run, "DELETE FROM meta WHERE key = 'software'")
    assert measure(run).tokens > 0
    m = write_manifest(run)
    assert (m.format, m.software) == (1, None)
    open_run(run).close()


def test_later_formats_are_refused_by_name(run: Path) -> None:
    told = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps({**told, "format": 2, "news": 1}))
    for reader in (measure, export_run, write_manifest):
        with pytest.raises(InvalidRunError, match="run folder of format 2, this release reads up to 1") as refused:
            reader(run)
        assert "install the release" in refused.value.hint


def test_a_journal_of_another_version_is_refused(run: Path) -> None:
    edit(run, "UPDATE meta SET value = '3' WHERE key = 'schema_version'")
    with pytest.raises(InvalidRunError, match="journal version 3, this release reads 1, 2"):
        measure(run)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}', b"[1]"])
def test_a_damaged_manifest_says_what_to_do(run: Path, damage: bytes) -> None:
    (run / MANIFEST).write_bytes(damage)
    with pytest.raises(InvalidRunError) as refused:
        open_run(run)
    assert "remove it" in refused.value.hint
    (run / MANIFEST).unlink()
    assert write_manifest(run).files


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRunError, match="not a run folder"):
        write_manifest(tmp_path)
