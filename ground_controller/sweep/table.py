"""The table of a sweep: one row a cell, in Parquet, with units and provenance in its schema."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet

from ground_controller.sweep.cells import SweepCell
from ground_controller.sweep.execute import CLOCK, FIGURES, CellResult, column_of

_UNITS = (
    ("_ms", "ms"), ("_s", "s"), ("_j", "J"), ("_c", "degC"), ("_v", "V"), ("_per_s", "1/s"), ("_per_token", "J/token"),
    ("_share", "1"), ("_nats", "nat/token"),
    ("_wh", "Wh"), ("_w", "W"), ("_j_k", "J/K"), ("_k_w", "K/W"), ("_m", "m"), ("_m2", "m2"), ("_km", "km"),
    ("_deg", "deg"), ("_deg_s", "deg/s"), ("_mbit_s", "Mbit/s"), ("_j_per_bit", "J/bit"), ("_ohm", "ohm"),
    ("_percent", "%"),
)  # fmt: skip
_OTHERS = {"charge_end": "1", "wear": "full discharges", "kept_mass": "1", "agreement": "1"}


def unit_of(name: str, other: str = "count") -> str:
    """The unit that the name of a figure or of a campaign's key ends in; `1` for shares, `other` where it has none."""
    if name in _OTHERS:
        return _OTHERS[name]
    fits = [(end, unit) for end, unit in _UNITS if name.endswith(end)]
    return max(fits, key=lambda pair: len(pair[0]))[1] if fits else other


def table_of(cells: Sequence[SweepCell], results: Sequence[CellResult]) -> pa.Table:
    """Rows in the order of the cells. Columns: axes (their variants), changed keys, seed, how it went, figures.

    A figure of a failed cell is null. Every field's metadata has `unit` and `provenance`; the schema's has the release,
    and the bench and board models that all cells share.
    """
    by_key = {result.key: result for result in results}
    rows = [(cell, by_key[cell.key]) for cell in cells if cell.key in by_key]
    fields: list[pa.Field] = []
    columns: list[pa.Array] = []

    def add(name: str, kind: pa.DataType, values: list[Any], unit: str, provenance: str) -> None:
        fields.append(pa.field(name, kind, metadata={"unit": unit, "provenance": provenance}))
        columns.append(pa.array(values, kind))

    for axis in dict.fromkeys(axis for cell in cells for axis in cell.labels):
        add(f"axis.{axis}", pa.string(), [cell.labels.get(axis) for cell, _ in rows], "", "configured: variant")
    for key in dict.fromkeys(key for cell in cells for key in cell.changes):
        values = [cell.changes.get(key) for cell, _ in rows]
        numbers = all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values)
        shown = values if numbers else [None if v is None else _text(v) for v in values]
        add(
            f"set.{key}", pa.float64() if numbers else pa.string(), shown, unit_of(key, "") if numbers else "",
            "configured",
        )  # fmt: skip
    add("seed", pa.int64(), [cell.seed for cell, _ in rows], "", "configured")
    add("stride", pa.int64(), [cell.stride for cell, _ in rows], "", "configured: 1 of so many seconds in detail")
    add("status", pa.string(), ["failed" if r.error else "done" for _, r in rows], "", "of the sweep")
    add("error", pa.string(), [r.error or None for _, r in rows], "", "of the sweep")
    for metric, statistic in FIGURES:
        name = column_of(metric, statistic)
        from_ = dict.fromkeys(r.sources[name] for _, r in rows if name in r.sources)
        add(name, pa.float64(), [r.figures.get(name) for _, r in rows], unit_of(metric), "; ".join(from_) or "no run")
    add("provenance", pa.string(), [r.provenance or None for _, r in rows], "", "of the run")
    add("wall_s", pa.float64(), [r.wall_s for _, r in rows], "s", CLOCK)
    add("host", pa.string(), [r.host or None for _, r in rows], "", "of the process that calculated")
    add("key", pa.string(), [cell.key for cell, _ in rows], "", "SHA-256 of everything that decides the result")
    told = {
        "source": "SpaceMoE-HIL sweep of simulated runs", "provenance": "modelled: no board was involved",
        "release": cells[0].release if cells else "", "revision": cells[0].revision if cells else "",
        "bench": cells[0].bench if cells else "",
    }  # fmt: skip
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=told))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def parquet_of(table: pa.Table) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, compression="zstd")
    return out.getvalue()
