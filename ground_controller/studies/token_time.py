"""Seconds a token takes when each expert is on a satellite: the latency model of arXiv 2605.00515.

    T = sum over layers of  tau_gateway + max over chosen experts i of  D(g_l, s_i) + tau_expert + D(s_i, g_l+1)

where D is the delay of the shortest path in the snapshot, and the last layer leads back to the first gateway.
Transmission time is left out: 8 KiB at 100 Gbit/s is 0.66 us. Compute is operations over a constant rate. The formula
was put together from two notes on the paper that agree; the paper's own equations were not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.policies.view import Placement
from ground_controller.studies.constellation import Int, Sky, paths_s, snapshot_delays
from hil_config.errors import UsageError
from hil_config.wire.manifest import ModelCard, Routing

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """The model and the computer it runs on. LLaMA-MoE-3.5B (4 of 16 splits, here 8 experts, top 2) on a SBC-2A72 held
    at 70 %: 7.28 GFLOPS.

    Args:
        skew: experts are drawn with weights rank^-skew (Zipf), another order in each layer; 0 is all alike.
        hidden, expert_hidden: widths, for the operations of attention's projections and of a gated expert.
    """

    layers: int = 32
    experts: int = 8
    top_k: int = 2
    skew: float = 1.0
    gflops: float = 7.28
    hidden: int = 4096
    expert_hidden: int = 1376
    seed: int = 0

    @property
    def gateway_s(self) -> float:
        """Four projections of attention, one layer."""
        return 2.0 * 4.0 * self.hidden**2 / (self.gflops * 1e9)

    @property
    def expert_s(self) -> float:
        """Gate, up and down of one expert; a layer's experts work at the same time."""
        return 2.0 * 3.0 * self.hidden * self.expert_hidden / (self.gflops * 1e9)

    def weights(self) -> Float:
        """[layers, experts], each row adding up to 1."""
        rank = np.arange(1, self.experts + 1, dtype=np.float64) ** -self.skew
        rng = np.random.default_rng((self.seed, 17))
        return np.stack([rng.permutation(rank / rank.sum()) for _ in range(self.layers)])

    def card(self) -> ModelCard:
        """What placement policies are told. `activation`: share of tokens that use an expert, from 20,000 draws."""
        rng = np.random.default_rng((self.seed, 18))
        weights = self.weights()
        use = np.zeros_like(weights)
        chosen = draw_experts(weights, self.top_k, 20_000, rng)
        for layer in range(self.layers):
            use[layer] = np.bincount(chosen[:, layer].ravel(), minlength=self.experts) / 20_000
        table = tuple(tuple(float(x) for x in row) for row in use)
        return ModelCard(
            "LLaMA-MoE-3.5B (shape)", self.layers, self.experts, self.hidden, self.expert_hidden, 32_000, 32, 128,
            4_096, 2, Routing(self.top_k, True), table, table,
        )  # fmt: skip


def draw_experts(weights: Float, top_k: int, tokens: int, rng: np.random.Generator) -> Int:
    """[tokens, layers, top_k] experts without replacement, in proportion to `weights` (Gumbel top-k)."""
    noisy = np.log(weights)[None] + rng.gumbel(size=(tokens, *weights.shape))
    return np.asarray(np.argpartition(-noisy, top_k - 1, axis=-1)[..., :top_k], np.int64)


class Times(NamedTuple):
    """`token_s`: of every token that got through, [N]; `layer_s`: their mean by layer [L], compute included;
    `lost`: share of tokens that met an expert without a path."""

    token_s: Float
    layer_s: Float
    lost: float


class Sites(NamedTuple):
    """A placement as numbers: gateway of each layer [L], satellite of each expert [L, E]."""

    gateway: Int
    expert: Int


def sites(placement: Placement, names: tuple[str, ...]) -> Sites:
    """Primaries only."""
    index = {name: n for n, name in enumerate(names)}
    gateway = [index[cut.nodes[0]] for cut in placement.gateways for _ in range(cut.first, cut.last + 1)]
    return Sites(np.array(gateway), np.array([[held[0] for held in layer] for layer in placement.holders]))


def token_times(sky: Sky, work: Work, placed: list[Sites], tokens: int) -> list[Times]:
    """For each placement, `tokens` in every snapshot of the orbit; all placements serve the same tokens."""
    rng = np.random.default_rng((work.seed, 19))
    sources = np.unique(np.concatenate([one.gateway for one in placed]))
    row = np.zeros(sky.count, np.int64)
    row[sources] = np.arange(sources.size)
    weights = work.weights()
    layer = np.arange(work.layers)[None, :, None]
    found: list[list[Float]] = [[] for _ in placed]
    for a, b, delay in snapshot_delays(sky, np.arange(sky.snapshots)):
        paths = paths_s(sky.count, a, b, delay, sources)
        chosen = draw_experts(weights, work.top_k, tokens, rng)
        for one, times in zip(placed, found, strict=True):
            after = np.roll(one.gateway, -1)
            through = paths[row[one.gateway][:, None], one.expert] + paths[row[after][:, None], one.expert]
            times.append(through[layer, chosen].max(axis=-1))
    fixed = work.gateway_s + work.expert_s
    answer = []
    for times in found:
        per_layer = np.concatenate(times) + fixed
        reached = np.isfinite(per_layer).all(axis=1)
        if not reached.any():
            raise UsageError("no token got through: every path was down", "raise the link survival, or link the seam")
        kept = per_layer[reached]
        answer.append(Times(kept.sum(axis=1), kept.mean(axis=0), 1.0 - float(reached.mean())))
    return answer
