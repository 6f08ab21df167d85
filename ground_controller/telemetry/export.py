"""Parquet and CSV from a run's journal. Parquet fields carry `unit` and `provenance` in their metadata."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ground_controller.run_folder import open_run, write_manifest
from ground_controller.telemetry.tables import Table, all_tables
from hil_config.errors import EnvironmentFault, UsageError

FORMATS = ("parquet", "csv")
_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "flag": pa.bool_(),
    "json": pa.string(),
}


def arrow_table(table: Table) -> pa.Table:
    """The table with units and provenance in the schema."""
    schema = pa.schema(
        [
            pa.field(c.name, _TYPES[c.kind], metadata={"unit": c.unit, "provenance": str(c.provenance)})
            for c in table.columns
        ],
        metadata={"table": table.name, "source": "SpaceMoE-HIL journal"},
    )
    columns = list(zip(*table.rows(), strict=True)) or [()] * len(table.columns)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def export_run(folder: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Write every table of the run to `folder/export/`; returns the files. Each appears whole or not at all."""
    if unknown := set(formats) - set(FORMATS):
        raise UsageError(f"unknown export format {', '.join(sorted(unknown))}", f"choose from {', '.join(FORMATS)}")
    journal = open_run(folder)
    out = folder / "export"
    written = []
    try:
        out.mkdir(exist_ok=True)
        for table in all_tables(journal):
            arrow = arrow_table(table)
            for kind in formats:
                path = out / f"{table.name}.{kind}"
                part = path.with_suffix(f".{kind}.part")
                if kind == "parquet":
                    pyarrow.parquet.write_table(arrow, part, compression="zstd")
                else:
                    pyarrow.csv.write_csv(arrow, part)
                part.replace(path)
                written.append(path)
    except OSError as error:
        raise EnvironmentFault(f"{out}: {error.strerror or error}", "check free space and permissions") from error
    finally:
        journal.close()
    write_manifest(folder)
    return written
