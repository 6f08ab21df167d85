"""NetSatBench epochs: a folder of JSON files, each the links that appear, change or go at one instant.

Format: docs/configuration.md of NetSatBench. Links work both ways. Rates and delays are texts in the units of Linux
tc, which has two traps: `bps`, `kbps`, `mbps`, `gbps` are BYTES per second there, and a number without a unit is bit/s
for rates but microseconds for times. `loss` is percent. Commands of `run` are never executed nor kept.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ground_controller.formats.plan import Contact, ContactPlan, Imported, build_plan, epoch_of
from ground_controller.formats.text import Located, json_list, json_number, parse_json, read_text, refuse
from ground_controller.orbit.instant import parse_instant
from hil_config.errors import ConfigError, DataFileError

PATTERN = re.compile(r".*?(\d+)\.json")
_HINT = "see docs/configuration.md of NetSatBench"
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)")
_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
           "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip
RATE_UNITS = {
    "": 1,
    **{f"{prefix}bit": scale for prefix, scale in _PREFIX.items()},
    **{f"{prefix}bps": 8 * scale for prefix, scale in _PREFIX.items()},
}
"""tc(8): bit/s in one unit; `bps` are bytes."""

TIME_UNITS = {
    "": Decimal("1e-6"), "us": Decimal("1e-6"), "usec": Decimal("1e-6"), "usecs": Decimal("1e-6"),
    "ms": Decimal("1e-3"), "msec": Decimal("1e-3"), "msecs": Decimal("1e-3"),
    "s": Decimal(1), "sec": Decimal(1), "secs": Decimal(1),
}  # fmt: skip
"""tc(8): seconds in one unit; a bare number is microseconds."""


class _Link(NamedTuple):
    """One link as it stands: since when, and its values as far as they were said."""

    since_s: float
    rate_bit_s: float | None
    delay_s: float | None
    loss: float
    line: int


def read_netsatbench(folder: Path, *, lenient: bool = False, until_s: float | None = None) -> Imported:
    """The plan of a folder of epoch files, in the order of their numbers. Second 0 is the first file's instant.

    Args:
        until_s: when links end that no file deletes; needed where there are such.

    Raises:
        DataFileError: with file and line.
    """
    files = epoch_files(folder)
    texts = [(str(path), read_text(path, _HINT)) for path in files]
    return parse_netsatbench(texts, str(folder), lenient=lenient, until_s=until_s)


def epoch_files(folder: Path) -> list[Path]:
    """The epoch files of a folder in the order of their numbers, or DataFileError."""
    found = sorted(
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else [])
        if (match := PATTERN.fullmatch(path.name)) and len(match[1]) < 19
    )
    if not found:
        raise DataFileError(f"{folder}: holds no file like NetSatBench-epoch0.json", _HINT)
    return [path for _, path in found]


def parse_netsatbench(
    texts: Sequence[tuple[str, str]], source: str, *, lenient: bool = False, until_s: float | None = None
) -> Imported:
    """As `read_netsatbench`, of (file name, text) pairs."""
    links: dict[tuple[str, str], _Link] = {}
    contacts: list[Contact] = []
    warnings: list[str] = []
    zero: datetime | None = None
    before = -1.0
    for name, text in texts:
        epoch = parse_json(text, name, _HINT)
        if not isinstance(epoch, Located):
            refuse(name, 1, "the file holds no object", _HINT)
        instant = _instant(epoch, name)
        zero = zero or instant
        now = (instant - zero).total_seconds()
        if now <= before:
            refuse(name, epoch.line, f"its time {epoch['time']} is not after the file before", "number files by time")
        before = now
        for key in ("links-del", "links-update", "links-add"):
            for item in json_list(epoch, key, name, _HINT):
                _apply(key, item, now, links, contacts, name)
        if epoch.get("run"):
            warnings.append(f"{name}:{epoch.line}: commands of `run` are neither kept nor run")
    if links and until_s is None:
        (a, b), link = next(iter(links.items()))
        refuse(source, 0, f"the link {a} - {b} (line {link.line} of its file) and {len(links) - 1} more never end",
               "say when the plan ends, in seconds after its first file: --until-s 600")  # fmt: skip
    for pair, link in links.items():
        contacts += _both_ways(pair, link, until_s or 0.0, source)
    result = build_plan(contacts, source, lenient=lenient, epoch_utc=zero.isoformat() if zero else "")
    return Imported(result.plan, (*result.warnings, *warnings))


def _instant(epoch: Located, name: str) -> datetime:
    try:
        return parse_instant(str(epoch.get("time")))
    except ConfigError as error:
        refuse(name, epoch.line, f"time: {error.message}", error.hint)


def _apply(
    key: str, item: Located, now: float, links: dict[tuple[str, str], _Link], contacts: list[Contact], name: str
) -> None:
    a, b = item.get("endpoint1"), item.get("endpoint2")
    if not isinstance(a, str) or not isinstance(b, str) or not a or not b or a == b:
        refuse(name, item.line, f"wanted two names as endpoint1 and endpoint2; found {str(a)[:40]!r}, {str(b)[:40]!r}",
               _HINT)  # fmt: skip
    pair = (a, b) if a < b else (b, a)
    old = links.pop(pair, None)
    if (old is None) != (key == "links-add"):
        state = "is there already" if old else "is not there"
        refuse(name, item.line, f"{key}: the link {a} - {b} {state}", "add a link once, then update or delete it")
    if old is not None and old.since_s < now:
        contacts += _both_ways(pair, old, now, name)
    if key == "links-del":
        return
    base = old or _Link(now, None, None, 0.0, item.line)
    loss = json_number(item, "loss", name, _HINT) if "loss" in item else None
    links[pair] = _Link(
        now,
        _quantity(item, "rate", RATE_UNITS, name) if "rate" in item else base.rate_bit_s,
        _quantity(item, "delay", TIME_UNITS, name) if "delay" in item else base.delay_s,
        base.loss if loss is None else float(Decimal(repr(loss)) / 100),
        item.line,
    )


def _quantity(item: Located, key: str, units: dict[str, int] | dict[str, Decimal], name: str) -> float:
    text = str(item[key]) if isinstance(item[key], (str, int, float)) else ""
    match = _QUANTITY.fullmatch(text.strip()) if len(text) < 64 else None
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        refuse(name, item.line, f"{key} is a number with a unit of tc ({', '.join(list(units)[1:6])} ...);"
               f" found {text[:40]!r}", _HINT)  # fmt: skip
    return float(Decimal(match[1]) * units[unit])


def _both_ways(pair: tuple[str, str], link: _Link, end_s: float, name: str) -> list[Contact]:
    a, b = pair
    if link.rate_bit_s is None or link.delay_s is None:
        refuse(name, link.line, f"the link {a} - {b} says no {'rate' if link.rate_bit_s is None else 'delay'}",
               "NetSatBench leaves such a link unshaped; a plan needs both")  # fmt: skip
    values = (link.rate_bit_s, link.delay_s, link.loss, 1.0, link.line)
    return [Contact(link.since_s, end_s, a, b, *values), Contact(link.since_s, end_s, b, a, *values)]


def write_netsatbench(plan: ContactPlan, epoch_utc: str = "") -> dict[str, str]:
    """File name -> text of a plan: a file at second 0, one at each change, and a last one that deletes what is left.

    Args:
        epoch_utc: the instant of second 0 for a plan that does not say it.

    Raises:
        DataFileError: the plan has no epoch, a link differs between its directions, or contacts overlap.
    """
    zero = epoch_of(plan) or epoch_of(ContactPlan((), epoch_utc))
    if zero is None:
        raise DataFileError("NetSatBench's times are absolute and the plan has no epoch",
                            "say the instant of second 0: --epoch-utc 2024-10-21T08:20:00Z")  # fmt: skip
    spans = _two_way(plan)
    times = sorted({0.0, *(t for pair in spans.values() for one in pair for t in (one.start_s, one.end_s))})
    files: dict[str, str] = {}
    changes: defaultdict[float, dict[str, list[dict[str, object]]]] = defaultdict(
        lambda: {"links-add": [], "links-update": [], "links-del": []}
    )
    for (a, b), contacts in spans.items():
        for index, one in enumerate(contacts):
            joined = index > 0 and contacts[index - 1].end_s == one.start_s
            changes[one.start_s]["links-update" if joined else "links-add"].append({
                "endpoint1": a, "endpoint2": b, "rate": f"{_plain(one.rate_bit_s)}bit",
                "loss": float(Decimal(repr(one.loss)) * 100), "delay": f"{_plain(one.delay_s)}s",
            })  # fmt: skip
            if index + 1 == len(contacts) or contacts[index + 1].start_s != one.end_s:
                changes[one.end_s]["links-del"].append({"endpoint1": a, "endpoint2": b})
    for index, t in enumerate(times):
        instant = zero + timedelta(seconds=t)
        if (instant - zero).total_seconds() != t or t < 0.0:
            raise DataFileError(f"the time {t!r} s is before 0 or finer than the microseconds of NetSatBench's times")
        stamp = f"{instant:%Y-%m-%dT%H:%M:%S}" + (f".{instant:%f}" if instant.microsecond else "") + "Z"
        files[f"NetSatBench-epoch{index}.json"] = json.dumps({"time": stamp, **changes[t]}, indent=1) + "\n"
    return files


def _two_way(plan: ContactPlan) -> dict[tuple[str, str], list[Contact]]:
    if plan.registered or plan.hypothetical or any(one.confidence != 1.0 for one in plan.contacts):
        raise DataFileError("NetSatBench knows no registrations, hypothetical contacts or confidences", "export to csv")
    ways: defaultdict[tuple[str, str], list[Contact]] = defaultdict(list)
    for one in plan.contacts:
        ways[one.source, one.target].append(one)
    found: dict[tuple[str, str], list[Contact]] = {}
    for (a, b), contacts in ways.items():

        def bare(rows: list[Contact]) -> list[tuple[float, ...]]:
            return [(one.start_s, one.end_s, one.rate_bit_s, one.delay_s, one.loss) for one in rows]

        if bare(contacts) != bare(ways.get((b, a), [])):
            raise DataFileError(f"NetSatBench's links are the same both ways; {a} -> {b} and {b} -> {a} differ",
                                "export to csv, ion or hdtn")  # fmt: skip
        for early, late in pairwise(contacts):
            if late.start_s < early.end_s:
                raise DataFileError(f"contacts {a} -> {b} overlap at {late.start_s:g} s", "export to csv")
        if a < b:
            found[a, b] = contacts
    return found


def _plain(value: float) -> str:
    """A decimal without exponent that reads back as the same float."""
    return format(Decimal(repr(value)), "f")
