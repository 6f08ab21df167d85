"""The deltas a node keeps: verified, fitted to the model, ready to be fed to its expert graphs.

A delta acts on the requests that name it and on no others, so going back is asking without it: the graphs are the
same, and their outputs are bit-equal to those before. Installing a newer sequence number replaces a delta as a
whole; an empty payload forgets it.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import ArtefactError
from hil_config.wire.delta import Delta, Factors, check_fit, decode_delta, expert_feeds, raised_scores
from hil_config.wire.manifest import Manifest
from hil_config.wire.minisign import verify
from node_agent.shards.trust import Trust, VersionMemory

F32 = NDArray[np.float32]
Feeds = dict[tuple[int, int], dict[str, F32]]

MAX_DELTAS = 8
NO_FEEDS: Feeds = {}


class DeltaShelf:
    """Deltas by name. Thread-safe: a call uses the delta it began with."""

    def __init__(self, manifest: Manifest, trust: Trust) -> None:
        self._manifest = manifest
        self._trust = trust
        self._lock = threading.Lock()
        self._deltas: dict[str, tuple[int, Feeds, dict[int, Factors]]] = {}
        self._highest: dict[str, int] = {}

    def install(self, name: str, payload: bytes, signature: bytes) -> int:
        """Verify and keep; the sequence number that is held now (0: forgotten). ArtefactError by name."""
        where = f"delta {name!r}"
        if not payload:
            with self._lock:
                self._deltas.pop(name, None)
            return 0
        if self._trust.keys:
            verify(self._trust.public_keys(), payload, signature.decode("utf-8", "replace"), where)
        delta = decode_delta(payload, where)
        if delta.header.name != name or not name:
            raise ArtefactError(f"{where}: the file is delta {delta.header.name!r}", "send it under its own name")
        check_fit(delta, self._manifest, where)
        with self._lock:
            self._admit(delta, where)
            if name not in self._deltas and len(self._deltas) >= MAX_DELTAS:
                raise ArtefactError(f"{where}: {MAX_DELTAS} deltas are here already", "send an empty one to forget one")
            self._deltas[name] = (delta.header.seq, expert_feeds(delta), _routers(delta))
        return delta.header.seq

    def _admit(self, delta: Delta, where: str) -> None:
        """Sequence numbers only rise, also over restarts where the node has a memory."""
        name, seq = delta.header.name, delta.header.seq
        if seq < self._highest.get(name, 0):
            raise ArtefactError(
                f"{where}: sequence {seq}, but {self._highest[name]} was here: rollback refused",
                "requests without the delta run as before it; a newer one takes a higher sequence number",
            )
        if self._trust.memory:
            VersionMemory(self._trust.memory_folder()).admit(f"{self._manifest.model.name} delta {name}", seq, where)
        self._highest[name] = seq

    def holds(self, name: str) -> bool:
        """True for "" too: no delta."""
        return not name or name in self._deltas

    def feeds(self, name: str) -> Feeds | None:
        """Extra graph inputs by (layer, expert); None for a delta that is not here."""
        if not name:
            return NO_FEEDS
        held = self._deltas.get(name)
        return None if held is None else held[1]

    def route(self, name: str, layer: int, rows: F32, scores: F32) -> F32:
        """Softmax scores [T, E] with the router's delta added to its logits; `rows` [T, H] enter the router."""
        held = self._deltas.get(name)
        factors = None if held is None else held[2].get(layer)
        return scores if factors is None else raised_scores(factors, rows, scores)


def _routers(delta: Delta) -> dict[int, Factors]:
    return {layer: factors for (layer, expert, _), factors in delta.factors.items() if expert < 0}
