"""Runs with real and model nodes: which is which, and a run's record seen as that of either.

The two share the core, the policies, the twin, the clock and the journal. Nothing that a model node did may count as
measured, so reports and tables are made twice: of the real nodes, and of the model nodes as of a simulated run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ground_controller.journal import Entry, Journal
from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign

META = "mixed"
MODEL_KINDS = {
    "model_token": "client_token", "model_attempt": "attempt", "model_request_begin": "request_begin",
    "model_request_end": "request_end",
}  # fmt: skip
"""What the client of the model nodes is recorded as, lest it be taken for the real one, and what a part calls it."""


class Mixed(msgspec.Struct, frozen=True):
    """`nodes` are models, calculated with the board models of `boards`, in `modes` as a simulated run records them."""

    nodes: tuple[str, ...]
    boards: str
    modes: tuple[Any, ...] = ()


def model_boards(bench: Bench) -> frozenset[str]:
    """Boards that are calculated."""
    return frozenset(board.name for board in bench.boards if board.kind == "model")


def check_mixed(bench: Bench, campaign: Campaign) -> None:
    """ConfigError for what a fleet of both kinds cannot do: anything that would need a frame between the two."""
    named = campaign.policies
    if named.routing != "direct" or campaign.links.relay or named.replacement.name != "stay":
        raise ConfigError(
            f"bench {bench.bench} has real and model boards: frames do not pass between them, and no expert moves",
            "leave policies.routing direct, links.relay false and policies.replacement stay",
        )


class Part(Journal):
    """The record of a run as far as it is about some of its nodes."""

    def __init__(self, whole: Journal, found: Mixed, modelled: bool) -> None:
        super().__init__(whole._db, whole.path)
        self._models = frozenset(found.nodes)
        self._modelled = modelled
        self._found = found

    def covers(self, node: str) -> bool:
        return (node in self._models) == self._modelled

    def entries(self, *kinds: str) -> Iterator[Entry]:
        """Without the evidence and the states of the others, and without what the others' client did."""
        recorded = {as_kind: kind for kind, as_kind in MODEL_KINDS.items()} if self._modelled else {}
        for entry in super().entries(*(recorded.get(kind, kind) for kind in kinds)):
            if entry.node and not self.covers(entry.node):
                continue
            if entry.kind in MODEL_KINDS:
                if self._modelled:
                    yield entry._replace(kind=MODEL_KINDS[entry.kind])
            elif not (self._modelled and entry.kind in MODEL_KINDS.values()):
                yield entry

    def meta(self, key: str, default: str | None = None) -> str:
        """As recorded; of model nodes as a simulated run has it."""
        if self._modelled and key == "simulated":
            boards, modes = self._found.boards, self._found.modes
            return msgspec.json.encode({"stride": 1, "boards": boards, "kills": [], "modes": modes}).decode()
        if self._modelled and key in {"evaluation", "evaluation_sha256"}:
            return ""
        return super().meta(key, default)


def parts(journal: Journal) -> tuple[Journal, Journal | None]:
    """The record of the real nodes and that of the model nodes; of a run of one kind the whole, and None."""
    text = journal.meta(META, "")
    if not text:
        return journal, None
    found = msgspec.json.decode(text, type=Mixed)
    return Part(journal, found, modelled=False), Part(journal, found, modelled=True)
