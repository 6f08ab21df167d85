"""Deltas on the ground: pack trained factors, try them, and merge those of several nodes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hil_config.errors import DataFileError, UsageError
from hil_config.wire.delta import (
    DELTA_VERSION,
    Delta,
    DeltaHeader,
    Factors,
    Place,
    encode_delta,
    expert_feeds,
    raised_scores,
)
from models.oracle import FloatArray
from models.probe import Probe

Arrays = Mapping[str, npt.NDArray[np.float32]]


def read_factors(path: Path) -> dict[Place, Factors]:
    """Factors of a .npz: `<layer>.<expert>.<site>.a` [inputs, rank] and `.b` [rank, outputs]."""
    hint = "train them: python -m models.reference.adapt"
    out: dict[Place, dict[str, npt.NDArray[np.float32]]] = {}
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            for name in archive.files:
                layer, expert, site, part = name.split(".")
                out.setdefault((int(layer), int(expert), site), {})[part] = archive[name].astype(np.float32)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror or error}", hint) from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataFileError(f"{path}: not a file of factors: {error}", hint) from error
    for place, pair in out.items():
        if (
            set(pair) != {"a", "b"}
            or pair["a"].ndim != 2
            or pair["b"].ndim != 2
            or len(pair["b"]) != pair["a"].shape[1]
        ):
            raise DataFileError(f"{path}: {place}: wanted a [inputs, rank] and b [rank, outputs]", hint)
    return {place: Factors(pair["a"], pair["b"]) for place, pair in out.items()}


def pack(factors: Mapping[Place, Factors], name: str, seq: int, base_sha256: str, **facts: object) -> bytes:
    """The delta file of factors that act as they are (alpha = rank)."""
    ranks = {f.a.shape[1] for f in factors.values()}
    if len(ranks) != 1:
        raise UsageError(f"factors of {name}: got ranks {sorted(ranks)}, wanted one rank", "train them together")
    rank = ranks.pop()
    header = DeltaHeader(DELTA_VERSION, name, seq, base_sha256, rank, float(rank), (), **facts)  # type: ignore[arg-type]
    return encode_delta(header, dict(factors))


def merge(deltas: Sequence[Delta], weights: Sequence[float] | None = None) -> dict[Place, Factors]:
    """The weighted mean of the products A B, cut back to the deltas' rank.

    The mean of products is not the product of means, so factors are not averaged: stacking the factors gives the mean
    exactly at the summed rank, and the singular value decomposition of that (through two thin QR decompositions, so no
    full matrix is formed) gives its best approximation at the wanted one (Eckart & Young 1936). `weights`: by default
    the tokens each was trained on. A part that only some deltas have counts as zero in the others.
    """
    if not deltas:
        raise UsageError("nothing to merge: got no deltas, wanted at least one", "name delta files")
    bases, ranks = {d.header.base_sha256 for d in deltas}, {d.header.rank for d in deltas}
    if len(bases) != 1 or len(ranks) != 1:
        raise UsageError(f"deltas of {len(bases)} models and ranks {sorted(ranks)} cannot be merged", "use one of each")
    given = [float(d.header.tokens or 1) for d in deltas] if weights is None else list(weights)
    total, rank = sum(given), ranks.pop()
    if len(given) != len(deltas) or min(given) < 0 or total <= 0:
        raise UsageError(f"weights {given}: wanted {len(deltas)} numbers >= 0, not all 0", "")
    out: dict[Place, Factors] = {}
    for place in sorted({place for delta in deltas for place in delta.factors}):
        pairs = [(w / total, d.factors[place]) for w, d in zip(given, deltas, strict=True) if place in d.factors]
        a = np.concatenate([f.a * np.sqrt(w) for w, f in pairs], axis=1).astype(np.float64)
        b = np.concatenate([f.b * np.sqrt(w) for w, f in pairs], axis=0).astype(np.float64)
        out[place] = cut(a, b, rank)
    return out


def cut(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], rank: int) -> Factors:
    """The best approximation of A B at `rank`, its singular values shared evenly between both factors."""
    left, right = np.linalg.qr(a), np.linalg.qr(b.T)
    u, s, v = np.linalg.svd(left.R @ right.R.T)
    rank_now = min(rank, len(s))
    root = np.sqrt(s[:rank_now])
    first, second = np.zeros((a.shape[0], rank)), np.zeros((rank, b.shape[1]))
    first[:, :rank_now] = left.Q @ u[:, :rank_now] * root
    second[:rank_now] = (v[:rank_now].T * root).T @ right.Q.T
    return Factors(first.astype(np.float32), second.astype(np.float32))


class AdaptedProbe(Probe):
    """A probe whose experts run under a delta; None is the model itself."""

    delta: Delta | None = None

    def expert(self, place: tuple[int, int], rows: FloatArray, precision: str | None = None) -> FloatArray:
        if self.delta is None:
            return super().expert(place, rows)
        extra = expert_feeds(self.delta).get(place, {})
        output = self._experts[place[0]][place[1]].run(None, {"x": rows, **extra})[0]
        return np.asarray(output, dtype=np.float32)

    def mix(self, layer: int, rows: FloatArray, scores: FloatArray, mixing: FloatArray | None = None) -> FloatArray:
        router = None if self.delta is None else self.delta.factors.get((layer, -1, "router"))
        return super().mix(layer, rows, scores if router is None else raised_scores(router, rows, scores), mixing)
