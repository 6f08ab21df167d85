"""The model in one process with its expert sums open: watch them, leave experts out, exchange or disturb them.

Everything that calibration and evaluation change about a run is a field of `Setting`, so one pass is a pure function
of text and setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from hil_config.wire.manifest import Precision, Shard, read_manifest, read_shard
from models.oracle import FloatArray, IntArray, Oracle, route
from models.session import open_shard

Place = tuple[int, int]
"""(layer, expert)."""

Watch = Callable[[int, FloatArray, FloatArray, IntArray, FloatArray], None]


@dataclass(frozen=True)
class Setting:
    """How one pass differs from the model's own.

    `precision`: of single experts, else the probe's. `lost`: picked, but nothing comes back. `substitute`: computed
    by another expert with the same weight. `top_k`: 0 is the model's own. `second_above`: picks after the first with a
    mixing weight below it are skipped. `noise`: relative size of a random error added to a layer's sum, by layer.
    """

    precision: Mapping[Place, Precision] = field(default_factory=dict)
    lost: frozenset[Place] = frozenset()
    substitute: Mapping[Place, int] = field(default_factory=dict)
    reroute: bool = False
    top_k: int = 0
    second_above: float = 0.0
    noise: Mapping[int, float] = field(default_factory=dict)


PLAIN = Setting()


class Probe(Oracle):
    """`watch(layer, rows [T, H], scores [T, E], picks [T, k], weights [T, k])` sees each layer of each pass.

    `calls` counts expert rows computed; `squared_noise[layer]` the squared length of noise per row.
    """

    def __init__(self, folder: Path, precision: Precision = "fp32", watch: Watch | None = None) -> None:
        super().__init__(folder, precision)
        self._folder, self._manifest = folder, read_manifest(folder)
        self._more: dict[tuple[Precision, Place], ort.InferenceSession] = {}
        self.setting, self.watch = PLAIN, watch
        self.calls = 0
        self.squared_noise: dict[int, float] = {}

    def shard(self, place: Place, precision: Precision) -> Shard:
        return self._manifest.find("expert", precision, *place)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those for which the folder has every expert, most bytes first."""
        sizes: dict[Precision, list[int]] = {}
        for shard in self._manifest.shards:
            if shard.kind == "expert":
                sizes.setdefault(shard.precision, []).append(shard.bytes)
        whole = self.card.layers * self.card.experts
        return tuple(sorted((p for p, s in sizes.items() if len(s) == whole), key=lambda p: -sum(sizes[p])))

    def expert(self, place: Place, rows: FloatArray, precision: Precision | None = None) -> FloatArray:
        """Output [n, H] of one expert for rows [n, H], not weighted."""
        wanted = precision or self.setting.precision.get(place, self.precision)
        if wanted == self.precision:
            session = self._experts[place[0]][place[1]]
        else:
            key = (wanted, place)
            if key not in self._more:
                shard = self.shard(place, wanted)
                self._more[key] = open_shard(shard, read_shard(self._folder, shard))
            session = self._more[key]
        output = session.run(None, {"x": rows})[0]
        return np.asarray(output, dtype=np.float32)

    def choose(self, layer: int, scores: FloatArray, mixing: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
        """Picks and weights [T, k] under the setting; a pick that is skipped or lost has weight 0."""
        setting = self.setting
        picks, weights = route(scores, self.card.routing, mixing)
        if setting.top_k and setting.top_k < picks.shape[1]:
            weights = np.where(np.arange(picks.shape[1]) < setting.top_k, weights, 0.0)  # not renormalised
        if setting.second_above > 0.0:
            late = np.arange(picks.shape[1]) > 0
            weights = np.where(late & (weights < setting.second_above), 0.0, weights)
        gone = [expert for at, expert in setting.lost if at == layer]
        if gone and setting.reroute:
            picks = _reroute(picks, scores, gone)
            gone = []
        for expert in gone:
            weights = np.where(picks == expert, 0.0, weights)
        return picks, weights.astype(np.float32)

    def mix(self, layer: int, rows: FloatArray, scores: FloatArray, mixing: FloatArray | None = None) -> FloatArray:
        picks, weights = self.choose(layer, scores, mixing)
        if self.watch is not None:
            self.watch(layer, rows, scores, picks, weights)
        mixed = np.zeros_like(rows)
        for expert in np.unique(picks):
            token, slot = np.nonzero((picks == expert) & (weights > 0))
            if len(token):
                place = (layer, self.setting.substitute.get((layer, int(expert)), int(expert)))
                mixed[token] += self.expert(place, rows[token]) * weights[token, slot, None]
                self.calls += len(token)
        size = self.setting.noise.get(layer, 0.0)
        if size:
            mixed += self._noise(layer, mixed, size)
        return mixed

    def _noise(self, layer: int, mixed: FloatArray, size: float) -> FloatArray:
        """Seeded, of `size` times each row's length."""
        raw = np.random.default_rng([layer, len(mixed)]).standard_normal(mixed.shape)
        scale = size * np.linalg.norm(mixed, axis=1, keepdims=True) / np.linalg.norm(raw, axis=1, keepdims=True)
        noise: FloatArray = (raw * scale).astype(np.float32)
        self.squared_noise[layer] = self.squared_noise.get(layer, 0.0) + float((noise**2).sum())
        return noise


def _reroute(picks: IntArray, scores: FloatArray, gone: list[int]) -> IntArray:
    """Each lost pick becomes the row's best expert that is neither lost nor picked; it takes over the weight."""
    open_scores = scores.copy()
    open_scores[:, gone] = -1.0
    np.put_along_axis(open_scores, picks, -1.0, axis=1)
    out = picks.copy()
    for slot in range(picks.shape[1]):
        lost = np.isin(out[:, slot], gone)
        if lost.any():
            best = open_scores.argmax(axis=1)
            out[lost, slot] = best[lost]
            open_scores[np.nonzero(lost)[0], best[lost]] = -1.0
    return out


def nats(probe: Probe, texts: Mapping[str, Sequence[Sequence[int]]], setting: Setting = PLAIN) -> dict[str, float]:
    """Mean nats a token by domain under a setting; the probe's own setting is as before afterwards."""
    before, probe.setting = probe.setting, setting
    try:
        out = {}
        for domain, sequences in texts.items():
            total = sum(probe.nll(tokens) * (len(tokens) - 1) for tokens in sequences)
            out[domain] = total / sum(len(tokens) - 1 for tokens in sequences)
        return out
    finally:
        probe.setting = before


def mean(values: Mapping[str, float]) -> float:
    """Every domain counts the same."""
    return float(np.mean(list(values.values())))


FloatTable = npt.NDArray[np.float64]
