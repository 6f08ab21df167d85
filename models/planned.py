"""The real model under a plan, in one process: what the plan costs in accuracy, computed and not estimated.

Hidden states go through the trunk; the boards' gate (`models/serving/gate.py`) picks from the router's scores under the
plan's prices, limits, hosts and substitutes; the real quantised experts run, at the precisions that the plan names;
hidden states that would cross a link go through its codec and back. So hidden states after a skipped or replaced expert
are the disturbed ones, as in a distributed run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.hidden_codec import Codec, decode_hidden, encode_hidden
from hil_config.wire.manifest import Precision, read_manifest, read_shard
from hil_config.wire.plan import SelectionPlan
from models.oracle import Cache, FloatArray, IntArray, Oracle
from models.serving.gate import select
from models.serving.layer_gate import LayerGate, Picks, compile_layer, row_fraction
from models.serving.transmission import Sending, compile_sending, mean_square_mass
from models.session import open_shard


class PlannedModel(Oracle):
    """An oracle that routes as the model does until it is told a plan.

    Args:
        held: [layers][experts] at which precisions hosts hold an expert, the one that serves unless a plan says
            otherwise first; None: all at int8 alone.
        codec: (source, target) -> of a link, where a plan has no rules of transmission; None: nothing is encoded.
    """

    def __init__(
        self,
        folder: Path,
        held: Sequence[Sequence[tuple[Precision, ...]]] | None = None,
        codec: Callable[[str, str], Codec] | None = None,
    ) -> None:
        super().__init__(folder, "int8" if held is None else held[0][0][0])
        manifest = read_manifest(folder)
        self._held = held or [[(self.precision,)] * self.card.experts] * self.card.layers
        self._codec = codec
        self._by_precision = {
            (layer, expert, precision): self._experts[layer][expert]
            if precision == self.precision
            else open_shard(shard, read_shard(folder, shard))
            for layer, row in enumerate(self._held)
            for expert, kinds in enumerate(row)
            for precision in kinds
            for shard in (manifest.find("expert", precision, layer, expert),)
        }
        self._start = self._request = 0
        self._plan: SelectionPlan | None = None
        self._gates: tuple[LayerGate, ...] = ()
        self._sending: Sending | None = None
        self._own: list[int] = []
        self.rows = 0
        """Rows and layers that went through the gate since it was set to 0; `picked`: experts they used."""
        self.picked = 0

    def under(self, plan: SelectionPlan, live: NDArray[np.bool_] | None = None, request: int = 0) -> None:
        """From now on; `live` bool [nodes] can be asked (None: all), `request` picks among replicas.

        The first usable gateway of each slice serves its layers.
        """
        self._plan, self._request = plan, request
        self._gates = gates_of(plan, live)
        self._sending = compile_sending(plan.transmission)
        self._own = []
        for piece in plan.gateways:
            named = [plan.nodes.index(name) for name in piece.nodes]
            first = next((n for n in named if live is None or live[n]), named[0])
            self._own += [first] * (piece.last - piece.first + 1)

    def extend(self, cache: Cache, tokens: Sequence[int]) -> FloatArray:
        """Logits [T, V] of new tokens after those in the cache, which grows by them."""
        self._start = cache.length
        return super().extend(cache, tokens)

    def choose(self, layer: int, scores: FloatArray, mixing: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
        """What the plan picks, as [T, K] experts, none twice in a row and -1 for none, and their weights [T, K]."""
        if self._plan is None:
            return super().choose(layer, scores, mixing)
        found = self._picks(layer, scores, mixing)
        return _merged(found.experts.astype(np.int64), found.weights)

    def mix(self, layer: int, rows: FloatArray, scores: FloatArray, mixing: FloatArray | None = None) -> FloatArray:
        """Weighted sum [T, H] of what the plan picks for expert inputs [T, H]."""
        plan = self._plan
        if plan is None or not (self._codec or self._sending or plan.layers[layer].precision):
            return super().mix(layer, rows, scores, mixing)  # it makes no difference who serves
        picks = self._picks(layer, scores, mixing)
        total = np.zeros_like(rows)
        for host in np.unique(picks.hosts[picks.hosts >= 0]).tolist():
            mine = (picks.hosts == host).any(axis=1)
            total[mine] += self._host(plan, layer, host, rows[mine], picks, mine)
        return total

    def _picks(self, layer: int, scores: FloatArray, mixing: FloatArray | None) -> Picks:
        """The gate's, less what the plan's rules leave out on links."""
        fraction = row_fraction(self._request, self._start, len(scores), layer)
        picks = select(self._gates[layer], scores, self.card.routing, fraction, mixing)
        if self._sending is not None and self._sending.drop:
            picks = self._sending.keep(picks, self._own[layer], layer, self.card.hidden)
        self.rows += len(scores)
        self.picked += int((picks.hosts >= 0).sum())
        return picks

    def _host(
        self, plan: SelectionPlan, layer: int, host: int, rows: FloatArray, picks: Picks, mine: NDArray[np.bool_]
    ) -> FloatArray:
        """The partial sums of one host's call, as they arrive back."""
        here = picks.hosts[mine] == host
        weights = np.where(here, picks.weights[mine], np.float32(0.0))
        there, back = self._codecs(plan, layer, host, weights)
        seen, partial = _through(rows, there), np.zeros_like(rows)
        wanted = plan.layers[layer].precisions()
        for expert in np.unique(picks.experts[mine][here]).tolist():
            at = (picks.experts[mine] == expert) & here
            token, slot = np.nonzero(at)
            precision = wanted.get((expert, host), self._held[layer][expert][0])
            output = self._by_precision[layer, expert, precision].run(None, {"x": seen[token]})[0]
            np.add.at(partial, token, output * weights[token, slot, None])
        return _through(partial, back)

    def _codecs(
        self, plan: SelectionPlan, layer: int, host: int, weights: FloatArray
    ) -> tuple[Codec | None, Codec | None]:
        """Of a call and of its reply; None where nothing crosses a link."""
        names, own = plan.nodes, self._own[layer]
        if host == own or self._codec is None:
            return None, None
        if self._sending is None:
            return self._codec(names[own], names[host]), self._codec(names[host], names[own])
        size = len(weights), self.card.hidden, mean_square_mass(weights)
        return self._sending.codec(own, host, layer, *size), self._sending.codec(host, own, layer, *size)


def _through(rows: FloatArray, codec: Codec | None) -> FloatArray:
    if codec is None:
        return rows
    found: FloatArray = decode_hidden(encode_hidden(rows, codec), codec, *rows.shape)
    return found


def _merged(experts: IntArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """An expert that is also another's substitute occurs twice in a row: its weights are added up."""
    experts, weights = experts.copy(), weights.copy()
    for later in range(1, experts.shape[1]):
        for earlier in range(later):
            twice = (experts[:, later] == experts[:, earlier]) & (experts[:, later] >= 0)
            weights[twice, earlier] += weights[twice, later]
            experts[twice, later] = -1
    return experts, weights


def gates_of(plan: SelectionPlan, live: NDArray[np.bool_] | None = None) -> tuple[LayerGate, ...]:
    """The plan's layers for the kernel; `live` bool [nodes] can be asked, None: all."""
    reachable = np.ones(len(plan.nodes), np.bool_) if live is None else live
    return tuple(compile_layer(plan, layer, reachable) for layer in range(len(plan.layers)))


def choice_key(plan: SelectionPlan) -> str:
    """Equal for plans under which every row uses the same experts with the same weights, whoever serves them."""
    digest = hashlib.sha256()
    for gate in gates_of(plan):
        numbers = (gate.coverage, gate.k_min, gate.k_max, gate.threshold)
        for part in (np.array(numbers), np.asarray(gate.gain), gate.price, gate.live, gate.target):
            digest.update(part.tobytes())
    return digest.hexdigest()
