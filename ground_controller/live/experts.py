"""Which experts served rows lately: counts by layer and expert over the last ticks."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.journal import Entry

WINDOW_S = 30.0
"""Host seconds that the counts look back."""


class _LayerPicks(msgspec.Struct, frozen=True, array_like=True):
    layer: int
    scores: msgspec.Raw
    picks: bytes


class _Step(msgspec.Struct, frozen=True):
    layers: tuple[_LayerPicks, ...]


class _StepRecord(msgspec.Struct, frozen=True):
    body: _Step


_steps = msgspec.json.Decoder(_StepRecord)


class Experts:
    """Takes `token` entries (a gateway's record of a step) in order."""

    def __init__(self, layers: int, experts: int) -> None:
        self._shape = (layers, experts)
        self._counts: NDArray[np.int64] = np.zeros(layers * experts, np.int64)
        self._recent: deque[tuple[int, NDArray[np.int64]]] = deque()

    def take(self, entry: Entry) -> None:
        """Any entry; others than `token` pass by."""
        if entry.kind != "token":
            return
        layers, experts = self._shape
        used = []
        for layer in _steps.decode(entry.body).body.layers:
            picks = np.frombuffer(layer.picks, "<i2").astype(np.int64)
            picks = picks[(picks >= 0) & (picks < experts)]
            if 0 <= layer.layer < layers:
                used.append(picks + layer.layer * experts)
        if used:
            found = np.concatenate(used)
            self._recent.append((entry.host_ns, found))
            np.add.at(self._counts, found, 1)

    def counts(self, now_ns: int) -> NDArray[np.int64]:
        """[layers, experts] rows in the window that ends at `now_ns`."""
        begin_ns = now_ns - int(WINDOW_S * 1e9)
        while self._recent and self._recent[0][0] <= begin_ns:
            np.subtract.at(self._counts, self._recent.popleft()[1], 1)
        return self._counts.reshape(self._shape).copy()
