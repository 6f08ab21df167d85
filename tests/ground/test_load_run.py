"""A run in every data-frame library in one line, with units and provenance; and the notebook that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from ground_controller import load_run
from ground_controller.preparation import prepare
from ground_controller.run_data import RunData
from ground_controller.simulation.run import simulate
from hil_config.errors import InvalidRunError, UsageError
from hil_config.schema.load import default_path, load_bench, load_campaign

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/notebooks/read-a-run.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": 100.0})
    made = tmp_path_factory.mktemp("load") / "run"
    simulate(prepare(load_bench(default_path("bench")), campaign.model_copy(update={"orbit": orbit})), made)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> RunData:
    return load_run(str(folder))


def test_three_libraries_give_the_same_tokens(run: RunData) -> None:
    a, b = run.pandas("tokens"), run.polars("tokens")
    c = run.sql("SELECT * FROM tokens")
    assert len(a) == run.metrics.tokens > 0
    assert list(a["since_us"]) == b["since_us"].to_list() == list(c["since_us"])
    assert list(a.columns) == b.columns == list(c.columns) == list(run.columns("tokens"))


def test_every_column_has_unit_and_provenance(run: RunData) -> None:
    for table in run.tables:
        frame = run.pandas(table)
        for name, (unit, provenance) in run.columns(table).items():
            assert provenance.partition("(")[0] in {"measured", "modelled", "fake"}, (table, name)
            assert frame.attrs["unit"][name] == unit
            assert frame.attrs["provenance"][name] == provenance
            assert run.arrow(table).schema.field(name).metadata[b"unit"] == unit.encode()
    assert run.columns("samples")["power_w"].unit == "W"
    assert run.columns("samples")["power_w"].provenance.startswith("modelled(")


def test_sql_joins_tables(run: RunData) -> None:
    found = run.sql("SELECT r.domain, count(*) AS tokens FROM tokens t JOIN requests r USING (request) GROUP BY ALL")
    assert isinstance(found, pd.DataFrame) and found["tokens"].sum() > 0


def test_types_are_kept_in_empty_and_full_columns(run: RunData) -> None:
    tokens = run.pandas("tokens")
    assert (
        tokens["first"].dtype == bool and tokens["request"].dtype.kind == "i" and tokens["since_us"].dtype.kind == "f"
    )


def test_wrong_table_and_no_run(run: RunData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="table 'token', wanted one of samples"):
        run.pandas("token")
    with pytest.raises(InvalidRunError, match="not a run folder"):
        load_run(tmp_path)


def test_nothing_heavy_is_imported_with_the_package() -> None:
    heavy = "{'pandas', 'polars', 'duckdb', 'pyarrow'}"
    code = f"import sys, ground_controller; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_notebook_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_RUN", str(folder))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # no types
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    done = NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(folder.parent))
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    texts = "".join(o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)
    assert "Modelled: " in texts and "energy gross a token" in texts and "not_carried" in texts
