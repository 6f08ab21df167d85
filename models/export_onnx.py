"""The graphs of the shards: embed, trunk, head and expert, built node by node (facts and figures: decision 0010).

Letters in shapes: B requests, T new positions a request, R = B * T rows, P past positions, H hidden, V vocabulary,
E experts (the shared one included), L decoder layers of the shard, K key/value heads, D key and U value size.

The trunk step takes any number of requests at once, each with its own past (`trunk_contract`):

    hidden [R, H]                     row b * T + t is position t of request b
    past_key [P, B, L*K, D], past_value [P, B, L*K, U]
                                      positions first: one request's cache, as it lies, is read without a copy;
                                      a request with fewer than P past positions is padded at the end (any finite
                                      numbers). P is at least 1: onnxruntime 1.23.2 divides by zero at 0 and dies
    position [B, T]                   absolute, consecutive in a request, -1 in padding rows (at the end);
                                      position[b, 0] is also how many past positions of request b are real
    -> residual [R, H], expert_input [R, H], scores [R, E] (, weights [R, E]), key [B, T, L*K, D], value [B, T, L*K, U]

The new residual stream is residual + sum over picked experts of weight * expert(expert_input). A request's rows do
not depend on which other requests, or how much padding, share the call (tests/models/test_batch.py). One decode
step of n requests is T = 1; a prefill is B = 1; mixed lengths are padded. Rows of padding come out finite, and mean
nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from hil_config.wire.manifest import BLOCK, Precision, Tensor
from models.attention_graph import DecoderLayer, Positions, normalise
from models.checkpoint import Checkpoint, ExpertWeights
from models.describe import Description, FeedForward
from models.graph import Graph
from models.quantize import halved
from models.router_graph import route


class Built(NamedTuple):
    """A graph without weights, its weights, and what goes in and out."""

    graph: bytes
    weights: dict[str, npt.NDArray[np.generic]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


Contract = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def embed_contract(d: Description) -> Contract:
    return (Tensor("tokens", "int64", ("R",)),), (Tensor("hidden", "float32", ("R", d.hidden)),)


def trunk_contract(d: Description, layer: int) -> Contract:
    """See the module: shapes of one trunk shard's step."""
    a, depth = d.attention, len(d.blocks(layer))
    rows, chosen = ("R", d.hidden), ("R", d.experts)
    key, value = (depth * a.kv_heads, a.key_dim), (depth * a.kv_heads, a.value_dim)
    inputs = (
        Tensor("hidden", "float32", rows),
        Tensor("past_key", "float32", ("P", "B", *key)),
        Tensor("past_value", "float32", ("P", "B", *value)),
        Tensor("position", "int64", ("B", "T")),
    )
    weights = (Tensor("weights", "float32", chosen),) if d.separate_weights else ()
    outputs = (
        Tensor("residual", "float32", rows),
        Tensor("expert_input", "float32", rows),
        Tensor("scores", "float32", chosen),
        *weights,
        Tensor("key", "float32", ("B", "T", *key)),
        Tensor("value", "float32", ("B", "T", *value)),
    )
    return inputs, outputs


def head_contract(d: Description) -> Contract:
    return (Tensor("hidden", "float32", ("R", d.hidden)),), (Tensor("logits", "float32", ("R", d.vocabulary)),)


def expert_contract(d: Description) -> Contract:
    return (Tensor("x", "float32", ("R", d.hidden)),), (Tensor("y", "float32", ("R", d.hidden)),)


def _built(g: Graph, name: str, contract: Contract) -> Built:
    return Built(g.model(name, *contract), g.weights, *contract)


def embed_graph(checkpoint: Checkpoint, precision: Precision = "fp32") -> Built:
    """tokens [R] -> hidden [R, H]. The table is fp16 unless the trunk is fp32: rows are widened as they are used."""
    g, d = Graph(), checkpoint.description
    table = checkpoint.tensor("model.embed_tokens.weight", d.vocabulary, d.hidden)
    narrow, multiplied = precision != "fp32", d.embedding_multiplier != 1.0
    x = g.weight("embedding", halved(table) if narrow else table)
    x = g.node("Gather", [x, "tokens"], "row" if narrow or multiplied else "hidden", axis=0)
    if narrow:
        x = g.node("Cast", [x], "wide" if multiplied else "hidden", to=TensorProto.FLOAT)
    if multiplied:
        g.node("Mul", [x, g.constant(d.embedding_multiplier)], "hidden")
    return _built(g, "embed", embed_contract(d))


def head_graph(checkpoint: Checkpoint, precision: Precision = "fp32", block: int = BLOCK) -> Built:
    """Residual stream after the last layer [R, H] -> logits [R, V]."""
    g, d = Graph(block), checkpoint.description
    normed = normalise(g, checkpoint, "hidden", "model.norm", "normed")
    name = "model.embed_tokens.weight" if d.tied else "lm_head.weight"
    table = checkpoint.tensor(name, d.vocabulary, d.hidden)
    bias = checkpoint.tensor("lm_head.bias", d.vocabulary) if d.head_bias else None
    if d.logits_divisor == 1.0:
        g.linear(normed, table, "logits", precision, bias)
    else:
        g.linear(normed, table, "undivided", precision, bias)
        g.node("Div", ["undivided", g.constant(d.logits_divisor)], "logits")
    return _built(g, "head", head_contract(d))


def trunk_graph(checkpoint: Checkpoint, layer: int, precision: Precision = "fp32", scale_block: int = BLOCK) -> Built:
    """Attention and router of MoE layer `layer`, after the dense layers just before it; see the module."""
    g, d = Graph(scale_block), checkpoint.description
    blocks = d.blocks(layer)
    positions = Positions(g, d.attention)
    pasts = []
    for past in ("past_key", "past_value"):
        names = [f"{past}_{i}" for i in range(len(blocks))] if len(blocks) > 1 else [past]
        if len(blocks) > 1:
            g.node("Split", [past], names, axis=2, num_outputs=len(blocks))
        pasts.append(names)
    x, keys, values = "hidden", [], []
    for index, n in enumerate(blocks):
        last = index == len(blocks) - 1
        block = DecoderLayer(g, checkpoint, n, "" if len(blocks) == 1 else f"block_{index}.", precision)
        key, value, x = _attention(g, block, positions, x, pasts[0][index], pasts[1][index], "residual" if last else "")
        keys.append(key)
        values.append(value)
        if not last:
            x = _dense(g, checkpoint, block, x)
    if len(blocks) > 1:
        g.node("Concat", keys, "key", axis=2)
        g.node("Concat", values, "value", axis=2)
    last_norm = f"model.layers.{blocks[-1]}.post_attention_layernorm"
    route(g, checkpoint, layer, normalise(g, checkpoint, x, last_norm, "expert_input"))
    return _built(g, f"trunk_{layer}", trunk_contract(d, layer))


def _attention(
    g: Graph, block: DecoderLayer, p: Positions, x: str, past_key: str, past_value: str, out: str
) -> tuple[str, str, str]:
    """New keys, new values and the residual stream after the attention of one decoder layer."""
    d, pre = block.d, block.prefix
    normed = block.norm(x, "input_layernorm", "attention_input")
    query, key, value = (block.latent if d.attention.latent else block.grouped)(normed, p)
    mixed = block.attend(query, (past_key, key), (past_value, value), p)
    width = d.attention.heads * d.attention.value_dim
    output = block.project(mixed, "o_proj", d.hidden, width, d.attention.out_bias, 1.0, "attention_output")
    output = g.scaled(output, d.residual_multiplier, pre + "attention_scaled")
    return key, value, g.node("Add", [x, output], out or pre + "after_attention")


def _dense(g: Graph, checkpoint: Checkpoint, block: DecoderLayer, x: str) -> str:
    d, pre = checkpoint.description, block.prefix
    normed = block.norm(x, "post_attention_layernorm", "rows")
    network = FeedForward(d.dense_width)
    feed_forward(g, normed, checkpoint.dense(block.n), network, block.precision, pre + "dense", pre + "dense_output")
    scaled = g.scaled(pre + "dense_output", d.residual_multiplier, pre + "dense_scaled")
    return g.node("Add", [x, scaled], pre + "after_dense")


def expert_graph(checkpoint: Checkpoint, layer: int, expert: int, precision: Precision, block: int = BLOCK) -> Built:
    """One expert, not weighted: y [R, H] of rows x [R, H].

    Both products take a low-rank delta at run time (`Graph.low_rank`), at sites `gate_up` and `y`.
    """
    g, d = Graph(block), checkpoint.description
    feed_forward(g, "x", checkpoint.expert(layer, expert), d.feed_forward(expert), precision, "", "y", deltas=True)
    return _built(g, f"expert_{precision}", expert_contract(d))


def feed_forward(
    g: Graph, x: str, w: ExpertWeights, network: FeedForward, precision: Precision, pre: str, out: str,
    deltas: bool = False,
) -> None:  # fmt: skip
    """down(act(gate x) * up x); gate and up are one product, gate rows first. With `deltas`: low-rank additions."""
    both = np.concatenate((w.gate, w.up))
    both_bias = None if w.gate_bias is None or w.up_bias is None else np.concatenate((w.gate_bias, w.up_bias))
    base = ".base" if deltas else ""
    g.linear(x, both, pre + "gate_up" + base, precision, both_bias)
    if deltas:
        g.low_rank(x, pre + "gate_up.base", pre + "gate_up", both.shape[1], both.shape[0])
    gate, up = pre + "gate", pre + "up"
    g.node("Split", [pre + "gate_up"], [gate, up], axis=-1, num_outputs=2)
    if network.activation == "clamped":
        limit = g.constant(network.limit)
        gate = g.node("Min", [gate, limit], pre + "gate_limited")
        up = g.node("Clip", [up, g.constant(-network.limit), limit], pre + "up_limited")
        up = g.node("Add", [up, g.constant(1.0)], pre + "up_shifted")
    g.node("Sigmoid", [g.scaled(gate, network.alpha, pre + "gate_steep")], pre + "gate_sigmoid")
    g.node("Mul", [gate, pre + "gate_sigmoid"], pre + "gate_active")
    g.node("Mul", [pre + "gate_active", up], pre + "inner")
    g.linear(pre + "inner", w.down, out + base, precision, w.down_bias)
    if deltas:
        g.low_rank(pre + "inner", out + ".base", out, w.down.shape[1], w.down.shape[0])
