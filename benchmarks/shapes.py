"""Random-weight models of a given shape, int4 throughout: our shards, and the same shape as a Q4_0 GGUF file.

Speed does not depend on the values. Experts of one layer hold the same bytes (one file, linked), each in memory
of its own once loaded; routers are random, so that the picks of a token are spread over all experts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hil_config.wire import manifest as m

BLOCK = 32
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
_FREE_ROWS = "T"
_Ends = tuple[tuple[m.Tensor, ...], tuple[m.Tensor, ...]]


class Shape(NamedTuple):
    """An OLMoE-like decoder: query and key norms over the full width, softmax over all experts, then top-k."""

    name: str
    hidden: int
    layers: int
    experts: int
    top_k: int
    width: int
    heads: int
    vocabulary: int = 50304
    context: int = 512

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def weights_per_token(self) -> int:
        """Weights that one decoded token reads."""
        layer = 4 * self.hidden**2 + self.hidden * self.experts + self.top_k * 3 * self.hidden * self.width
        return self.layers * layer + self.hidden * self.vocabulary


OLMOE_4 = Shape("OLMoE, 4 layers", 2048, 4, 64, 8, 1024, 16)
OLMOE_16 = Shape("OLMoE, 16 layers", 2048, 16, 64, 8, 1024, 16)
SMALL = Shape("small", 512, 8, 16, 2, 1024, 8)


class _Graph:
    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def node(self, kind: str, inputs: list[str], out: str | list[str], domain: str = "", **attributes: Any) -> str:
        names = [out] if isinstance(out, str) else out
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def int4(self, x: str, inputs: int, outputs: int, out: str) -> str:
        """x [.., inputs] times random int4 weights of unit gain."""
        codes = self.rng.integers(0, 256, (outputs, inputs // BLOCK, BLOCK // 2), np.uint8)
        scales = np.full(outputs * inputs // BLOCK, 1.0 / (4.6 * inputs**0.5), np.float32)
        weights = [x, self.constant(out + ".codes", codes), self.constant(out + ".scales", scales)]
        return self.node(
            "MatMulNBits", weights, out, "com.microsoft",
            K=inputs, N=outputs, bits=4, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip

    def norm(self, x: str, width: int, out: str) -> str:
        weight = self.constant(out + ".weight", np.ones(width, np.float32))
        return self.node("SimplifiedLayerNormalization", [x, weight], out, axis=-1, epsilon=1e-5)

    def write(self, path: Path, inputs: tuple[m.Tensor, ...], outputs: tuple[m.Tensor, ...]) -> None:
        sides = [[helper.make_tensor_value_info(t.name, _TYPES[t.dtype], list(t.shape)) for t in side]
                 for side in (inputs, outputs)]  # fmt: skip
        graph = helper.make_graph(self.nodes, path.stem, sides[0], sides[1], self.constants)
        sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        path.write_bytes(helper.make_model(graph, opset_imports=sets, ir_version=10).SerializeToString())


def _rows(name: str, width: int) -> m.Tensor:
    return m.Tensor(name, "float32", (_FREE_ROWS, width))


def _embed(path: Path, s: Shape) -> _Ends:
    g = _Graph(1)
    table = g.constant("table", g.rng.standard_normal((s.vocabulary, s.hidden), np.float32))
    g.node("Gather", [table, "tokens"], "hidden", axis=0)
    ends = (m.Tensor("tokens", "int64", (_FREE_ROWS,)),), (_rows("hidden", s.hidden),)
    g.write(path, *ends)
    return ends


def _head(path: Path, s: Shape) -> _Ends:
    g = _Graph(2)
    g.int4(g.norm("hidden", s.hidden, "normed"), s.hidden, s.vocabulary, "logits")
    ends = (_rows("hidden", s.hidden),), (_rows("logits", s.vocabulary),)
    g.write(path, *ends)
    return ends


def _expert(path: Path, s: Shape) -> _Ends:
    g = _Graph(3)
    g.int4("x", s.hidden, 2 * s.width, "gate_up")
    g.node("Split", ["gate_up"], ["gate", "up"], axis=-1, num_outputs=2)
    g.node("Sigmoid", ["gate"], "sigmoid")
    g.node("Mul", ["gate", "sigmoid"], "silu")
    g.int4(g.node("Mul", ["silu", "up"], "inner"), s.width, s.hidden, "y")
    ends = (_rows("x", s.hidden),), (_rows("y", s.hidden),)
    g.write(path, *ends)
    return ends


def _rotated(g: _Graph, x: str, out: str) -> str:
    g.node("Split", [x], [out + ".low", out + ".high"], axis=-1, num_outputs=2)
    g.node("Mul", [x, "cos"], out + ".straight")
    g.node("Neg", [out + ".high"], out + ".negative")
    g.node("Concat", [out + ".negative", out + ".low"], out + ".turned", axis=-1)
    g.node("Mul", [out + ".turned", "sin"], out + ".crossed")
    return g.node("Add", [out + ".straight", out + ".crossed"], out)


def _trunk(path: Path, s: Shape, layer: int) -> _Ends:
    """One query, key and value product; attention over the cache; router in fp32."""
    g, heads, size = _Graph(10 + layer), s.heads, s.head_dim
    g.int4(g.norm("hidden", s.hidden, "x"), s.hidden, 3 * s.hidden, "qkv")
    g.node("Split", ["qkv"], ["q", "k", "v"], axis=-1, num_outputs=3)
    shape = g.ints("head_shape", 0, heads, size)
    for name in "qk":
        g.node("Reshape", [g.norm(name, s.hidden, name + ".normed"), shape], name + "_heads")
    g.node("Reshape", ["v", shape], "value")
    angles = np.outer(np.arange(s.context), 10_000.0 ** (-np.arange(0, size, 2) / size))
    for name, table in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
        wide = np.concatenate([table, table], axis=1).astype(np.float32)[:, None, :]
        g.node("Gather", [g.constant(name + "_table", wide), "position"], name, axis=0)
    _rotated(g, "q_heads", "query")
    _rotated(g, "k_heads", "key")
    g.node("Concat", ["past_key", "key"], "keys", axis=0)
    g.node("Concat", ["past_value", "value"], "values", axis=0)
    g.node("Transpose", ["query"], "query_t", perm=[1, 0, 2])
    g.node("Transpose", ["keys"], "keys_t", perm=[1, 2, 0])
    g.node("Transpose", ["values"], "values_t", perm=[1, 0, 2])
    g.node("MatMul", ["query_t", "keys_t"], "raw")
    g.node("Mul", ["raw", g.constant("scale", np.array(size**-0.5, np.float32))], "scaled")
    g.node("Shape", ["keys"], "count_1d", start=0, end=1)
    g.node("Squeeze", ["count_1d"], "count")
    zero, one = g.constant("zero", np.array(0, np.int64)), g.constant("one", np.array(1, np.int64))
    g.node("Range", [zero, "count", one], "key_position")
    g.node("Reshape", ["position", g.ints("column", -1, 1)], "query_position")
    g.node("LessOrEqual", ["key_position", "query_position"], "visible")
    masked = g.constant("masked", np.array(-1e30, np.float32))
    g.node("Softmax", [g.node("Where", ["visible", "scaled", masked], "seen")], "attention", axis=-1)
    g.node("MatMul", ["attention", "values_t"], "mixed_t")
    g.node("Transpose", ["mixed_t"], "mixed_heads", perm=[1, 0, 2])
    g.node("Reshape", ["mixed_heads", g.ints("flat", 0, s.hidden)], "mixed")
    g.node("Add", ["hidden", g.int4("mixed", s.hidden, s.hidden, "attended")], "residual")
    g.norm("residual", s.hidden, "expert_input")
    router = g.rng.standard_normal((s.hidden, s.experts), np.float32) / s.hidden**0.5
    g.node("MatMul", ["expert_input", g.constant("router", router)], "router_logits")
    g.node("Softmax", ["router_logits"], "scores", axis=-1)
    past, new = ("P", heads, size), (_FREE_ROWS, heads, size)
    inputs = (
        _rows("hidden", s.hidden), m.Tensor("past_key", "float32", past), m.Tensor("past_value", "float32", past),
        m.Tensor("position", "int64", (_FREE_ROWS,)),
    )  # fmt: skip
    outputs = (
        _rows("residual", s.hidden), _rows("expert_input", s.hidden), _rows("scores", s.experts),
        m.Tensor("key", "float32", new), m.Tensor("value", "float32", new),
    )  # fmt: skip
    g.write(path, inputs, outputs)
    return inputs, outputs


def write_shards(s: Shape, folder: Path) -> m.Manifest:
    """A model folder as nodes read it. The manifest has no name for int4 weights yet, so they stand as "int8"
    experts and "fp32" trunk: only this benchmark reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[m.Shard] = []

    def add(
        path: Path, kind: m.ShardKind, precision: m.Precision, ends: _Ends, layer: int = -1, expert: int = -1
    ) -> None:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        shards.append(m.Shard(path.name, kind, precision, digest, len(data), ends[0], ends[1], layer, expert))

    add(folder / "embed.onnx", "embed", "fp32", _embed(folder / "embed.onnx", s))
    add(folder / "head.onnx", "head", "fp32", _head(folder / "head.onnx", s))
    for layer in range(s.layers):
        path = folder / f"trunk_{layer:02d}.onnx"
        add(path, "trunk", "fp32", _trunk(path, s, layer), layer)
    first = folder / "expert.onnx"
    ends = _expert(first, s)
    data = first.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    for layer in range(s.layers):
        for expert in range(s.experts):
            name = f"expert_{layer:02d}_{expert:02d}.onnx"
            os.link(first, folder / name)
            shards.append(m.Shard(name, "expert", "int8", digest, len(data), ends[0], ends[1], layer, expert))
    flat = tuple(tuple(s.top_k / s.experts for _ in range(s.experts)) for _ in range(s.layers))
    ones = tuple((1.0,) * s.experts for _ in range(s.layers))
    card = m.ModelCard(
        s.name, s.layers, s.experts, s.hidden, s.width, s.vocabulary, s.heads, s.head_dim, s.context,
        -1, m.Routing(s.top_k, False), flat, ones,
    )  # fmt: skip
    manifest = m.Manifest(m.MANIFEST_VERSION, card, "random", 21, "1.23.2", tuple(shards))
    (folder / m.MANIFEST_NAME).write_bytes(m.encode_manifest(manifest))
    return manifest


def _q4_0(rng: np.random.Generator, rows: int, inputs: int) -> NDArray[np.uint8]:
    """Random Q4_0 blocks [rows, inputs / 32 * 18]: a float16 scale and 16 bytes of codes each."""
    blocks = rng.integers(0, 256, (rows, inputs // BLOCK, 18), np.uint8)
    blocks[:, :, :2] = np.frombuffer(np.float16(1.0 / (4.6 * inputs**0.5)).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _gguf_tensors(s: Shape) -> Iterator[tuple[str, NDArray[Any], bool]]:
    rng = np.random.default_rng(0)
    ones = np.ones(s.hidden, np.float32)
    yield "token_embd.weight", _q4_0(rng, s.vocabulary, s.hidden), True
    yield "output.weight", _q4_0(rng, s.vocabulary, s.hidden), True
    yield "output_norm.weight", ones, False
    for n in range(s.layers):
        for name in ("attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm"):
            yield f"blk.{n}.{name}.weight", ones, False
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{n}.{name}.weight", _q4_0(rng, s.hidden, s.hidden), True
        router = rng.standard_normal((s.experts, s.hidden), np.float32) / np.float32(s.hidden**0.5)
        yield f"blk.{n}.ffn_gate_inp.weight", router, False
        for name, rows, inputs in (("gate", s.width, s.hidden), ("up", s.width, s.hidden), ("down", s.hidden, s.width)):
            blocks = _q4_0(rng, s.experts * rows, inputs).reshape(s.experts, rows, -1)
            yield f"blk.{n}.ffn_{name}_exps.weight", blocks, True


def write_gguf(s: Shape, path: Path) -> None:
    """The same shape for llama.cpp: architecture olmoe, every matrix but the routers Q4_0, no vocabulary."""
    import gguf

    writer = gguf.GGUFWriter(path, "olmoe")
    writer.add_context_length(s.context)
    writer.add_embedding_length(s.hidden)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.width)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(s.experts)
    writer.add_expert_used_count(s.top_k)
    writer.add_vocab_size(s.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    for name, data, quantised in _gguf_tensors(s):
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0 if quantised else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
