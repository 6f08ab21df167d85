"""The real model under a plan, in one process: what the plan costs in accuracy, computed and not estimated.

Hidden states go through the trunk; the boards' gate picks from the router's scores under the plan's prices, limits,
hosts and substitutes; experts run at the precisions that the plan names; hidden states that would cross a link go
through its codec and back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.hidden_codec import Codec, decode_hidden, encode_hidden
from hil_config.wire.manifest import Precision, read_manifest, read_shard
from hil_config.wire.plan import SelectionPlan
from models.oracle import Cache, Oracle
from models.serving.gate import LayerGate, Picks, compile_layer, row_fraction, select
from models.serving.transmission import Sending, compile_sending, mean_square_mass
from models.session import open_shard

F32 = NDArray[np.float32]


class PlannedModel(Oracle):
    """Args:

    held: [layers][experts] at which precisions hosts hold an expert, the one that serves unless a plan says otherwise
        first.
    codec: (source, target) -> of a link, where a plan has no rules of transmission; None: nothing is encoded.
    """

    def __init__(
        self,
        folder: Path,
        held: Sequence[Sequence[tuple[Precision, ...]]],
        codec: Callable[[str, str], Codec] | None = None,
    ) -> None:
        super().__init__(folder, held[0][0][0])
        manifest = read_manifest(folder)
        self._held = held
        self._codec = codec
        self._by_precision = {
            (layer, expert, precision): open_shard(shard, read_shard(folder, shard))
            for layer, row in enumerate(held)
            for expert, kinds in enumerate(row)
            for precision in kinds
            for shard in (manifest.find("expert", precision, layer, expert),)
        }
        self._start = self._request = 0
        self._plan: SelectionPlan | None = None
        self._gates: list[LayerGate] = []
        self._sending: Sending | None = None
        self._own: list[int] = []
        self.rows = 0
        """Rows and layers that went through the gate since it was set to 0; `picked`: experts they used."""
        self.picked = 0

    def under(self, plan: SelectionPlan, live: NDArray[np.bool_], request: int) -> None:
        """From now on; `live` bool [nodes] can be asked, `request` picks among replicas.

        The first usable gateway of each slice serves its layers.
        """
        self._plan, self._request = plan, request
        self._gates = [compile_layer(plan, layer, live) for layer in range(self.card.layers)]
        self._sending = compile_sending(plan.transmission)
        self._own = []
        for piece in plan.gateways:
            named = [plan.nodes.index(name) for name in piece.nodes]
            first = next((n for n in named if live[n]), named[0])
            self._own += [first] * (piece.last - piece.first + 1)

    def extend(self, cache: Cache, tokens: Sequence[int]) -> F32:
        """Logits [T, V] of new tokens after those in the cache, which grows by them."""
        self._start = cache.length
        return super().extend(cache, tokens)

    def mix(self, layer: int, rows: F32, scores: F32, mixing: F32 | None = None) -> F32:
        """Weighted sum [T, H] of what the plan picks for expert inputs [T, H], host by host."""
        assert self._plan is not None
        own = self._own[layer]
        fraction = row_fraction(self._request, self._start, len(rows), layer)
        picks = select(self._gates[layer], scores, self.card.routing, fraction, mixing)
        if self._sending is not None and self._sending.drop:
            picks = self._sending.keep(picks, own, layer, rows.shape[1])
        self.rows += len(rows)
        self.picked += int((picks.hosts >= 0).sum())
        total = np.zeros_like(rows)
        for host in np.unique(picks.hosts[picks.hosts >= 0]).tolist():
            mine = (picks.hosts == host).any(axis=1)
            total[mine] += self._host(layer, host, own, rows[mine], picks, mine)
        return total

    def _host(self, layer: int, host: int, own: int, rows: F32, picks: Picks, mine: NDArray[np.bool_]) -> F32:
        """The partial sums of one host's call, as they arrive back."""
        assert self._plan is not None
        here = picks.hosts[mine] == host
        weights = np.where(here, picks.weights[mine], np.float32(0.0))
        there, back = self._codecs(layer, host, own, weights)
        seen, partial = _through(rows, there), np.zeros_like(rows)
        wanted = self._plan.layers[layer].precisions()
        for expert in np.unique(picks.experts[mine][here]).tolist():
            at = (picks.experts[mine] == expert) & here
            token, slot = np.nonzero(at)
            precision = wanted.get((expert, host), self._held[layer][expert][0])
            output = self._by_precision[layer, expert, precision].run(None, {"x": seen[token]})[0]
            np.add.at(partial, token, output * weights[token, slot, None])
        return _through(partial, back)

    def _codecs(self, layer: int, host: int, own: int, weights: F32) -> tuple[Codec | None, Codec | None]:
        """Of a call and of its reply; None where nothing crosses a link."""
        assert self._plan is not None
        names = self._plan.nodes
        if host == own or self._codec is None:
            return None, None
        if self._sending is None:
            return self._codec(names[own], names[host]), self._codec(names[host], names[own])
        size = len(weights), self.card.hidden, mean_square_mass(weights)
        return self._sending.codec(own, host, layer, *size), self._sending.codec(host, own, layer, *size)


def _through(rows: F32, codec: Codec | None) -> F32:
    if codec is None:
        return rows
    found: F32 = decode_hidden(encode_hidden(rows, codec), codec, *rows.shape)
    return found
