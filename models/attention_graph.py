"""Attention of one decoder layer over a batch of requests, as ONNX nodes.

Letters: B requests, T new positions a request (padded), R = B * T rows, P past positions (padded), S = P + T,
Q query heads, K key/value heads, G = Q / K, D key and V value size of a head.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from hil_config.wire.manifest import Precision
from models.checkpoint import Checkpoint, deinterleave
from models.describe import Attention
from models.graph import Graph
from models.tensor_file import FloatArray

_MASKED = -1e30
_FAR = 1 << 40


class Positions:
    """What all decoder layers of a shard share: rotary tables and who may see whom."""

    def __init__(self, g: Graph, a: Attention) -> None:
        self.g, self.a = g, a
        g.node("Shape", ["position"], "rows_shape")
        self._rotary()
        self._key_positions()
        self._visible: dict[int, str] = {}

    def _rotary(self) -> None:
        """`cos` and `sin` [R, D / 2] of the absolute positions."""
        g, rotary = self.g, self.a.rotary
        g.node("Cast", ["position"], "position_float", to=TensorProto.FLOAT)
        g.reshape("position_float", (-1, 1), "position_column")
        frequencies = g.constant(np.array(rotary.frequencies, dtype=np.float32), "frequencies")
        g.node("Mul", ["position_column", frequencies], "angle")
        self.cos = g.scaled(g.node("Cos", ["angle"], "cos"), rotary.factor, "cos_scaled")
        self.sin = g.scaled(g.node("Sin", ["angle"], "sin"), rotary.factor, "sin_scaled")

    def _key_positions(self) -> None:
        """`key_position` [B, 1, 1, S]: a past key's is its index, padding is far in the future; `query_position`
        [B, 1, G * T, 1]; `parts`: P and T."""
        g, groups = self.g, self.a.heads // self.a.kv_heads
        zero = g.constant(np.array(0, dtype=np.int64), "zero")
        far = g.constant(np.array(_FAR, dtype=np.int64), "far")
        g.node("Shape", ["past_key"], "past_count_1d", start=0, end=1)
        g.reshape("past_count_1d", (), "past_count")
        g.node("Range", [zero, "past_count", g.constant(np.array(1, dtype=np.int64), "one")], "past_index")
        g.node("Slice", ["position", g.constant([0]), g.constant([1]), g.constant([1])], "start")
        g.node("Less", ["past_index", "start"], "past_real")
        g.node("Where", ["past_real", "past_index", far], "past_position")
        g.node("Less", ["position", zero], "padding")
        g.node("Where", ["padding", far, "position"], "new_position")
        g.node("Concat", ["past_position", "new_position"], "key_position_2d", axis=1)
        g.node("Unsqueeze", ["key_position_2d", g.constant([1, 2])], "key_position")
        rows = "position" if groups == 1 else g.node("Tile", ["position", g.constant([1, groups])], "row_position")
        g.node("Unsqueeze", [rows, g.constant([1, 3])], "query_position")
        g.node("Shape", ["position"], "new_count_1d", start=1, end=2)
        g.node("Concat", ["past_count_1d", "new_count_1d"], "parts", axis=0)

    def visible(self, window: int) -> str:
        """[B, 1, G * T, S] bool: keys not after the query and, with a window, fewer than `window` before it."""
        if window not in self._visible:
            g, out = self.g, f"visible_{window}"
            seen = g.node("LessOrEqual", ["key_position", "query_position"], out + "_causal")
            if window:
                g.node("Sub", ["query_position", g.constant(np.array(window, dtype=np.int64))], out + "_edge")
                g.node("Greater", ["key_position", out + "_edge"], out + "_near")
                seen = g.node("And", [seen, out + "_near"], out)
            self._visible[window] = seen
        return self._visible[window]

    def heads(self, x: str, heads: int, size: int, out: str) -> str:
        """[R, heads * size] -> [B, T, heads, size]."""
        shape = f"shape_{heads}_{size}"
        if not any(shape in node.output for node in self.g.nodes):
            self.g.node("Concat", ["rows_shape", self.g.constant([heads, size])], shape, axis=0)
        return self.g.node("Reshape", [x, shape], out)

    def rotate(self, x: str, out: str) -> str:
        """[1, R, heads * D] with the first half of each D turned against the second half, by its row's angles."""
        first = self.g.constant([0])  # row r has entry r of the tables
        return self.g.node("RotaryEmbedding", [x, first, self.cos, self.sin], out, domain="com.microsoft")


class DecoderLayer:
    """Weights of one decoder layer's attention, and the nodes that compute it. Names start with `prefix`."""

    def __init__(self, g: Graph, checkpoint: Checkpoint, n: int, prefix: str, precision: Precision) -> None:
        self.g, self.checkpoint, self.n, self.prefix, self.precision = g, checkpoint, n, prefix, precision
        self.d, self.a = checkpoint.description, checkpoint.description.attention
        self.key, self.value = (f"{prefix}new_key", f"{prefix}new_value") if prefix else ("key", "value")

    def read(self, name: str, *shape: int) -> FloatArray:
        return self.checkpoint.tensor(f"model.layers.{self.n}.{name}", *shape)

    def norm(self, x: str, name: str, out: str) -> str:
        """The layer's own kind of normalisation over the hidden size."""
        return normalise(self.g, self.checkpoint, x, f"model.layers.{self.n}.{name}", self.prefix + out)

    def project(self, x: str, name: str, outputs: int, inputs: int, biased: bool, scale: float, out: str) -> str:
        weight = self.read(f"self_attn.{name}.weight", outputs, inputs)
        bias = self.read(f"self_attn.{name}.bias", outputs) if biased else None
        if scale != 1.0:
            weight = weight * np.float32(scale)
            bias = None if bias is None else bias * np.float32(scale)
        return self.g.linear(x, weight, self.prefix + out, self.precision, bias)

    def grouped(self, x: str, p: Positions) -> tuple[str, str, str]:
        """Query [B, T, Q, D] (already scaled), key [B, T, K, D] and value [B, T, K, D] of rows x [R, H].

        All three are one product, and queries and keys are turned as one: a decoded token pays for every node. The
        attention scale is folded into the query norm's weight or the query weights.
        """
        g, a, pre, size = self.g, self.a, self.prefix, self.a.key_dim
        widths = [a.heads * size, a.kv_heads * size, a.kv_heads * size]
        scales = [1.0 if a.norm != "none" else a.scale, 1.0, 1.0]
        names = [f"{short}_proj" for short in "qkv"]
        flat = self.project_all(x, list(zip(names, widths, scales, strict=True)), pre + "qkv")
        if a.norm == "full" or a.clip:
            parts = [pre + "q_flat", pre + "k_flat", pre + "v_flat"]
            g.node("Split", [flat, g.constant(widths)], parts, axis=1)
            both = g.node("Concat", [self._full(parts[0], "q"), self._full(parts[1], "k")], pre + "qk_flat", axis=1)
            value = self._full(parts[2], "v")
        else:
            both, value = pre + "qk_flat", pre + "v_flat"
            g.node("Split", [flat, g.constant([widths[0] + widths[1], widths[2]])], [both, value], axis=1)
        if a.norm == "head":
            both = self._head_norm(both)
        rows = g.reshape(both, (1, -1, widths[0] + widths[1]), pre + "qk_rows")
        p.heads(p.rotate(rows, pre + "qk_turned"), a.heads + a.kv_heads, size, pre + "qk_heads")
        g.node("Split", [pre + "qk_heads", g.constant([a.heads, a.kv_heads])], [pre + "query", self.key], axis=2)
        return pre + "query", self.key, p.heads(value, a.kv_heads, size, self.value)

    def project_all(self, x: str, parts: list[tuple[str, int, float]], out: str) -> str:
        """Projections (name, outputs, scale) of the same rows as one product, one after the other in its outputs."""
        hidden, scales = self.d.hidden, [np.float32(scale) for _, _, scale in parts]
        weights = [self.read(f"self_attn.{name}.weight", size, hidden) for name, size, _ in parts]
        weight = np.concatenate([w * scale for w, scale in zip(weights, scales, strict=True)])
        if not self.a.bias:
            return self.g.linear(x, weight, out, self.precision)
        biases = [self.read(f"self_attn.{name}.bias", size) for name, size, _ in parts]
        bias = np.concatenate([b * scale for b, scale in zip(biases, scales, strict=True)])
        return self.g.linear(x, weight, out, self.precision, bias)

    def _full(self, x: str, short: str) -> str:
        """The norm over all heads, and the clip, of queries, keys or values where the family has them."""
        a, width = self.a, (self.a.heads if short == "q" else self.a.kv_heads) * self.a.key_dim
        scale = a.scale if short == "q" else 1.0
        if a.norm == "full" and short != "v":
            weight = self.read(f"self_attn.{short}_norm.weight", width) * np.float32(scale)
            x = self.g.rms_norm(x, weight, self.d.epsilon, f"{self.prefix}{short}_norm")
        if a.clip:
            low, high = self.g.constant(-a.clip * scale), self.g.constant(a.clip * scale)
            x = self.g.node("Clip", [x, low, high], f"{self.prefix}{short}_clipped")
        return x

    def _head_norm(self, both: str) -> str:
        """The norm of each head of queries and keys [R, (Q + K) * D]: one norm, then the weights of either."""
        g, a, pre = self.g, self.a, self.prefix
        query = self.read("self_attn.q_norm.weight", a.key_dim) * np.float32(a.scale)
        key = self.read("self_attn.k_norm.weight", a.key_dim)
        unit = np.ones(a.key_dim, np.float32)
        split = g.reshape(both, (-1, a.heads + a.kv_heads, a.key_dim), pre + "qk_split")
        normed = g.rms_norm(split, unit, self.d.epsilon, pre + "qk_unit")
        weight = g.weight(pre + "qk_norm.weight", np.stack([query] * a.heads + [key] * a.kv_heads))
        return g.node("Mul", [normed, weight], pre + "qk_norm")

    def latent(self, x: str, p: Positions) -> tuple[str, str, str]:
        """The same with multi-head latent attention; keys and values are kept per head, expanded."""
        g, a, latent, pre = self.g, self.a, self.a.latent, self.prefix
        assert latent is not None
        turn = a.rotary.interleaved
        if latent.query_rank:
            low = self.project(x, "q_a_proj", latent.query_rank, self.d.hidden, a.bias, 1.0, "q_low")
            low = g.rms_norm(
                low, self.read("self_attn.q_a_layernorm.weight", latent.query_rank), 1e-6, pre + "q_low_norm"
            )
            weight = self.read("self_attn.q_b_proj.weight", a.heads * a.key_dim, latent.query_rank)
        else:
            low, weight = x, self.read("self_attn.q_proj.weight", a.heads * a.key_dim, self.d.hidden)
        weight = deinterleave(weight, a.heads, latent.rotary) if turn else weight
        flat = g.linear(low, weight * np.float32(a.scale), pre + "q_flat", self.precision)
        p.heads(flat, a.heads, a.key_dim, pre + "q_heads")
        parts = g.constant([latent.plain, latent.rotary])
        g.node("Split", [pre + "q_heads", parts], [pre + "q_plain", pre + "q_turn"], axis=-1)
        g.reshape(pre + "q_turn", (1, -1, a.heads * latent.rotary), pre + "q_turn_rows")
        turned = p.rotate(pre + "q_turn_rows", pre + "q_turned_rows")
        p.heads(turned, a.heads, latent.rotary, pre + "q_turned")
        query = g.node("Concat", [pre + "q_plain", pre + "q_turned"], pre + "query", axis=-1)
        return query, *self._latent_keys(x, p)

    def _latent_keys(self, x: str, p: Positions) -> tuple[str, str]:
        g, a, latent, pre = self.g, self.a, self.a.latent, self.prefix
        assert latent is not None
        width = latent.kv_rank + latent.rotary
        down = self.read("self_attn.kv_a_proj_with_mqa.weight", width, self.d.hidden)
        bias = self.read("self_attn.kv_a_proj_with_mqa.bias", width) if a.bias else None
        if a.rotary.interleaved:
            down = deinterleave(down, 1, latent.rotary)
            bias = None if bias is None else deinterleave(bias, 1, latent.rotary)
        g.linear(x, down, pre + "kv_low", self.precision, bias)
        parts = g.constant([latent.kv_rank, latent.rotary])
        g.node("Split", [pre + "kv_low", parts], [pre + "kv_latent", pre + "k_turn_flat"], axis=-1)
        norm = self.read("self_attn.kv_a_layernorm.weight", latent.kv_rank)
        g.rms_norm(pre + "kv_latent", norm, 1e-6, pre + "kv_norm")
        size = latent.plain + a.value_dim
        up = self.read("self_attn.kv_b_proj.weight", a.heads * size, latent.kv_rank)
        p.heads(g.linear(pre + "kv_norm", up, pre + "kv_flat", self.precision), a.heads, size, pre + "kv_heads")
        parts = g.constant([latent.plain, a.value_dim])
        g.node("Split", [pre + "kv_heads", parts], [pre + "k_plain", self.value], axis=-1)
        g.reshape(pre + "k_turn_flat", (1, -1, latent.rotary), pre + "k_turn_rows")
        p.heads(p.rotate(pre + "k_turn_rows", pre + "k_turned_rows"), 1, latent.rotary, pre + "k_turned")
        g.node("Expand", [pre + "k_turned", g.constant([1, 1, a.heads, 1])], pre + "k_shared")
        return g.node("Concat", [pre + "k_plain", pre + "k_shared"], self.key, axis=-1), self.value

    def attend(self, query: str, key: tuple[str, str], value: tuple[str, str], p: Positions) -> str:
        """Query [B, T, Q, D] over keys [P, B, K, D] and [B, T, K, D], values the same with V -> [R, Q * V].

        Past and new are multiplied apart and joined where they are small: the past, which a decoded token would
        otherwise copy three times, is read where it lies. The G queries of a key head are rows of one product.
        """
        g, a, pre = self.g, self.a, self.prefix
        groups = a.heads // a.kv_heads
        if groups == 1:
            g.node("Transpose", [query], pre + "query_t", perm=[0, 2, 1, 3])
        else:
            g.reshape(query, (0, 0, a.kv_heads, groups, a.key_dim), pre + "query_grouped")
            g.node("Transpose", [pre + "query_grouped"], pre + "query_5d", perm=[0, 2, 3, 1, 4])
            g.reshape(pre + "query_5d", (0, a.kv_heads, -1, a.key_dim), pre + "query_t")
        old = self._over_past(pre + "query_t", key[0], pre + "past_logits", transB=1)
        g.node("Transpose", [key[1]], pre + "key_t", perm=[0, 2, 3, 1])
        new = g.node("MatMul", [pre + "query_t", pre + "key_t"], pre + "new_logits")
        g.node("Concat", [old, new], pre + "logits", axis=-1)
        seen = p.visible(a.windows[self.n])
        g.node("Where", [seen, pre + "logits", g.constant(_MASKED)], pre + "logits_masked")
        share = self._softmax(pre + "logits_masked")
        g.node("Split", [share, "parts"], [pre + "past_share", pre + "new_share"], axis=-1)
        old = self._over_past(pre + "past_share", value[0], pre + "past_mixed", transB=0)
        g.node("Transpose", [value[1]], pre + "value_t", perm=[0, 2, 1, 3])
        new = g.node("MatMul", [pre + "new_share", pre + "value_t"], pre + "new_mixed")
        mixed = g.node("Add", [old, new], pre + "mixed_t")
        if groups > 1:
            g.reshape(mixed, (0, a.kv_heads, groups, -1, a.value_dim), pre + "mixed_5d")
            mixed = pre + "mixed_5d"
        g.node("Transpose", [mixed], pre + "mixed_by_row", perm=[0, 2, 1, 3] if groups == 1 else [0, 3, 1, 2, 4])
        return g.reshape(pre + "mixed_by_row", (-1, a.heads * a.value_dim), pre + "mixed")

    def _over_past(self, rows: str, past: str, out: str, **turned: int) -> str:
        """Rows [B, K, N, .] times the past [P, B, K, .], or its transpose, head by head: strides, not copies."""
        return self.g.node("FusedMatMul", [rows, past], out, domain="com.microsoft", transBatchB=1, **turned)

    def _softmax(self, logits: str) -> str:
        """Over keys; with sinks over keys and the head's sink, whose share is then left out."""
        g, a, pre = self.g, self.a, self.prefix
        if not a.sinks:
            return g.node("Softmax", [logits], pre + "attention", axis=-1)
        sinks = self.read("self_attn.sinks", a.heads).reshape(1, a.kv_heads, a.heads // a.kv_heads, 1)
        g.node("Concat", [g.constant([1, 1, 1]), "new_count_1d"], pre + "sinks_shape", axis=0)
        g.node("Expand", [g.weight(pre + "sinks", sinks), pre + "sinks_shape"], pre + "sinks_by_row")
        g.reshape(pre + "sinks_by_row", (1, a.kv_heads, -1, 1), pre + "sinks_4d")
        g.node("ReduceMax", [logits, g.constant([-1])], pre + "largest", keepdims=1)
        g.node("Mul", [pre + "largest", g.constant(0.0)], pre + "nothing")
        g.node("Add", [pre + "nothing", pre + "sinks_4d"], pre + "sink_column")
        g.node("Concat", [logits, pre + "sink_column"], pre + "logits_and_sink", axis=-1)
        g.node("Softmax", [pre + "logits_and_sink"], pre + "attention_and_sink", axis=-1)
        ends = [g.constant([0]), g.constant([-1]), g.constant([3])]
        return g.node("Slice", [pre + "attention_and_sink", *ends], pre + "attention")


def normalise(g: Graph, checkpoint: Checkpoint, x: str, name: str, out: str) -> str:
    """RMSNorm or LayerNorm with the weights called `name`."""
    d = checkpoint.description
    weight = checkpoint.tensor(name + ".weight", d.hidden)
    if d.norm == "rms":
        return g.rms_norm(x, weight, d.epsilon, out)
    return g.layer_norm(x, weight, checkpoint.tensor(name + ".bias", d.hidden), d.epsilon, out)
