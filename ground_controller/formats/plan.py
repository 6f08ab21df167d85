"""The contact plan: who can send to whom, when, how fast and with what delay. What every format is read into."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ground_controller.orbit.instant import parse_instant
from hil_config.errors import ConfigError, DataFileError

LARGEST_S = 1e12
SHOWN = 5
"""Problems that a refusal lists."""


@dataclass(frozen=True, order=True)
class Contact:
    """`source` can send to `target` from `start_s` until `end_s`, in seconds after the plan's second 0.

    rate_bit_s: bit/s. delay_s: one-way light time. loss: probability that a frame is lost. confidence: probability
    that the contact takes place. line: where it stands in its file, 0 if it was in none; no part of its identity.
    """

    start_s: float
    end_s: float
    source: str
    target: str
    rate_bit_s: float
    delay_s: float
    loss: float = 0.0
    confidence: float = 1.0
    line: int = field(default=0, compare=False)

    @property
    def volume_bit(self) -> float:
        """What it can carry."""
        return (self.end_s - self.start_s) * self.rate_bit_s


@dataclass(frozen=True)
class ContactPlan:
    """Contacts in the order of (start, end, source, target).

    epoch_utc: the instant of second 0, like 2024-10-21T08:20:00Z; empty where the plan does not say.
    registered: nodes that belong to the plan whether or not they have contacts (ION's registration contacts).
    hypothetical: (source, target) that may meet at times nobody knows (ION's hypothetical contacts).
    """

    contacts: tuple[Contact, ...]
    epoch_utc: str = ""
    registered: tuple[str, ...] = ()
    hypothetical: tuple[tuple[str, str], ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every name, numbers in the order of numbers, before the other names."""
        names = {name for contact in self.contacts for name in (contact.source, contact.target)}
        names.update(self.registered, *self.hypothetical)
        return tuple(sorted(names, key=by_number))

    @property
    def end_s(self) -> float:
        """When the last contact ends."""
        return max((contact.end_s for contact in self.contacts), default=0.0)


@dataclass(frozen=True)
class Imported:
    """A plan and what a person should know about how it was read."""

    plan: ContactPlan
    warnings: tuple[str, ...] = ()


def by_number(name: str) -> tuple[int, int, str]:
    """Sort key: whole numbers by value, then names."""
    return (0, int(name), name) if name.isascii() and name.isdigit() and len(name) < 19 else (1, 0, name)


def build_plan(
    contacts: Iterable[Contact],
    source: str,
    *,
    lenient: bool = False,
    epoch_utc: str = "",
    registered: Iterable[str] = (),
    hypothetical: Iterable[tuple[str, str]] = (),
) -> Imported:
    """A checked plan of the contacts that were read from `source`.

    Refused: a rate, delay or loss that cannot be, a contact from a node to itself, an end that is not after its
    start, and two contacts of one pair that overlap. With `lenient` the contacts with such an end are left out
    and the overlaps are kept, each with a warning by line.

    Raises:
        DataFileError: names the lines, and says that `--lenient` exists where it would help.
    """
    kept: list[Contact] = []
    fatal: list[str] = []
    mendable: list[str] = []
    for contact in contacts:
        problem = _impossible(contact)
        if problem:
            fatal.append(f"{source}:{contact.line}: {problem}")
        elif contact.end_s <= contact.start_s:
            mendable.append(
                f"{source}:{contact.line}: {_name(contact)} ends at {contact.end_s:g} s, not after its start at"
                f" {contact.start_s:g} s"
            )
        else:
            kept.append(contact)
    if fatal:
        raise DataFileError(_shown(fatal), "correct these lines")
    left_out = len(mendable)
    mendable += _overlaps(kept, source)
    if mendable and not lenient:
        raise DataFileError(
            _shown(mendable), "correct these lines, or give --lenient to leave out what never begins and keep overlaps"
        )
    warnings = [f"left out: {line}" for line in mendable[:left_out]] + [f"kept: {line}" for line in mendable[left_out:]]
    plan = ContactPlan(
        tuple(sorted(kept)), _one_spelling(epoch_utc, source),
        tuple(sorted(set(registered), key=by_number)), tuple(sorted(set(hypothetical))),
    )  # fmt: skip
    return Imported(plan, tuple(warnings))


def _one_spelling(text: str, source: str) -> str:
    """The instant as a plan keeps it: UTC, `Z`, and no fraction that is zero."""
    if not text:
        return ""
    try:
        instant = parse_instant(text)
    except ConfigError as error:
        raise DataFileError(f"{source}: {error.message}", error.hint) from error
    return instant.isoformat().removesuffix("+00:00") + "Z"


def _name(contact: Contact) -> str:
    return f"contact {contact.source} -> {contact.target}"


def _impossible(contact: Contact) -> str:
    """What is wrong with a contact whatever anybody meant by it; empty: nothing."""
    for what in ("start_s", "end_s", "rate_bit_s", "delay_s", "loss", "confidence"):
        value = getattr(contact, what)
        if not math.isfinite(value) or abs(value) > (LARGEST_S if what.endswith("_s") else 1.0) * 1e6:
            return f"{_name(contact)}: {what} is {value:g}"
    if contact.rate_bit_s < 0.0:
        return f"{_name(contact)}: its rate is {contact.rate_bit_s:g} bit/s, wanted 0 or more"
    if contact.delay_s < 0.0:
        return f"{_name(contact)}: its delay is {contact.delay_s:g} s, wanted 0 or more"
    for what in ("loss", "confidence"):
        if not 0.0 <= getattr(contact, what) <= 1.0:
            return f"{_name(contact)}: its {what} is {getattr(contact, what):g}, wanted 0 to 1"
    if contact.source == contact.target:
        return f"{_name(contact)}: a node does not need a contact with itself"
    for name in (contact.source, contact.target):
        if not name:
            return f"{_name(contact)}: a node has no name"
        if name.startswith("#") or name != name.strip() or not name.isprintable():
            return f"contact {contact.source!r} -> {contact.target!r}: a name that a plan's file cannot hold"
    return ""


def _overlaps(contacts: Sequence[Contact], source: str) -> list[str]:
    by_pair: defaultdict[tuple[str, str], list[Contact]] = defaultdict(list)
    for contact in contacts:
        by_pair[contact.source, contact.target].append(contact)
    found = []
    for pair in by_pair.values():
        pair.sort()
        last = pair[0]
        for contact in pair[1:]:
            if contact.start_s < last.end_s:
                found.append(
                    f"{source}:{contact.line}: {_name(contact)} at {contact.start_s:g}..{contact.end_s:g} s overlaps"
                    f" that of line {last.line} at {last.start_s:g}..{last.end_s:g} s"
                )
            if contact.end_s > last.end_s:
                last = contact
    return found


def _shown(problems: Sequence[str]) -> str:
    more = len(problems) - SHOWN
    return "\n  ".join([*problems[:SHOWN], *([f"... and {more} more"] if more > 0 else [])])


def epoch_of(plan: ContactPlan) -> datetime | None:
    """The instant of second 0, if the plan says it."""
    return parse_instant(plan.epoch_utc) if plan.epoch_utc else None
