"""Which codec a frame of hidden states gets, and which rows are not worth sending: a plan's rules, applied per frame.

A frame over rows of mean squared mass m2 (m: the sum of a row's mixing weights that this host serves) of a layer of
sensitivity s costs, in codec c of `size` bytes,

    loss(c) = s m2 error(c) + price size(c) / size(fp32)        subject to size(c) <= most_bytes

and gets the codec of least loss that is no finer than the plan's finest; where none fits, the smallest. error(c) is
the mean squared error of a codec relative to the row's mean square, in closed form for normal values: a symmetric
code with n steps up to the peak errs by (peak / n)^2 / 12, the expected peak of w values being near sqrt(2 ln 2w)
standard deviations. Not sending a row has error 1 and no size: with `drop`, rows that lose less by that than by the
smallest frame are left out; a row always keeps its strongest pick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.hidden_codec import CODECS, GROUP, Codec, encoded_size
from hil_config.wire.plan import LinkRule, Transmission
from models.serving.layer_gate import Picks


def _coded(peak_of: int, steps: int) -> float:
    return 2.0 * math.log(2.0 * peak_of) / steps**2 / 12.0


def codec_error(codec: Codec, width: int) -> float:
    """Mean squared error relative to the mean square of a row of `width` values."""
    if codec == "fp32":
        return 0.0
    if codec == "fp16":
        return 2.0**-22 / 3.0
    return _coded(width, 127) if codec == "int8" else _coded(min(GROUP, width), 7)


@dataclass(frozen=True)
class Sending:
    """A plan's rules of transmission, ready for use. `rules` by (from, to)."""

    finest: Codec
    rules: dict[tuple[int, int], LinkRule]
    sensitivity: tuple[float, ...]
    drop: bool

    def codec(self, source: int, target: int, layer: int, rows: int, width: int, importance: float) -> Codec:
        """Of a frame [rows, width] of `layer` (-1: of none, as sensitive as can be) between two nodes."""
        rule = self.rules.get((source, target))
        allowed = CODECS[CODECS.index(self.finest) :]
        if rule is None:
            return self.finest
        fit = [c for c in allowed if not rule.most_bytes or encoded_size(c, rows, width) <= rule.most_bytes]
        if not fit:
            return allowed[-1]
        if rule.price <= 0.0:
            return fit[0]
        worth, whole = self._sensitivity(layer) * importance, encoded_size("fp32", rows, width)
        return min(
            fit, key=lambda c: worth * codec_error(c, width) + rule.price * encoded_size(c, rows, width) / whole
        )  # the finest of equals: min takes the first

    def _sensitivity(self, layer: int) -> float:
        return self.sensitivity[layer] if self.sensitivity and layer >= 0 else 1.0

    def keep(self, picks: Picks, source: int, layer: int, width: int) -> Picks:
        """The picks without those that are not worth a frame from gateway `source`. `kept` falls with them."""
        prices = [rule.price for rule in self.rules.values()] if self.drop else []
        if max(prices, default=0.0) <= 0.0:
            return picks
        nodes = int(picks.hosts.max(initial=-1)) + 1
        price = np.array([rule.price if (rule := self.rules.get((source, n))) else 0.0 for n in range(nodes)] + [0.0])
        smallest = CODECS[-1]
        share = encoded_size(smallest, 1, width) / encoded_size("fp32", 1, width)
        same = picks.hosts[:, :, None] == picks.hosts[:, None, :]
        mass = (same * picks.weights[:, None, :]).sum(axis=2)
        loss = self._sensitivity(layer) * mass**2
        gone = (picks.hosts >= 0) & (loss * (1.0 - codec_error(smallest, width)) < price[picks.hosts] * share)
        strongest = picks.hosts == np.take_along_axis(picks.hosts, picks.weights.argmax(axis=1)[:, None], 1)
        gone &= ~strongest
        if not gone.any():
            return picks
        weights = np.where(gone, np.float32(0.0), picks.weights)
        before, after = picks.weights.sum(axis=1), weights.sum(axis=1)
        left: NDArray[np.float32] = np.divide(after, before, out=np.ones_like(after), where=before > 0.0)
        return picks._replace(
            experts=np.where(gone, -1, picks.experts).astype(np.int16),
            hosts=np.where(gone, -1, picks.hosts).astype(np.int16), weights=weights,
            kept=(picks.kept * left).astype(np.float32),
        )  # fmt: skip


def compile_sending(rules: Transmission | None) -> Sending | None:
    """The rules of a plan by pair, or None where it has none."""
    if rules is None:
        return None
    by_pair = {(rule.source, rule.target): rule for rule in rules.links}
    return Sending(rules.finest, by_pair, rules.sensitivity, rules.drop)


def mean_square_mass(weights: NDArray[np.float32]) -> float:
    """Over rows [n, k]: how much of a layer's output the rows of a call make up. In float64, row by row."""
    mass = weights.sum(axis=1, dtype=np.float64)
    return float(np.mean(mass * mass))
