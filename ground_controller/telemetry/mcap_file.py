"""A run as MCAP (mcap.dev/spec) for Foxglove: a channel of JSON for each table and node, with a schema that says units.

Log time is orbit time: the campaign's epoch plus scenario seconds.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ground_controller.telemetry.tables import Column, Table
from hil_config.errors import EnvironmentFault

_TYPES = {"int": "integer", "float": "number", "text": "string", "flag": "boolean", "json": "string"}


def schema_of(table: Table) -> dict[str, Any]:
    """JSON Schema of a row; `unit` and `provenance` beside each property's type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"hil.{table.name}",
        "type": "object",
        "properties": {column.name: _property(column) for column in table.columns},
    }


def _property(column: Column) -> dict[str, Any]:
    told = f"{column.unit}, {column.provenance}" if column.unit else str(column.provenance)
    return {
        "type": [_TYPES[column.kind], "null"],
        "description": told,
        "unit": column.unit,
        "provenance": str(column.provenance),
    }


def write_mcap(path: Path, tables: tuple[Table, ...], run: dict[str, str], epoch_ns: int) -> None:
    """Write every table into one file at `path`.

    Args:
        run: metadata of the file.
        epoch_ns: Unix nanoseconds at scenario second 0.
    """
    try:
        from mcap.writer import Writer
    except ModuleNotFoundError as error:
        raise EnvironmentFault("mcap is not installed", "pip install 'spacemoe-hil[data]'") from error
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="", library="spacemoe-hil")
        writer.add_metadata("run", run)
        for table in tables:
            _write_table(writer, table, epoch_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the library leaves it so


def _write_table(writer: Any, table: Table, epoch_ns: int) -> None:
    names = [column.name for column in table.columns]
    node = names.index("node") if "node" in names else None
    when = names.index("scenario_s") if "scenario_s" in names else None
    schema = writer.register_schema(f"hil.{table.name}", "jsonschema", json.dumps(schema_of(table)).encode())
    channels: dict[str, int] = {}
    counts: dict[int, int] = {}
    for row in table.rows():
        topic = f"/{row[node]}/{table.name}" if node is not None and row[node] else f"/{table.name}"
        if topic not in channels:
            channels[topic] = writer.register_channel(topic, "json", schema)
        channel = channels[topic]
        counts[channel] = counts.get(channel, -1) + 1
        # Samples of the start-up stand before the epoch; MCAP's times are unsigned.
        at_ns = min(max(0, epoch_ns + (0 if when is None else round(row[when] * 1e9))), (1 << 64) - 1)
        data = json.dumps(dict(zip(names, map(_plain, row), strict=True))).encode()
        writer.add_message(channel, log_time=at_ns, publish_time=at_ns, data=data, sequence=counts[channel])


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
