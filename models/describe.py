"""One description for every supported mixture-of-experts decoder: what the exporter needs and nothing else.

A decoder layer is: norm, attention, residual addition, norm, then a router with experts (an MoE layer) or one
feed-forward network (a dense layer). `layer` counts MoE layers everywhere but in `decoder_layers`, `dense` and
`attention.windows`, which count decoder layers: a trunk shard holds one MoE layer's attention and router and
the dense layers just before it. A shared expert is one more expert, always on, after the routed ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding (Su et al., arXiv 2104.09864) of the last 2 * len(frequencies) dimensions of a head.

    `frequencies` in radians a position, made from `base`; `factor` multiplies sine and cosine; `interleaved`: pairs are
    neighbours (2i, 2i + 1) on disk, not halves (i, i + n).
    """

    frequencies: tuple[float, ...]
    base: float = 10_000.0
    factor: float = 1.0
    interleaved: bool = False


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): low-rank queries and keys/values.

    `query_rank` 0: queries are not compressed. A head's key is `plain` dimensions and `rotary` shared ones.
    """

    query_rank: int
    kv_rank: int
    plain: int
    rotary: int


@dataclass(frozen=True)
class Attention:
    """Causal attention. `windows`: how many positions back a decoder layer sees, itself included; 0 is all.

    `norm`: RMSNorm of queries and keys, per head or over all heads; `clip` bounds queries, keys and values.
    `sinks`: one more logit a head that takes part in the softmax and carries no value (gpt-oss).
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    scale: float
    rotary: Rotary
    windows: tuple[int, ...]
    norm: Literal["none", "head", "full"] = "none"
    bias: bool = False
    out_bias: bool = False
    clip: float = 0.0
    sinks: bool = False
    latent: Latent | None = None


@dataclass(frozen=True)
class Router:
    """The router rule. Selection scores s and mixing weights w from logits l = W x (+ bias), by `rule`:

    softmax: s = w = softmax(l); "softmax after top-k" is this with `normalise`.
    sigmoid: w = sigmoid(l), s = w + correction bias (DeepSeek-V3, arXiv 2412.19437).
    sparsemixer: top 2; each weight is a softmax over the logits within `jitter` of its pick (arXiv 2409.12136).

    `groups` > 1: only experts of the `kept_groups` best groups may be picked; a group counts by its best
    score (`group_score` "max") or the sum of its two best ("top2"). Then w is divided by its sum over the
    picks (`normalise`) and multiplied by `scaling`.
    """

    experts: int
    top_k: int
    rule: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    normalise: bool = False
    scaling: float = 1.0
    bias: bool = False
    groups: int = 1
    kept_groups: int = 1
    group_score: Literal["max", "top2"] = "max"
    jitter: float = 0.0


@dataclass(frozen=True)
class FeedForward:
    """down(act(gate x) * up x). silu: act(g) = g sigmoid(g). clamped: g at most `limit`, u within it,
    g sigmoid(alpha g) * (u + 1) (gpt-oss)."""

    width: int
    activation: Literal["silu", "clamped"] = "silu"
    bias: bool = False
    alpha: float = 1.0
    limit: float = 0.0


@dataclass(frozen=True)
class DiskNames:
    """How this family calls its tensors below `model.layers.N.`."""

    moe: str = "mlp"
    router: str = "gate.weight"
    parts: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    stacked: tuple[str, str] = ("experts.gate_up_proj", "experts.down_proj")
    shared: str = ""
    transposed: bool = False
    """Stacked experts are [E, inputs, outputs], gate and up columns taking turns (gpt-oss)."""


@dataclass(frozen=True)
class Description:
    """A whole model. `shared_gate`: the shared expert's weight is sigmoid(v x), else 1."""

    family: str
    vocabulary: int
    hidden: int
    decoder_layers: int
    dense: tuple[int, ...]
    norm: Literal["rms", "layer"]
    epsilon: float
    attention: Attention
    router: Router
    expert: FeedForward
    names: DiskNames
    context: int
    end_of_text: int
    tied: bool
    shared: FeedForward | None = None
    shared_gate: bool = False
    dense_width: int = 0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_divisor: float = 1.0
    head_bias: bool = False

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The decoder layer of each MoE layer."""
        return tuple(n for n in range(self.decoder_layers) if n not in self.dense)

    @property
    def layers(self) -> int:
        return len(self.moe_layers)

    @property
    def experts(self) -> int:
        """Routed experts and the shared one."""
        return self.router.experts + self.always_on

    @property
    def always_on(self) -> int:
        return 0 if self.shared is None else 1

    @property
    def top_k(self) -> int:
        """Experts a token uses, the shared one included."""
        return self.router.top_k + self.always_on

    @property
    def separate_weights(self) -> bool:
        """Whether mixing weights are more than (normalised) selection scores."""
        plain = self.router.rule == "softmax" and self.router.groups == 1 and self.router.scaling == 1.0
        return not plain or self.always_on > 0 or self.residual_multiplier != 1.0

    def blocks(self, layer: int) -> tuple[int, ...]:
        """The decoder layers of a trunk shard, the MoE layer last."""
        ends = self.moe_layers
        return tuple(range(ends[layer - 1] + 1 if layer else 0, ends[layer] + 1))

    def feed_forward(self, expert: int) -> FeedForward:
        """Of expert `expert`; the shared expert is the last."""
        if expert < self.router.experts:
            return self.expert
        assert self.shared is not None
        return self.shared
