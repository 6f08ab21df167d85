"""The watts that a run decided by, where they were readings.

Without a plausible reading the twin goes on with the model of the node's processor, before the first one with the idle
power of the board's profile, and of a board that is gone the last value stands. None of that is what `power_w` of the
node's samples claims to be, so it is left out wherever that column's provenance is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import Decision
from ground_controller.journal import Entry, Journal
from hil_config.wire import messages as m
from hil_config.wire.provenance import modelled

NO_READING = modelled("no reading of a living board then: what the twin went on with")


class _Watts(msgspec.Struct, frozen=True):
    power_w: tuple[float | None, ...] | msgspec.UnsetType = msgspec.UNSET


class _Samples(msgspec.Struct, frozen=True):
    columns: _Watts


class _SampleRecord(msgspec.Struct, frozen=True):
    body: _Samples


_samples = msgspec.json.Decoder(_SampleRecord)


def decided_by(journal: Journal) -> Iterator[tuple[Entry, Decision, NDArray[np.float64]]]:
    """Every decision with its entry and the power of the plan's nodes [N] in W, NaN where it was no reading."""
    boots: dict[str, str] = {}
    read: dict[str, bool] = {}
    for entry in journal.entries("status", "samples", "decision"):
        if entry.kind == "decision":
            one = msgspec.json.decode(entry.body, type=Decision)
            known = np.array([read.get(node, False) for node in one.plan.nodes], np.bool_)
            known &= one.column("alive").astype(np.bool_)
            yield entry, one, np.where(known, one.column("power_w"), np.nan)
        elif entry.kind == "status":
            status = m.decode(entry.body, m.Status)
            if status.state != "offline" and boots.get(entry.node) != status.boot_id:
                boots[entry.node], read[entry.node] = status.boot_id, False
        elif entry.boot_id == boots.get(entry.node, entry.boot_id):
            watts = _samples.decode(entry.body).body.columns.power_w
            if not isinstance(watts, msgspec.UnsetType):
                read[entry.node] = any(value is not None for value in watts)
