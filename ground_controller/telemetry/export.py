"""A run's tables as files for other programs. Fields of Parquet and Arrow have `unit` and `provenance` in metadata."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timezone
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from ground_controller.journal import Journal
from ground_controller.orbit.instant import parse_instant
from ground_controller.run_folder import open_models, open_run, write_manifest
from ground_controller.telemetry.influx import column_lines, lines
from ground_controller.telemetry.mcap_file import write_mcap
from ground_controller.telemetry.tables import Table, all_tables
from hil_config.errors import EnvironmentFault, UsageError

FORMATS = ("parquet", "csv", "arrow", "influx", "mcap")
DEFAULT = ("parquet", "csv")
_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "flag": pa.bool_(),
    "json": pa.string(),
}
_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": lambda table, path: pyarrow.parquet.write_table(table, path, compression="zstd"),
    "csv": pyarrow.csv.write_csv,
    "arrow": lambda table, path: pyarrow.feather.write_feather(table, path, compression="zstd"),
}
"""Formats with a file for each table; the others have one for the run."""


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


def export_run(folder: Path, formats: tuple[str, ...] = DEFAULT) -> list[Path]:
    """Write every table of the run to `folder/export/`; returns the files. Each appears whole or not at all.

    Tables of the model nodes of a fleet with real ones go into `export/models/`, by table formats only.

    Raises:
        UsageError: a format that is none of `FORMATS`.
        EnvironmentFault: the folder cannot be written, or a library is missing.
    """
    if unknown := set(formats) - set(FORMATS):
        raise UsageError(f"unknown export format {', '.join(sorted(unknown))}", f"choose from {', '.join(FORMATS)}")
    journal = open_run(folder)
    out = folder / "export"
    written: list[Path] = []
    try:
        out.mkdir(exist_ok=True)
        by_table = [kind for kind in FORMATS if kind in formats and kind in _WRITERS]
        _write_tables(journal, out, by_table, written)
        if (models := open_models(folder)) is not None:
            try:
                _write_tables(models, out / "models", by_table, written)
            finally:
                models.close()
        if "influx" in formats:
            _whole(out / "run.lp", lambda part: _write_lines(part, journal), written)
        if "mcap" in formats:
            told = {key: journal.meta(key) for key in ("run", "config_sha256", "schedule_sha256", "began_utc")}
            tables = all_tables(journal)
            _whole(out / "run.mcap", lambda part: write_mcap(part, tables, told, _epoch_ns(journal)), written)
    except OSError as error:
        raise EnvironmentFault(f"{out}: {error.strerror or error}", "check free space and permissions") from error
    finally:
        journal.close()
    write_manifest(folder)
    return written


def _write_tables(journal: Journal, out: Path, kinds: list[str], written: list[Path]) -> None:
    """A file for each table and kind."""
    out.mkdir(exist_ok=True)
    for table in all_tables(journal) if kinds else ():
        arrow = arrow_table(table)
        for kind in kinds:
            _whole(out / f"{table.name}.{kind}", lambda part, k=kind, t=arrow: _WRITERS[k](t, part), written)  # type: ignore[misc]


def _whole(path: Path, write: Callable[[Path], None], written: list[Path]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    written.append(path)


def _epoch_ns(journal: Journal) -> int:
    """Unix nanoseconds at scenario second 0."""
    instant = parse_instant(msgspec.json.decode(journal.meta("campaign"))["orbit"]["epoch_utc"])
    aware = instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
    return round(aware.timestamp() * 1e6) * 1000


def _write_lines(path: Path, journal: Journal) -> None:
    tables, run, epoch_ns = all_tables(journal), journal.meta("run"), _epoch_ns(journal)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in column_lines(tables, run, epoch_ns))
        for table in tables:
            file.writelines(f"{line}\n" for line in lines(table, run, epoch_ns))
