"""The file that `hil models budget` writes and a campaign reads: a precision for every expert, or none."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hil_config.errors import DataFileError
from hil_config.wire.manifest import ModelCard, Precision
from models.budget import DROP

_HINT = "write one: hil models budget FOLDER --bytes SIZE --out allocation.json"


class AllocationFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`precision[layer][expert]`: a precision or "drop". `nats`: expected rise; `gap`: at most so far from the best."""

    unit: str
    budget: float
    weight: float
    nats: float
    gap: float
    counts: dict[str, int]
    precision: tuple[tuple[str, ...], ...]
    folder: str = ""

    def precisions(self) -> tuple[Precision, ...]:
        """Those that are used, in a fixed order."""
        used = {name for row in self.precision for name in row}
        return tuple(p for p in ALL if p in used)

    def of(self, layer: int, expert: int) -> Precision | None:
        """None: dropped."""
        name = self.precision[layer][expert]
        return next((p for p in ALL if p == name), None)


ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")


def read_allocation(path: Path, card: ModelCard) -> AllocationFile:
    """DataFileError unless the file is one, fits the model, and keeps an expert in every layer."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=AllocationFile)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    except ValueError as error:
        raise DataFileError(f"{path}: not an allocation: {error}", _HINT) from error
    shape = [len(row) for row in found.precision]
    if shape != [card.experts] * card.layers:
        raise DataFileError(
            f"{path}: {len(shape)} layers, the model has {card.layers} of {card.experts} experts each", _HINT
        )
    for layer, row in enumerate(found.precision):
        wrong = set(row) - {*ALL, DROP}
        if wrong:
            raise DataFileError(f"{path}: layer {layer}: got {sorted(wrong)}, wanted {', '.join(ALL)} or {DROP}", _HINT)
        if all(name == DROP for name in row):
            raise DataFileError(
                f"{path}: layer {layer}: every expert is dropped", "raise the budget, or use --keep-all"
            )
    return found
