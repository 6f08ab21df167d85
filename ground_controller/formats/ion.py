"""ION contact plans (ionrc): `a contact` in bytes per second, `a range` in whole light-seconds.

Format: ionrc(5) of ION-DTN. Times are `+seconds` after the reference time, which `@` sets (itself perhaps
relative), or `yyyy/mm/dd-hh:mm:ss` in UTC. A range from a smaller to a larger node number holds both ways unless one
from the larger to the smaller contradicts it. A contact that starts at -1 registers a node; one that stops at 0 is
hypothetical. ION knows delays from ranges alone: a contact, or a part of one, without a range cannot be used.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from ground_controller.formats.plan import Contact, ContactPlan, Imported, build_plan, epoch_of
from ground_controller.formats.text import number, refuse
from ground_controller.formats.whole import whole
from hil_config.errors import DataFileError

_HINT = "see ionrc(5) of ION-DTN; hil reads `a contact`, `a range` and `@` from it"
_ABSOLUTE = re.compile(r"\d{4}/\d\d/\d\d-\d\d:\d\d:\d\d")
_TIME_FORM = "%Y/%m/%d-%H:%M:%S"
_NODE = re.compile(r"\d{1,18}")
_IGNORED = frozenset(["1", "e", "v", "s", "m", "!", "?", "h", "#", "x", "i", "l", "b", "r", "p"])
"""Commands that configure a node and say nothing about the plan."""

_Time = tuple[bool, float | datetime]  # absolute?, seconds after the beginning or an instant


@dataclass(frozen=True)
class _Record:
    line: int
    start: str
    stop: str
    reference: _Time
    one: str
    other: str
    value: float
    confidence: float = 1.0


def read_ion(
    text: str, source: str, *, lenient: bool = False, epoch_utc: str = "", hold_ranges: bool = False
) -> Imported:
    """The plan of an ionrc text.

    Args:
        lenient: see `build_plan`; contacts without a range are then left out too.
        hold_ranges: the first and last range of a pair hold before and after it, where ION would know none.
        epoch_utc: the instant of `+0`; needed where the file mixes relative and absolute times.

    A contact over which the range changes becomes one contact for each delay.

    Raises:
        DataFileError: with file and line.
    """
    contacts, ranges, registered, hypothetical, ignored = _records(text, source)
    zero = _zero(sorted(contacts + ranges, key=lambda one: one.line), source, epoch_utc)
    delays: defaultdict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    explicit: defaultdict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for one in ranges:
        span = (_seconds(one, one.start, zero, source), _seconds(one, one.stop, zero, source), one.value)
        (delays if int(one.one) < int(one.other) else explicit)[one.one, one.other].append(span)
    if hold_ranges:
        for spans in (*delays.values(), *explicit.values()):
            spans.sort()
            spans[0] = (-math.inf, spans[0][1], spans[0][2])
            spans[-1] = (spans[-1][0], math.inf, spans[-1][2])
    found: list[Contact] = []
    missing: list[str] = []
    for one in contacts:
        whole_contact = Contact(
            _seconds(one, one.start, zero, source), _seconds(one, one.stop, zero, source), one.one, one.other,
            one.value * 8.0, 0.0, confidence=one.confidence, line=one.line,
        )  # fmt: skip
        pair, back = (one.one, one.other), (one.other, one.one)
        spans = explicit[pair] or delays[pair] or delays[back]
        parts = list(_split(whole_contact, spans, source))
        if sum(part.end_s - part.start_s for part in parts) < whole_contact.end_s - whole_contact.start_s:
            missing.append(
                f"{source}:{one.line}: contact {one.one} -> {one.other} at {whole_contact.start_s:g}.."
                f"{whole_contact.end_s:g} s has no range over all of it: ION would not use the rest"
            )
        found += parts or ([whole_contact] if whole_contact.end_s <= whole_contact.start_s else [])
    if missing and not lenient:
        raise DataFileError(
            missing[0], "add `a range` lines; --hold-ranges lets the last one hold on; --lenient leaves out"
        )
    text_epoch = "" if zero is None else zero.isoformat()
    result = build_plan(found, source, lenient=lenient, epoch_utc=text_epoch,
                        registered=registered, hypothetical=hypothetical)  # fmt: skip
    notes = [f"{source}:{line}: `{command}` says nothing about the plan: ignored" for line, command in ignored[:1]]
    return Imported(result.plan, (*result.warnings, *(f"left out: {line}" for line in missing), *notes))


def _records(
    text: str, source: str
) -> tuple[list[_Record], list[_Record], list[str], list[tuple[str, str]], list[tuple[int, str]]]:
    contacts: list[_Record] = []
    ranges: list[_Record] = []
    registered: list[str] = []
    hypothetical: list[tuple[str, str]] = []
    ignored: list[tuple[int, str]] = []
    reference: _Time = (False, 0.0)
    for line, raw in enumerate(text.splitlines(), start=1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "@":
            if len(words) != 2:
                refuse(source, line, f"`@` needs one time; found {raw.strip()[:80]!r}", _HINT)
            reference = _moved(words[1], reference, source, line)
        elif words[0] == "a" and words[1:2] == ["contact"]:
            record = _record(words, raw, reference, source, line, 6, 7)
            if record.start == "-1":
                if record.one != record.other:
                    refuse(source, line, "a registration (start -1) names one node twice", _HINT)
                registered.append(record.one)
            elif record.stop == "0":
                hypothetical.append((record.one, record.other))
            elif record.one == record.other:
                ignored.append((line, raw.strip()[:40]))  # a node's loopback, usual in ION's own plans
            else:
                contacts.append(record)
        elif words[0] == "a" and words[1:2] == ["range"]:
            record = _record(words, raw, reference, source, line, 6, 6)
            if record.value != int(record.value) or record.value < 0:
                refuse(source, line, f"a range is whole light-seconds; found {words[6]!r}", _HINT)
            if record.one != record.other:
                ranges.append(record)
        elif words[0] == "^":
            if words[1:] != ["1"]:
                refuse(source, line, f"regions other than 1 are not supported; found {raw.strip()[:80]!r}",
                       "import one region's plan at a time")  # fmt: skip
        elif words[0] in _IGNORED:
            ignored.append((line, raw.strip()[:40]))
        else:
            refuse(source, line, f"unknown or unsupported command {raw.strip()[:80]!r}", _HINT)
    return contacts, ranges, registered, hypothetical, ignored


def _record(words: list[str], raw: str, reference: _Time, source: str, line: int, least: int, most: int) -> _Record:
    if not least < len(words) <= most + 1:
        refuse(
            source, line, f"`a {words[1]}` needs {least - 1} to {most - 1} values; found {raw.strip()[:80]!r}", _HINT
        )
    for node in words[4:6]:
        if not _NODE.fullmatch(node) or int(node) == 0:
            refuse(source, line, f"a node is a number from 1; found {node[:40]!r}", _HINT)
    value = number(words[6], "the rate" if words[1] == "contact" else "the range", source, line, _HINT)
    confidence = number(words[7], "the confidence", source, line, _HINT) if len(words) == 8 else 1.0
    return _Record(line, words[2], words[3], reference, str(int(words[4])), str(int(words[5])), value, confidence)


def _moved(text: str, reference: _Time, source: str, line: int) -> _Time:
    absolute, offset = _time(text, source, line)
    if absolute:
        return True, offset
    base = reference[1]
    assert isinstance(offset, float)
    return reference[0], (_later(base, offset, source, line) if isinstance(base, datetime) else base + offset)


def _time(text: str, source: str, line: int) -> _Time:
    if text.startswith("+"):
        return False, number(text[1:], "a relative time", source, line, _HINT)
    if _ABSOLUTE.fullmatch(text):
        try:
            return True, datetime.strptime(text, _TIME_FORM).replace(tzinfo=timezone.utc)
        except ValueError:
            pass  # a 13th month, a 25th hour: said below
    refuse(source, line, f"a time is +seconds or yyyy/mm/dd-hh:mm:ss; found {text[:40]!r}", _HINT)


def _later(instant: datetime, seconds: float, source: str, line: int) -> datetime:
    try:
        return instant + timedelta(seconds=seconds)
    except OverflowError:
        refuse(source, line, f"{seconds:g} s after {instant:{_TIME_FORM}} is beyond the calendar", _HINT)


def _zero(records: list[_Record], source: str, epoch_utc: str) -> datetime | None:
    """The instant of second 0: as given, or the first absolute time, or none where all times are relative."""
    given = epoch_of(ContactPlan((), epoch_utc))
    first: datetime | None = None
    relative = 0
    for one in records:
        for text in (one.start, one.stop):
            absolute, value = _time(text, source, one.line)
            if not absolute:
                absolute, value = one.reference
            if absolute:
                assert isinstance(value, datetime)
                first = value if first is None else min(first, value)
            else:
                relative = relative or one.line
    if first is not None and relative and given is None:
        refuse(source, relative, "this time counts from when ionadmin started, others in the file are absolute",
               "say when it started: --epoch-utc 2024-10-21T08:20:00Z")  # fmt: skip
    return given or first


def _seconds(record: _Record, text: str, zero: datetime | None, source: str) -> float:
    absolute, value = _time(text, source, record.line)
    base = record.reference[1]
    if not absolute:
        assert isinstance(value, float)
        if not isinstance(base, datetime):
            return base + value
        value = _later(base, value, source, record.line)
    assert isinstance(value, datetime)
    assert zero is not None
    return (value - zero).total_seconds()


def _split(contact: Contact, spans: list[tuple[float, float, float]], source: str) -> Iterator[Contact]:
    last = -math.inf
    for start, stop, delay in sorted(spans):
        if start < contact.end_s and stop > contact.start_s:
            if start < last:
                refuse(source, contact.line, f"two ranges {contact.source} - {contact.target} overlap at {start:g} s",
                       "keep one of them")  # fmt: skip
            last = stop
            yield replace(contact, start_s=max(start, contact.start_s), end_s=min(stop, contact.end_s), delay_s=delay)


def write_ion(plan: ContactPlan, *, rounded: bool = False) -> str:
    """An ionrc text: absolute times where the plan has an epoch, else times relative to `+0`.

    Args:
        rounded: times inward and delays up to whole seconds, rates down to whole bytes per second; without it a
            plan that needs rounding is refused.

    Raises:
        DataFileError: a node's name is no number (give a node map), or ION cannot say a value exactly.
    """
    zero = epoch_of(plan)
    if zero is not None and zero.microsecond:
        raise DataFileError(f"ION's times are whole seconds; the plan begins at {plan.epoch_utc}", "shift the plan")
    for name in plan.nodes:
        if not _NODE.fullmatch(name) or int(name) == 0:
            raise DataFileError(f"ION numbers its nodes; found {name!r}", "give numbers to the names: --node-map FILE")
    lines = ["# contact plan: contacts in bytes per second, ranges in whole light-seconds"]
    lines += [f"a contact -1 -1 {node} {node} 0" for node in plan.registered]
    lines += [f"a contact 0 0 {a} {b} 0" for a, b in plan.hypothetical]
    ranges: defaultdict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for contact in plan.contacts:
        if contact.loss:
            raise DataFileError(f"ION cannot say a loss of {contact.loss:g}", "export to csv or netsatbench")
        where = f"contact {contact.source} -> {contact.target} at {contact.start_s:g} s"
        start = whole(contact.start_s, f"{where}: its start in s", "up" if rounded else None)
        end = whole(contact.end_s, f"{where}: its end in s", "down" if rounded else None)
        rate = whole(contact.rate_bit_s / 8.0, f"{where}: its rate in bytes/s", "down" if rounded else None)
        delay = whole(contact.delay_s, f"{where}: its delay in light-seconds", "up" if rounded else None)
        if end <= start:
            continue  # rounding left nothing of it
        if rate == 0:
            raise DataFileError(f"{where}: ION wants a rate above 0", "leave the contact out of the plan")
        confidence = "" if contact.confidence == 1.0 else f" {contact.confidence!r}"
        lines.append(
            f"a contact {_said(start, zero)} {_said(end, zero)} {contact.source} {contact.target} {rate}{confidence}"
        )
        ranges[contact.source, contact.target].append((start, end, delay))
    lines += _range_lines(ranges, zero)
    return "\n".join(lines) + "\n"


def _range_lines(ranges: dict[tuple[str, str], list[tuple[int, int, int]]], zero: datetime | None) -> list[str]:
    """One line for both directions where they agree, one for each where they do not. Neighbours are joined."""
    lines = []
    joined = {pair: _joined(spans) for pair, spans in ranges.items()}
    for (a, b), spans in joined.items():
        for (_, end, _), (start, _, _) in pairwise(spans):
            if start < end:
                raise DataFileError(f"contacts {a} -> {b} overlap at {start} s, and ION's delay would be two at once",
                                    "cut one of them short, or export to csv")  # fmt: skip
    for (a, b), spans in sorted(joined.items(), key=lambda item: (int(item[0][0]), int(item[0][1]))):
        if int(a) > int(b) and joined.get((b, a)) == spans:
            continue  # said by the other direction
        # the smaller number first implies both ways; do so where nothing else is said about the pair
        low, high = (b, a) if int(a) > int(b) and (b, a) not in joined else (a, b)
        lines += [
            f"a range {_said(start, zero)} {_said(end, zero)} {low} {high} {delay}" for start, end, delay in spans
        ]
    return lines


def _joined(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans of one pair, those of one delay that touch or overlap made one."""
    result: list[tuple[int, int, int]] = []
    for start, end, delay in sorted(spans):
        if result and result[-1][2] == delay and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]), delay)
        else:
            result.append((start, end, delay))
    return result


def _said(seconds: int, zero: datetime | None) -> str:
    if zero is None:
        return f"+{seconds}" if seconds >= 0 else refuse("plan", 0, f"ION cannot say the time {seconds} s", _HINT)
    return (zero + timedelta(seconds=seconds)).strftime(_TIME_FORM)
