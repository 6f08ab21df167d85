"""What `hil-agent sensors` shows: every instrument found, its reading, and what is missing."""

from __future__ import annotations

import time

import msgspec

from hil_config.errors import HardwareError
from hil_config.wire.messages import Missing
from node_agent.config import AgentConfig
from node_agent.sensors.plausible import Plausible
from node_agent.sensors.reading import Instrument
from node_agent.sensors.registry import probe


class Line(msgspec.Struct, frozen=True):
    """One quantity. `value` is null when `problem` says why; `read_ms` is the time of the instrument's reading."""

    name: str
    value: float | None
    unit: str
    hz: float
    provenance: str
    driver: str
    where: str
    read_ms: float
    problem: str


class Listing(msgspec.Struct, frozen=True):
    """Found quantities and missing sensors of one node."""

    node: str
    found: tuple[Line, ...]
    missing: tuple[Missing, ...]


def _read(instrument: Instrument) -> list[Line]:
    begin_s = time.monotonic()
    values: tuple[float | None, ...] = (None,) * len(instrument.quantities)
    problem = ""
    try:
        values = instrument.read()
    except HardwareError as error:
        problem = error.message
    at_s = time.monotonic()
    lines = []
    for quantity, reading in zip(instrument.quantities, values, strict=True):
        value, wrong = reading, problem
        if value is not None:
            try:
                Plausible(quantity).check(value, at_s, 0.0)
            except HardwareError as error:
                value, wrong = None, error.message
        lines.append(
            Line(
                quantity.name, value, quantity.unit, quantity.hz, str(quantity.provenance), instrument.driver,
                instrument.where, round((at_s - begin_s) * 1e3, 3), wrong,
            )
        )  # fmt: skip
    return lines


def look(config: AgentConfig) -> Listing:
    """Probe, read everything once, and close."""
    found = probe(config)
    try:
        lines = [line for instrument in found.instruments for line in _read(instrument)]
    finally:
        found.close()
    return Listing(config.node, tuple(lines), tuple(found.missing))


def as_json(listing: Listing) -> str:
    return msgspec.json.encode(listing).decode()


def as_table(listing: Listing) -> str:
    """A table for people: name, value, unit, rate, driver, place, provenance; then what is missing."""
    head = ("quantity", "value", "unit", "Hz", "driver", "where", "from")
    rows = [head]
    for line in listing.found:
        value = "-" if line.value is None else f"{line.value:.3f}"
        rows.append(
            (line.name, value, line.unit, f"{line.hz:g}", line.driver, line.where, line.problem or line.provenance)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    text = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    text += [f"missing: {absent.name}: {absent.reason}" for absent in listing.missing]
    return "\n".join(text)
