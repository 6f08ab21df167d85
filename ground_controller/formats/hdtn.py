"""HDTN contact plans (JSON): `rateBitsPerSec` in bit/s and `owlt` in seconds, whole numbers both.

Format: module/router/contact_plans of HDTN. Two mistakes of factors are in the wild and are never corrected silently:
its convertCpToJson.py copies ION's bytes per second into rateBitsPerSec (8 times too low, every owlt 1), and its
shipped cgrTable.json holds 10^6 times the rate meant. The older key `rate` was in Mbit/s. A rate of 0 switches HDTN's
limit off.
"""

from __future__ import annotations

import json
from typing import Literal

from ground_controller.formats.plan import Contact, ContactPlan, Imported, build_plan
from ground_controller.formats.text import Located, json_list, json_number, parse_json, refuse
from ground_controller.formats.whole import whole
from hil_config.errors import DataFileError

RateUnit = Literal["bit/s", "kbit/s", "mbit/s", "gbit/s", "byte/s", "ubit/s"]
RATE_UNITS: dict[RateUnit, float] = {
    "bit/s": 1.0, "kbit/s": 1e3, "mbit/s": 1e6, "gbit/s": 1e9, "byte/s": 8.0, "ubit/s": 1e-6,
}  # fmt: skip
"""bit/s in one unit. `ubit/s` undoes a table that is 10^6 times too high."""

BELIEVABLE_BIT_S = 1e12
_HINT = "see module/router/contact_plans of HDTN"
_KEYS = {"contact", "source", "dest", "startTime", "endTime", "rateBitsPerSec", "rate", "owlt", "finalDestination"}


def read_hdtn(text: str, source: str, *, lenient: bool = False, rate_unit: RateUnit | None = None) -> Imported:
    """The plan of an HDTN JSON text.

    Args:
        rate_unit: what the file's rates are in, against what its key says; needed for the key `rate` and for
            rates above 1 Tbit/s.

    Raises:
        DataFileError: with file and line.
    """
    top = parse_json(text, source, _HINT)
    if not isinstance(top, Located) or not isinstance(top.get("contacts"), list):
        refuse(source, 1, "the file holds no object with a list `contacts`", _HINT)
    contacts: list[Contact] = []
    items = json_list(top, "contacts", source, _HINT)
    for item in items:
        unknown = sorted(set(item) - _KEYS)
        if unknown:
            refuse(source, item.line, f"unknown key {unknown[0][:40]!r}", _HINT)
        rate = _rate(item, source, rate_unit)
        if rate == 0.0:
            refuse(source, item.line, "a rate of 0 is no limit to HDTN (contactPlanCutThroughMode_unlimitedRate.json)",
                   "write the rate that the link has")  # fmt: skip
        contacts.append(Contact(
            json_number(item, "startTime", source, _HINT), json_number(item, "endTime", source, _HINT),
            _node(item, "source", source), _node(item, "dest", source),
            rate, json_number(item, "owlt", source, _HINT), line=item.line,
        ))  # fmt: skip
    result = build_plan(contacts, source, lenient=lenient)
    return Imported(result.plan, (*result.warnings, *_doubts(items, source, rate_unit)))


def _node(item: Located, key: str, source: str) -> str:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**18:
        refuse(source, item.line, f"{key} is a node's number; found {str(value)[:40]!r}", _HINT)
    return str(value)


def _rate(item: Located, source: str, unit: RateUnit | None) -> float:
    if "rateBitsPerSec" in item:
        value = json_number(item, "rateBitsPerSec", source, _HINT)
        if unit is None and value > BELIEVABLE_BIT_S:
            refuse(
                source, item.line, f"rateBitsPerSec is {value:g}, more than 1 Tbit/s",
                "say what it is in: --rate-unit ubit/s for a table that is 10^6 too high (HDTN's cgrTable.json is),"
                " --rate-unit bit/s if it is right",
            )  # fmt: skip
        return value * RATE_UNITS[unit or "bit/s"]
    if "rate" in item and unit is None:
        refuse(
            source, item.line, f"the old key `rate` has no certain unit; found {str(item['rate'])[:40]!r}",
            "say it: HDTN's own reader took --rate-unit mbit/s",
        )  # fmt: skip
    return (
        json_number(item, "rate" if "rate" in item else "rateBitsPerSec", source, _HINT) * RATE_UNITS[unit or "bit/s"]
    )


def _doubts(items: list[Located], source: str, unit: RateUnit | None) -> list[str]:
    if unit is None and items and all(item.get("owlt") == 1 for item in items):
        return [
            f"{source}:{items[0].line}: every owlt is 1: if convertCpToJson.py made this file from an ION plan, its"
            " rates are bytes/s (--rate-unit byte/s) and its delays are lost; taken as bit/s, as the key says"
        ]
    return []


def write_hdtn(plan: ContactPlan, *, rounded: bool = False) -> str:
    """The JSON text of a plan.

    Args:
        rounded: times inward, delays up and rates down to whole units; without it a plan that needs it is refused.

    Raises:
        DataFileError: a name is no number, or HDTN cannot say a value.
    """
    for name in plan.nodes:
        if not (name.isascii() and name.isdigit()) or int(name) == 0:
            raise DataFileError(f"HDTN numbers its nodes; found {name!r}", "give numbers to the names: --node-map FILE")
    if plan.registered or plan.hypothetical:
        raise DataFileError("HDTN knows neither registration nor hypothetical contacts", "export to ion or csv")
    contacts: list[dict[str, int]] = []
    for contact in plan.contacts:
        where = f"contact {contact.source} -> {contact.target} at {contact.start_s:g} s"
        if contact.loss or contact.confidence != 1.0:
            raise DataFileError(f"{where}: HDTN cannot say a loss or a confidence", "export to csv")
        start = whole(contact.start_s, f"{where}: its start in s", "up" if rounded else None)
        end = whole(contact.end_s, f"{where}: its end in s", "down" if rounded else None)
        if end <= start:
            continue  # rounding left nothing of it
        rate = whole(contact.rate_bit_s, f"{where}: its rate in bit/s", "down" if rounded else None)
        if rate == 0:
            raise DataFileError(f"{where}: HDTN takes its rate of 0 for no limit", "leave the contact out of the plan")
        if start < 0:
            raise DataFileError(f"{where}: HDTN cannot say a time before 0", "shift the plan")
        contacts.append({
            "contact": len(contacts), "source": int(contact.source), "dest": int(contact.target),
            "startTime": start, "endTime": end,
            "rateBitsPerSec": rate,
            "owlt": whole(contact.delay_s, f"{where}: its delay in s", "up" if rounded else None),
        })  # fmt: skip
    return json.dumps({"contacts": contacts}, indent=1) + "\n"
