"""A run as data frames: its tables in pandas, polars, DuckDB or Arrow, each column with its unit and its provenance.

The data-frame libraries are imported when they are asked for; none of them is needed by anything else here.
"""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ground_controller.run_folder import MANIFEST, RunManifest, open_run, read_manifest, write_manifest
from ground_controller.telemetry.tables import Table, all_tables
from hil_config.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    import duckdb as dd
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from ground_controller.report.metrics import Metrics


class ColumnFacts(NamedTuple):
    """`unit`: "" where there is none, "1" for a share. `provenance`: `measured(...)`, `modelled(...)`, `fake(...)`."""

    unit: str
    provenance: str


class RunData:
    """One run; made by `ground_controller.load_run`. Nothing is read before it is asked for, and then once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrow: dict[str, pa.Table] = {}
        journal = open_run(folder)
        try:
            self._columns = {one.name: one.columns for one in all_tables(journal)}
        finally:
            journal.close()

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables (docs/reference/run-folder.md)."""
        return tuple(self._columns)

    def columns(self, table: str) -> dict[str, ColumnFacts]:
        """Unit and provenance of each column of a table."""
        return {c.name: ColumnFacts(c.unit, str(c.provenance)) for c in self._columns[self._known(table)]}

    @cached_property
    def manifest(self) -> RunManifest:
        """What made the run; written now for a folder that has none."""
        return read_manifest(self.folder) if (self.folder / MANIFEST).exists() else write_manifest(self.folder)

    @cached_property
    def metrics(self) -> Metrics:
        """The numbers of `hil report` (docs/reference/metrics.md)."""
        from ground_controller.report.metrics import measure

        return measure(self.folder)

    def arrow(self, table: str) -> pa.Table:
        """A table; its fields carry `unit` and `provenance` in their metadata."""
        if self._known(table) not in self._arrow:
            from ground_controller.telemetry.export import arrow_table

            journal = open_run(self.folder)
            try:
                chosen: Table = next(one for one in all_tables(journal) if one.name == table)
                self._arrow[table] = arrow_table(chosen)
            finally:
                journal.close()
        return self._arrow[table]

    def pandas(self, table: str) -> pd.DataFrame:
        """A table; `attrs["unit"]` and `attrs["provenance"]` hold a text by column."""
        _library("pandas")
        frame = self.arrow(table).to_pandas()
        for fact in ColumnFacts._fields:
            frame.attrs[fact] = {name: getattr(facts, fact) for name, facts in self.columns(table).items()}
        return frame

    def polars(self, table: str) -> pl.DataFrame:
        """A table; units and provenance are in `columns(table)`: polars keeps no metadata of columns."""
        frame: pl.DataFrame = _library("polars").from_arrow(self.arrow(table))
        return frame

    def duckdb(self) -> dd.DuckDBPyConnection:
        """A DuckDB in memory with every table by its name."""
        connection: dd.DuckDBPyConnection = _library("duckdb").connect()
        for name in self.tables:
            connection.register(name, self.arrow(name))
        return connection

    def sql(self, query: str) -> pd.DataFrame:
        """The answer of DuckDB to a query over the tables."""
        _library("pandas")
        connection = self.duckdb()
        try:
            return connection.sql(query).df()
        finally:
            connection.close()

    def _known(self, table: str) -> str:
        if table not in self._columns:
            raise UsageError(f"table {table!r}, wanted one of {', '.join(self._columns)}")
        return table


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EnvironmentFault(f"{name} is not installed", "pip install 'spacemoe-hil[data]'") from error
