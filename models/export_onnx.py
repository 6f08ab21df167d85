"""ONNX graphs of the shards, built node by node with onnx.helper: opset 21, IR 10, weights inside the file.

Letters in shapes: T tokens and P past tokens (free), H hidden, V vocabulary, E experts, Q query heads,
K key/value heads, D head size, S = P + T. Standard operators only, except MatMulNBits (com.microsoft) in int8
experts. RMSNorm is spelled out because the RMSNormalization operator needs opset 23; onnxruntime fuses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hil_config.wire.manifest import Precision, Tensor
from models.architecture import Architecture
from models.checkpoint import Checkpoint, FloatArray
from models.quantize import BLOCK, matmul_nbits_layout

OPSET = 21
IR_VERSION = 10
MINIMUM_ONNXRUNTIME = "1.23.2"

_MASKED = np.float32(-1e30)
_DTYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class Graph:
    """Collects nodes and initialisers; every method returns the name of its first output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.overridable: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: Any) -> str:
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes))
        return names[0]

    def linear(self, x: str, weight: FloatArray, out: str) -> str:
        """x [.., inputs] times a weight in disk shape [outputs, inputs]."""
        return self.node("MatMul", [x, self.constant(out + ".weight", weight.T)], out)

    def rms_norm(self, x: str, weight: FloatArray, epsilon: float, out: str) -> str:
        """x / sqrt(mean(x^2) + epsilon) * weight over the last dimension."""
        two = self.constant(out + ".two", np.array(2, dtype=np.float32))
        axis = self.constant(out + ".axis", np.array([-1], dtype=np.int64))
        small = self.constant(out + ".epsilon", np.array(epsilon, dtype=np.float32))
        self.node("Pow", [x, two], out + ".square")
        self.node("ReduceMean", [out + ".square", axis], out + ".mean", keepdims=1)
        self.node("Add", [out + ".mean", small], out + ".shifted")
        self.node("Sqrt", [out + ".shifted"], out + ".root")
        self.node("Div", [x, out + ".root"], out + ".unit")
        return self.node("Mul", [out + ".unit", self.constant(out + ".weight", weight)], out)

    def reshape(self, x: str, shape: tuple[int, ...], out: str) -> str:
        """Reshape to a constant shape; 0 keeps the input's dimension, -1 is inferred."""
        return self.node("Reshape", [x, self.constant(out + ".shape", np.array(shape, dtype=np.int64))], out)

    def low_rank(self, x: str, base: str, site: str, inputs: int, outputs: int) -> str:
        """base + (x A) B -> `site`, with A [inputs, R] and B [R, outputs] as overridable initialisers of rank 0.

        An adapter feeds `delta_<site>_a` and `delta_<site>_b` to one run; without them the sum is `base`, bit for
        bit (LoRA: arXiv 2106.09685). Measured cost of rank 0: about 1 us a call.
        """
        for name, shape in ((f"delta_{site}_a", (inputs, 0)), (f"delta_{site}_b", (0, outputs))):
            self.constant(name, np.zeros(shape, dtype=np.float32))
            free: list[int | str] = [size or "R" for size in shape]
            self.overridable.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
        self.node("MatMul", [x, f"delta_{site}_a"], f"{site}.low")
        self.node("MatMul", [f"{site}.low", f"delta_{site}_b"], f"{site}.delta")
        return self.node("Add", [base, f"{site}.delta"], site)

    def model(self, name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> bytes:
        """The serialised model; the same calls give the same bytes."""
        values = [*(_value(t) for t in inputs), *self.overridable]
        graph = helper.make_graph(self.nodes, name, values, [_value(t) for t in outputs], self.initialisers)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        proto = helper.make_model(graph, opset_imports=opsets, producer_name="spacemoe-hil", ir_version=IR_VERSION)
        return bytes(proto.SerializeToString(deterministic=True))


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _DTYPES[tensor.dtype], list(tensor.shape))


def embed_contract(a: Architecture) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (Tensor("tokens", "int64", ("T",)),), (Tensor("hidden", "float32", ("T", a.hidden)),)


def trunk_contract(a: Architecture) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    rows = ("T", a.hidden)
    past, new = ("P", a.kv_heads, a.head_dim), ("T", a.kv_heads, a.head_dim)
    inputs = (
        Tensor("hidden", "float32", rows),
        Tensor("past_key", "float32", past),
        Tensor("past_value", "float32", past),
        Tensor("position", "int64", ("T",)),
    )
    outputs = (
        Tensor("residual", "float32", rows),
        Tensor("expert_input", "float32", rows),
        Tensor("scores", "float32", ("T", a.experts)),
        Tensor("key", "float32", new),
        Tensor("value", "float32", new),
    )
    return inputs, outputs


def head_contract(a: Architecture) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (Tensor("hidden", "float32", ("T", a.hidden)),), (Tensor("logits", "float32", ("T", a.vocabulary)),)


def expert_contract(a: Architecture) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (Tensor("x", "float32", ("T", a.hidden)),), (Tensor("y", "float32", ("T", a.hidden)),)


def embed_graph(checkpoint: Checkpoint) -> bytes:
    """tokens [T] -> hidden [T, H]."""
    g = Graph()
    table = g.constant("embedding", checkpoint.tensor("model.embed_tokens.weight"))
    g.node("Gather", [table, "tokens"], "hidden", axis=0)
    return g.model("embed", *embed_contract(checkpoint.architecture))


def head_graph(checkpoint: Checkpoint) -> bytes:
    """Residual stream after the last layer [T, H] -> logits [T, V]."""
    g, a = Graph(), checkpoint.architecture
    g.rms_norm("hidden", checkpoint.tensor("model.norm.weight"), a.epsilon, "normed")
    table = "model.embed_tokens.weight" if a.tied else "lm_head.weight"
    g.linear("normed", checkpoint.tensor(table), "logits")
    return g.model("head", *head_contract(a))


def _rotary(g: Graph, a: Architecture) -> None:
    """`cos` and `sin` [T, 1, D/2] of the absolute positions."""
    inverse = (a.theta ** (-np.arange(0, a.head_dim, 2, dtype=np.float32) / np.float32(a.head_dim))).astype(np.float32)
    g.node("Cast", ["position"], "position_f", to=TensorProto.FLOAT)
    g.reshape("position_f", (-1, 1, 1), "position_3d")
    g.node("Mul", ["position_3d", g.constant("inverse_frequency", inverse)], "angle")
    g.node("Cos", ["angle"], "cos")
    g.node("Sin", ["angle"], "sin")


def _rotate(g: Graph, x: str, out: str) -> str:
    """Rotate the first half of the last dimension against the second half."""
    g.node("Split", [x], [out + ".low", out + ".high"], axis=-1, num_outputs=2)
    g.node("Mul", [out + ".low", "cos"], out + ".low_cos")
    g.node("Mul", [out + ".high", "sin"], out + ".high_sin")
    g.node("Mul", [out + ".high", "cos"], out + ".high_cos")
    g.node("Mul", [out + ".low", "sin"], out + ".low_sin")
    g.node("Sub", [out + ".low_cos", out + ".high_sin"], out + ".first")
    g.node("Add", [out + ".high_cos", out + ".low_sin"], out + ".second")
    return g.node("Concat", [out + ".first", out + ".second"], out, axis=-1)


def _attend(g: Graph, a: Architecture) -> str:
    """Grouped-query attention of `query` [T, Q, D] over `keys`, `values` [S, K, D] -> `mixed` [T, Q * D].

    A new token sees every key whose position is not after its own; past keys sit at positions 0..P-1.
    """
    groups = a.heads // a.kv_heads
    g.reshape("query", (0, a.kv_heads, groups, a.head_dim), "query_grouped")
    g.node("Transpose", ["query_grouped"], "query_t", perm=[1, 2, 0, 3])
    g.node("Transpose", ["keys"], "keys_t", perm=[1, 2, 0])
    g.node("Transpose", ["values"], "values_t", perm=[1, 0, 2])
    one = g.constant("group_axis", np.array([1], dtype=np.int64))
    g.node("Unsqueeze", ["keys_t", one], "keys_4d")
    g.node("Unsqueeze", ["values_t", one], "values_4d")
    g.node("MatMul", ["query_t", "keys_4d"], "attention_scores")
    g.node("Shape", ["keys"], "key_count_1d", start=0, end=1)
    g.reshape("key_count_1d", (), "key_count")
    zero, step = (
        g.constant("zero", np.array(0, dtype=np.int64)),
        g.constant("step", np.array(1, dtype=np.int64)),
    )
    g.node("Range", [zero, "key_count", step], "key_position")
    g.reshape("position", (-1, 1), "query_position")
    g.node("LessOrEqual", ["key_position", "query_position"], "visible")
    g.node("Where", ["visible", "attention_scores", g.constant("masked", np.array(_MASKED))], "attention_masked")
    g.node("Softmax", ["attention_masked"], "attention", axis=-1)
    g.node("MatMul", ["attention", "values_4d"], "mixed_t")
    g.node("Transpose", ["mixed_t"], "mixed_4d", perm=[2, 0, 1, 3])
    return g.reshape("mixed_4d", (0, a.heads * a.head_dim), "mixed")


def trunk_graph(checkpoint: Checkpoint, layer: int) -> bytes:
    """Attention, residual addition, post-attention norm and router of one layer; see `trunk_contract`."""
    g, a = Graph(), checkpoint.architecture

    def weight(name: str) -> FloatArray:
        return checkpoint.tensor(f"model.layers.{layer}.{name}.weight")

    g.rms_norm("hidden", weight("input_layernorm"), a.epsilon, "attention_input")
    for short, heads in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)):
        g.linear("attention_input", weight(f"self_attn.{short}_proj"), f"{short}_flat")
        g.reshape(f"{short}_flat", (0, heads, a.head_dim), "value" if short == "v" else f"{short}_heads")
    # The attention scale is folded into the query norm's weight: one node less on the hot path.
    scaled = (weight("self_attn.q_norm") * np.float32(a.head_dim**-0.5)).astype(np.float32)
    g.rms_norm("q_heads", scaled, a.epsilon, "q_normed")
    g.rms_norm("k_heads", weight("self_attn.k_norm"), a.epsilon, "k_normed")
    _rotary(g, a)
    _rotate(g, "q_normed", "query")
    _rotate(g, "k_normed", "key")
    g.node("Concat", ["past_key", "key"], "keys", axis=0)
    g.node("Concat", ["past_value", "value"], "values", axis=0)
    g.linear(_attend(g, a), weight("self_attn.o_proj"), "attention_output")
    g.node("Add", ["hidden", "attention_output"], "residual")
    g.rms_norm("residual", weight("post_attention_layernorm"), a.epsilon, "expert_input")
    g.linear("expert_input", weight("mlp.gate"), "router_logits")
    g.node("Softmax", ["router_logits"], "scores", axis=-1)
    return g.model(f"trunk_{layer}", *trunk_contract(a))


def expert_graph(checkpoint: Checkpoint, layer: int, expert: int, precision: Precision) -> bytes:
    """One expert, not weighted: y = down(silu(gate x) * up x); gate and up are one product.

    Both products take a low-rank delta at run time (`Graph.low_rank`), at sites `gate_up` and `y`.
    """
    g, a = Graph(), checkpoint.architecture
    gate, up, down = checkpoint.expert(layer, expert)
    fused = np.concatenate((gate, up))
    if precision == "int8":
        _nbits(g, "x", fused, "gate_up.base")
    else:
        g.linear("x", fused, "gate_up.base")
    g.low_rank("x", "gate_up.base", "gate_up", a.hidden, 2 * a.expert_width)
    g.node("Split", ["gate_up"], ["gate", "up"], axis=-1, num_outputs=2)
    g.node("Sigmoid", ["gate"], "gate_sigmoid")
    g.node("Mul", ["gate", "gate_sigmoid"], "gate_silu")
    g.node("Mul", ["gate_silu", "up"], "inner")
    if precision == "int8":
        _nbits(g, "inner", down, "y.base")
    else:
        g.linear("inner", down, "y.base")
    g.low_rank("inner", "y.base", "y", a.expert_width, a.hidden)
    return g.model(f"expert_{layer}_{expert}_{precision}", *expert_contract(a))


def _nbits(g: Graph, x: str, weight: FloatArray, out: str) -> str:
    """8-bit block product. accuracy_level 4 quantises inputs per row and block, so rows stay independent."""
    codes, scales = matmul_nbits_layout(weight)
    inputs = [x, g.constant(out + ".codes", codes), g.constant(out + ".scales", scales)]
    return g.node(
        "MatMulNBits", inputs, out, domain="com.microsoft",
        K=weight.shape[1], N=weight.shape[0], bits=8, block_size=BLOCK, accuracy_level=4,
    )  # fmt: skip
