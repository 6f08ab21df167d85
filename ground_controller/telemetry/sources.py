"""What nodes say of the columns they report. One column may be measured on one board and modelled on another."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ground_controller.journal import Journal
from ground_controller.simulation.mode_model import ModeUse
from hil_config.wire import messages as m
from hil_config.wire.provenance import Provenance, fake, measured, modelled

SIMULATED = "board and link models on a stepped clock"
EMULATED = "of emulated boards, tens to hundreds of times as slow as what they stand for"
RECORDED = "the model in one process, all experts, replayed"


def timed(journal: Journal, instrument: str) -> Provenance:
    """Times of a run: measured by `instrument`, modelled where the boards are, fake where a board is emulated."""
    if journal.meta("simulated", ""):
        return modelled(SIMULATED)
    return fake(f"{instrument}; {EMULATED}") if emulated(journal) else measured(instrument)


class _Modes(msgspec.Struct):
    modes: tuple[ModeUse, ...] = ()


class _Kind(msgspec.Struct):
    kind: str = "local"


class _Boards(msgspec.Struct):
    boards: list[_Kind] = []


def emulated(journal: Journal) -> bool:
    """Whether a board of the run was an emulated machine."""
    bench = msgspec.json.decode(journal.meta("bench", "{}"), type=_Boards)
    return any(board.kind == "virtual" for board in bench.boards)


def generated(journal: Journal, instrument: str) -> Provenance:
    """Tokens and scores of a run: from its boards, or recorded beforehand where those are models."""
    return modelled(RECORDED) if journal.meta("simulated", "") else measured(instrument)


def stride(journal: Journal) -> int:
    """1 of so many seconds is recorded in detail: 1 on boards."""
    text = journal.meta("simulated", "")
    return int(msgspec.json.decode(text)["stride"]) if text else 1


def simulated_modes(journal: Journal) -> tuple[ModeUse, ...]:
    """Power modes that the boards of a simulated run could be ordered into; empty where none was ordered."""
    text = journal.meta("simulated", "")
    return msgspec.json.decode(text, type=_Modes).modes if text else ()


_STRENGTH = ("fake", "modelled", "measured")


def quantities(journal: Journal) -> dict[str, dict[str, m.Quantity]]:
    """By column, then by node, from the first status that described it there.

    A board that came back with another instrument, or with none, has the weakest kind and names all.
    """
    found: dict[str, dict[str, m.Quantity]] = {}
    told: dict[tuple[str, str], dict[Provenance, None]] = {}
    for entry in journal.entries("status"):
        for quantity in m.decode(entry.body, m.Status).quantities:
            found.setdefault(quantity.name, {}).setdefault(entry.node, quantity)
            told.setdefault((quantity.name, entry.node), {})[quantity.provenance] = None
    for (name, node), sources in told.items():
        if len(sources) > 1:
            kind = min((one.kind for one in sources), key=_STRENGTH.index)
            by = Provenance(kind, f"differs by boot, {'; '.join(map(str, sources))}")
            found[name][node] = msgspec.structs.replace(found[name][node], provenance=by)
    return found


def by_provenance(nodes: dict[str, m.Quantity]) -> dict[Provenance, tuple[str, ...]]:
    """Which nodes report a column with which provenance, the weakest first."""
    groups: dict[Provenance, list[str]] = {}
    for node, quantity in nodes.items():
        groups.setdefault(quantity.provenance, []).append(node)
    ordered = sorted(groups.items(), key=lambda item: (_STRENGTH.index(item[0].kind), item[0].by))
    return {provenance: tuple(sorted(names)) for provenance, names in ordered}


def combined(found: Iterable[tuple[Provenance, tuple[str, ...]]]) -> Provenance:
    """One provenance for a column of several nodes: that of all, or the weakest kind with each node's own beside it."""
    groups = list(found)
    if len(groups) == 1:
        return groups[0][0]
    told = "; ".join(f"{', '.join(names)}: {provenance}" for provenance, names in groups)
    return Provenance(groups[0][0].kind, f"differs by node, {told}")
