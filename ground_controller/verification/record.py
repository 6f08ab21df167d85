"""Is the record whole: the end, the file, every number of every node, every tick, every token?"""

from __future__ import annotations

import msgspec

from ground_controller.client_events import TokenArrived
from ground_controller.journal import Journal
from ground_controller.loop import TickBegan
from ground_controller.own_boots import OwnBoots
from ground_controller.telemetry.tables import token_evidence
from ground_controller.unread import HINT, unread_messages
from ground_controller.verification.check import Check, judged, listed, not_applicable
from hil_config.errors import HilError
from hil_config.wire.messages import Record, decode

_EVIDENCE = ("samples", "token", "event", "links", "work")
_OWN = ("tick", "decision", "status", "client_token", "attempt", "request_begin", "request_end")


def ended(journal: Journal) -> Check:
    """The run came to its end, and nothing that arrived was turned away."""
    when, turned_away = journal.meta("ended_utc", ""), journal.meta("inbox_overflow", "0")
    figure = f"ended {when or 'never'}, {turned_away} arrivals did not fit the inbox"
    good = bool(when) and turned_away == "0"
    return judged("complete", good, figure, "journal", "run the campaign again, or resume it: hil campaign resume")


def file(journal: Journal) -> Check:
    """SQLite finds the journal sound, and what figures are made from can be read."""
    damage = journal.damage() or _unreadable(journal)
    return judged("journal file", not damage, damage or "SQLite's check finds nothing", str(journal.path),
                  "take the run folder from a copy: a damaged journal proves nothing")  # fmt: skip


def _unreadable(journal: Journal) -> str:
    """The first entry that is not what its kind is: SQLite looks at pages, and not at what is in them."""
    for entry in journal.entries(*_EVIDENCE, *_OWN):
        try:
            if entry.kind in _EVIDENCE:
                decode(entry.body, Record)
            else:
                msgspec.json.decode(entry.body)
        except (HilError, ValueError) as error:
            whose = f" of {entry.node}" if entry.node else ""
            return f"an entry of tick {entry.tick} ({entry.kind}{whose}) cannot be read: {error}"
    return ""


def records(journal: Journal) -> Check:
    """Every record that a node numbered is in the journal, and can be true."""
    missing = [f"{source}: {count} not handed in at the end" for source, count in
               msgspec.json.decode(journal.meta("records_missing", "{}"), type=dict[str, int]).items()]  # fmt: skip
    missing += [f"{node} (boot {boot}): {count} never came" for (node, boot), count in journal.gaps().items()]
    shed = journal.shed(OwnBoots(journal).first_numbers(journal))
    missing += [f"{node} (boot {boot}): {count} given up by it" for (node, boot), count in shed.items()]
    missing += [f"{node} (boot {boot}): {count} refused" for (node, boot), count in journal.refused().items()]
    held = sum(1 for entry in journal.entries() if entry.seq > 0)
    hint = "look for full disks and dead nodes in the agents' logs; of refused ones the events say why"
    return judged("records", not missing, f"{held} in the journal, {len(missing)} sources with gaps or refused ones",
                  listed(missing), hint)  # fmt: skip


def messages(journal: Journal) -> Check:
    """Whatever a board of the run said could be read."""
    found = unread_messages(journal)
    told = [f"{node or 'a board'}: {count}, the last {why}" for node, (count, why) in found.items()]
    figure = f"{sum(count for count, _ in found.values())} could not be read"
    return judged("messages", not found, figure, listed(told), HINT)


def ticks(journal: Journal) -> Check:
    """Ticks follow one another, each with its decision, none later than a whole tick."""
    campaign = msgspec.json.decode(journal.meta("campaign"))
    tick_s, rate = campaign["control"]["tick_s"], campaign["orbit"]["rate"]
    begun = [msgspec.json.decode(entry.body, type=TickBegan) for entry in journal.entries("tick")]
    decided = [entry.tick for entry in journal.entries("decision")]
    in_order = [one.tick for one in begun] == list(range(len(begun))) and decided == [one.tick for one in begun]
    if not begun or not in_order:
        return Check("ticks", "fail", f"{len(begun)} ticks and {len(decided)} decisions, not one for one", "journal",
                     "the journal lacks entries: run the campaign again")  # fmt: skip
    if journal.meta("simulated", ""):
        return Check("ticks", "pass", f"{len(begun)} ticks, each with its decision; a stepped clock is never late")
    latest = max(begun, key=lambda one: one.lateness_s)
    late_s = latest.lateness_s / rate
    return judged("ticks", late_s < tick_s,
                  f"{len(begun)} ticks, each with its decision; at most {late_s * 1e3:.1f} ms late, "
                  f"wanted below {tick_s * 1e3:g}",
                  f"tick {latest.tick} at {latest.scenario_s:.1f} s",
                  "the ground was too slow: use a longer control.tick_s, or an idle machine")  # fmt: skip


def tokens(journal: Journal) -> Check:
    """Every token at the client was computed by a gateway, which says so itself."""
    computed = {(t.request, t.attempt, t.start + t.rows): t.token for _, t in token_evidence(journal) if t.token >= 0}
    arrived = [msgspec.json.decode(entry.body, type=TokenArrived) for entry in journal.entries("client_token")]
    if not arrived:
        return not_applicable("tokens", "the client got no token")
    odd = [f"request {t.request} position {t.position}: token {t.token}, its gateway says "
           f"{computed.get((t.request, t.attempt, t.position), 'nothing')}"
           for t in arrived if computed.get((t.request, t.attempt, t.position)) != t.token]  # fmt: skip
    figure = f"{len(arrived) - len(odd)} of {len(arrived)} at the client are in a gateway's evidence"
    return judged("tokens", not odd, figure, listed(odd), "a node died with its record, or the journal was changed")
