"""Calibration: what each expert of a built model is worth on some text. See `hil_config.wire.importance`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import DataFileError
from hil_config.wire.importance import IMPORTANCE_VERSION, Importance, PrecisionCost, Table
from hil_config.wire.manifest import Precision, read_manifest
from models.oracle import FloatArray, IntArray
from models.probe import FloatTable, Place, Probe, Setting, mean, nats

Texts = Mapping[str, Sequence[Sequence[int]]]
Progress = Callable[[int, int, str], None]

NOISE = 0.2
"""Relative size of the error that measures a layer's sensitivity: large against rounding, small against a loss."""

SAMPLE_ROWS = 512
"""Rows of a layer that experts are compared on."""


@dataclass
class _Counts:
    """Sums over one domain's tokens, [layers, experts]; `rows[layer]` keeps expert inputs for the comparison."""

    layers: int
    experts: int
    tokens: int = 0
    rows: list[list[FloatArray]] = field(default_factory=list)
    picks: list[list[IntArray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.layers, self.experts)
        self.picked, self.mass, self.length = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.square = np.zeros(shape)
        self.error: dict[Precision, FloatTable] = {}
        self.rows = [[] for _ in range(self.layers)]
        self.picks = [[] for _ in range(self.layers)]


def _count(probe: Probe, sequences: Sequence[Sequence[int]], others: Sequence[Precision]) -> _Counts:
    """One pass over a domain's text, watching picks, weights, output lengths and rounding errors."""
    counts = _Counts(probe.card.layers, probe.card.experts)
    counts.error = {p: np.zeros_like(counts.picked) for p in others}

    def watch(layer: int, rows: FloatArray, scores: FloatArray, picks: IntArray, weights: FloatArray) -> None:
        counts.tokens += len(rows) if layer == 0 else 0
        counts.rows[layer].append(rows)
        counts.picks[layer].append(picks)
        for expert in np.unique(picks):
            token, slot = np.nonzero(picks == expert)
            place, share = (layer, int(expert)), weights[token, slot, None]
            output = probe.expert(place, rows[token]) * share
            counts.picked[place] += len(token)
            counts.mass[place] += float(share.sum())
            lengths = np.linalg.norm(output, axis=1)
            counts.length[place] += float(lengths.sum())
            counts.square[place] += float((lengths**2).sum())
            for precision, table in counts.error.items():
                other = probe.expert(place, rows[token], precision) * share
                table[place] += float(((other - output) ** 2).sum())

    probe.watch = watch
    try:
        for tokens in sequences:
            probe.prefill(tokens[:-1])
    finally:
        probe.watch = None
    return counts


def _sensitivity(probe: Probe, texts: Texts, whole: float, steps: _Steps) -> list[float]:
    """[layers] rise in nats per unit of squared error added to the layer's expert sum."""
    found = []
    seen = sum(len(tokens) - 1 for sequences in texts.values() for tokens in sequences)
    for layer in range(probe.card.layers):
        probe.squared_noise.clear()
        rise = mean(nats(probe, texts, Setting(noise={layer: NOISE}))) - whole
        found.append(max(0.0, rise) / (probe.squared_noise[layer] / seen))
        steps.done(f"sensitivity of layer {layer}")
    return found


def _ablation(probe: Probe, texts: Texts, whole: float, layers: Sequence[int], steps: _Steps) -> NDArray[np.float64]:
    """[layers, experts] rise in nats without the expert; -1 where it was not asked for."""
    found = np.full((probe.card.layers, probe.card.experts), -1.0)
    for place in ((layer, expert) for layer in layers for expert in range(probe.card.experts)):
        found[place] = mean(nats(probe, texts, Setting(lost=frozenset({place})))) - whole
        steps.done(f"without expert {place[1]} of layer {place[0]}")
    return found


def calibrate(
    folder: Path, texts: Texts, ablate: Sequence[int] | None = None, progress: Progress | None = None
) -> Importance:
    """Measure. `ablate`: layers whose experts are really left out one by one (None: all).

    `texts`: token sequences by domain, each with its first token given; apart from evaluation text.
    """
    if not texts or not all(texts.values()):
        raise DataFileError("calibration: got no text, wanted at least one text a domain", "give --text FILE")
    probe = Probe(folder, _finest(folder))
    card, domains = probe.card, tuple(texts)
    layers = range(card.layers)
    ablated = tuple(layers) if ablate is None else tuple(ablate)
    others = tuple(p for p in probe.precisions if p != probe.precision)
    steps = _Steps(len(domains) + card.layers * 2 + len(ablated) * card.experts + len(others), progress)

    counts = []
    for domain in domains:
        counts.append(_count(probe, texts[domain], others))
        steps.done(f"routing of {domain}")
    whole = nats(probe, texts)
    sensitivity = _sensitivity(probe, texts, mean(whole), steps)
    ablation = _ablation(probe, texts, mean(whole), ablated, steps)
    compared = []
    for layer in layers:
        compared.append(_compare(probe, layer, counts))
        steps.done(f"similarity in layer {layer}")
    tokens = np.array([c.tokens for c in counts], dtype=np.float64)
    slope = np.array(sensitivity)[:, None]
    estimate = slope * _mean([c.square for c in counts], tokens)
    # A negative rise is noise of the text: leaving an expert out is never taken to be a gain.
    drop = np.where(ablation >= 0, ablation, np.where(np.isin(np.arange(card.layers), ablated)[:, None], 0.0, estimate))
    precisions = [PrecisionCost(probe.precision, _bytes(probe, probe.precision), _table(np.zeros_like(drop)), {})]
    for precision in others:
        rise_by_domain = nats(probe, texts, Setting(precision=dict.fromkeys(_places(probe), precision)))
        error = slope * _mean([c.error[precision] for c in counts], tokens)
        by_domain = {d: round(rise_by_domain[d] - whole[d], 6) for d in domains}
        precisions.append(PrecisionCost(precision, _bytes(probe, precision), _table(error), by_domain))
        steps.done(f"all experts at {precision}")
    return Importance(
        version=IMPORTANCE_VERSION, model=card.name, text_sha256=text_sha256(texts),
        tokens={d: c.tokens for d, c in zip(domains, counts, strict=True)}, reference=probe.precision,
        nats={d: round(v, 6) for d, v in whole.items()}, domains=domains,
        activation=_table(_mean([c.picked for c in counts], tokens)),
        activation_by_domain=tuple(_table(c.picked / c.tokens) for c in counts),
        gate_mass=_table(_mean([c.mass for c in counts], tokens)),
        gate_mass_by_domain=tuple(_table(c.mass / c.tokens) for c in counts),
        contribution=_table(_mean([c.length for c in counts], tokens)),
        contribution_by_domain=tuple(_table(c.length / c.tokens) for c in counts),
        ablation=_table(ablation), drop_nats=_table(drop), sensitivity=tuple(_short(s) for s in sensitivity),
        similarity=tuple(_table(c.similarity) for c in compared),
        substitute=tuple(tuple(int(e) for e in c.substitute) for c in compared),
        substitute_error=_table(np.stack([c.error for c in compared])),
        mutual_information=tuple(
            round(mutual_information(np.stack([c.picked[layer] / c.tokens for c in counts])), 6) for layer in layers
        ),
        precisions=tuple(precisions),
    )  # fmt: skip


class _Steps:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def done(self, what: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, what)


@dataclass(frozen=True)
class _Compared:
    similarity: FloatTable
    substitute: IntArray
    error: FloatTable


def _compare(probe: Probe, layer: int, counts: Sequence[_Counts]) -> _Compared:
    """All experts of a layer on a sample of its rows: cosines, and who replaces whom best on its own rows."""
    rows = np.concatenate([block for c in counts for block in c.rows[layer]])
    picks = np.concatenate([block for c in counts for block in c.picks[layer]])
    sample = np.random.default_rng(layer).permutation(len(rows))[:SAMPLE_ROWS]
    rows, picks = rows[sample], picks[sample]
    experts = probe.card.experts
    outputs = np.stack([probe.expert((layer, e), rows) for e in range(experts)]).astype(np.float64)  # [E, n, H]
    unit = outputs / np.maximum(np.linalg.norm(outputs, axis=2, keepdims=True), 1e-12)
    similarity, substitute, error = np.eye(experts), np.full(experts, -1), np.ones(experts)
    mine = [(picks == e).any(axis=1) for e in range(experts)]
    for e in range(experts):
        for other in range(e):
            either = mine[e] | mine[other]
            cosine = (unit[e, either] * unit[other, either]).sum(axis=1)
            similarity[e, other] = similarity[other, e] = float(cosine.mean()) if len(cosine) else 0.0
        if mine[e].any():
            distance = ((outputs[:, mine[e]] - outputs[e, mine[e]]) ** 2).sum(axis=(1, 2))
            distance[e] = np.inf
            substitute[e] = int(distance.argmin())
            error[e] = distance[substitute[e]] / max(1e-12, float((outputs[e, mine[e]] ** 2).sum()))
    return _Compared(similarity, substitute.astype(np.int64), error)


def mutual_information(share: FloatTable) -> float:
    """Bits between domain and expert from shares [domains, experts]; every domain counts the same."""
    joint = share / share.sum(axis=1, keepdims=True) / len(share)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum())


def text_sha256(texts: Texts) -> str:
    """Of the token sequences by domain."""
    return hashlib.sha256(json.dumps({d: [list(t) for t in s] for d, s in texts.items()}).encode()).hexdigest()


def _finest(folder: Path) -> Precision:
    """The precision with the largest expert shards: what the others are compared with."""
    found = {s.precision: s.bytes for s in read_manifest(folder).shards if s.kind == "expert"}
    return max(found, key=lambda precision: found[precision])


def _places(probe: Probe) -> list[Place]:
    return [(layer, expert) for layer in range(probe.card.layers) for expert in range(probe.card.experts)]


def _bytes(probe: Probe, precision: Precision) -> int:
    return round(float(np.mean([probe.shard(place, precision).bytes for place in _places(probe)])))


def _mean(tables: Sequence[FloatTable], tokens: FloatTable) -> FloatTable:
    """Per token, every domain counting the same."""
    return np.asarray(np.mean([table / count for table, count in zip(tables, tokens, strict=True)], axis=0))


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _table(values: FloatTable) -> Table:
    return tuple(tuple(_short(float(value)) for value in row) for row in values)
