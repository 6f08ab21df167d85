"""Where a value came from. It travels with every value from the sensor to the report."""

from __future__ import annotations

from typing import Literal

import msgspec

ProvenanceKind = Literal["measured", "modelled", "fake"]


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kind` and what did it: the instrument, the model, or what the fake stands for."""

    kind: ProvenanceKind
    by: str

    def __str__(self) -> str:
        return f"{self.kind}({self.by})"


def measured(instrument: str) -> Provenance:
    return Provenance("measured", instrument)


def modelled(model: str) -> Provenance:
    return Provenance("modelled", model)


def fake(stands_for: str) -> Provenance:
    return Provenance("fake", stands_for)
