"""The project's own contact plan: CSV with the unit in every column's name.

    # epoch_utc: 2024-10-21T08:20:00Z
    # registered: 7
    # hypothetical: 1 9
    source,target,start_s,end_s,rate_bit_s,delay_s,loss,confidence
    1,2,0,60,1000000,1,0,1

`loss` and `confidence` may be left out (0 and 1). Instead of those units a file may use the others of `COLUMNS`.
Numbers are written so that reading them gives the same bits.
"""

from __future__ import annotations

import csv
import io
import re

from ground_controller.formats.plan import Contact, ContactPlan, Imported, build_plan
from ground_controller.formats.text import number, refuse

COLUMNS: dict[str, dict[str, float]] = {
    "start": {"start_s": 1.0, "start_ms": 1e3, "start_ns": 1e9},
    "end": {"end_s": 1.0, "end_ms": 1e3, "end_ns": 1e9},
    "rate": {"rate_bit_s": 1.0, "rate_kbit_s": 1e-3, "rate_mbit_s": 1e-6, "rate_gbit_s": 1e-9, "rate_byte_s": 0.125},
    "delay": {"delay_s": 1.0, "delay_ms": 1e3, "delay_us": 1e6, "delay_ns": 1e9},
    "loss": {"loss": 1.0, "loss_percent": 100.0},
    "confidence": {"confidence": 1.0},
}
"""Quantity -> column name -> how many of its units one base unit is (s, bit/s, 1)."""

_DEFAULTS = {"loss": 0.0, "confidence": 1.0}
_NAMES = ("source", "target")
_COMMENT = re.compile(r"#\s*(epoch_utc|registered|hypothetical)\s*:\s*(.*?)\s*")
_HEADER = "source,target,start_s,end_s,rate_bit_s,delay_s,loss,confidence"
_HINT = f"the first line without # names the columns, like {_HEADER}"


def read_csv(text: str, source: str, *, lenient: bool = False) -> Imported:
    """The plan of a CSV text. Raises DataFileError with file and line."""
    said: dict[str, list[str]] = {"epoch_utc": [], "registered": [], "hypothetical": []}
    columns: dict[str, tuple[int, float]] = {}
    contacts: list[Contact] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        if raw.lstrip().startswith("#"):
            match = _COMMENT.fullmatch(raw.strip())
            if match:
                said[match[1]].append(match[2])
            continue
        cells = _cells(raw, source, line)
        if not columns:
            columns = _columns(cells, source, line)
        else:
            contacts.append(_contact(cells, columns, source, line))
    if not columns:
        refuse(source, 0, "no line names the columns", _HINT)
    pairs = [tuple(text.split()) for text in said["hypothetical"]]
    if any(len(pair) != 2 for pair in pairs):
        refuse(source, 0, "`# hypothetical:` needs two names", "write # hypothetical: 1 9")
    return build_plan(
        contacts, source, lenient=lenient, epoch_utc=said["epoch_utc"][-1] if said["epoch_utc"] else "",
        registered=said["registered"], hypothetical=[(pair[0], pair[1]) for pair in pairs],
    )  # fmt: skip


def _cells(raw: str, source: str, line: int) -> list[str]:
    try:
        rows = list(csv.reader([raw], strict=True))
    except csv.Error as error:
        refuse(source, line, f"not CSV: {error}", _HINT)
    return [cell.strip() for cell in rows[0]] if rows else []


def _columns(cells: list[str], source: str, line: int) -> dict[str, tuple[int, float]]:
    """Quantity -> (column, units in a base unit)."""
    known = {name: (what, scale) for what, names in COLUMNS.items() for name, scale in names.items()}
    known.update({name: (name, 1.0) for name in _NAMES})
    found: dict[str, tuple[int, float]] = {}
    for index, cell in enumerate(cells):
        if cell not in known:
            without = [name for name in known if name.split("_")[0] == cell]
            hint = f"say its unit: {', '.join(without)}" if without else f"the columns are {', '.join(known)}"
            refuse(source, line, f"unknown column {cell[:40]!r}", hint)
        what, scale = known[cell]
        if what in found:
            refuse(source, line, f"two columns give the {what}", _HINT)
        found[what] = (index, scale)
    lacking = [what for what in (*_NAMES, *COLUMNS) if what not in found and what not in _DEFAULTS]
    if lacking:
        refuse(source, line, f"no column for the {lacking[0]}", _HINT)
    return found


def _contact(cells: list[str], columns: dict[str, tuple[int, float]], source: str, line: int) -> Contact:
    if len(cells) != len(columns):
        refuse(source, line, f"{len(cells)} values under {len(columns)} columns", _HINT)
    values = dict(_DEFAULTS)
    for what in COLUMNS:
        if what in columns:
            index, scale = columns[what]
            values[what] = number(cells[index], f"the {what}", source, line, _HINT) / scale
    return Contact(
        values["start"], values["end"], cells[columns["source"][0]], cells[columns["target"][0]], values["rate"],
        values["delay"], values["loss"], values["confidence"], line,
    )  # fmt: skip


def write_csv(plan: ContactPlan) -> str:
    """The CSV text of a plan, in base units."""
    out = io.StringIO()
    if plan.epoch_utc:
        out.write(f"# epoch_utc: {plan.epoch_utc}\n")
    out.writelines(f"# registered: {node}\n" for node in plan.registered)
    out.writelines(f"# hypothetical: {a} {b}\n" for a, b in plan.hypothetical)
    out.write(_HEADER + "\n")
    rows = csv.writer(out, lineterminator="\n")
    for one in plan.contacts:
        numbers = (one.start_s, one.end_s, one.rate_bit_s, one.delay_s, one.loss, one.confidence)
        rows.writerow([one.source, one.target, *(_short(value) for value in numbers)])
    return out.getvalue()


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
