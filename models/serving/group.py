"""All experts of one layer that a node holds at one precision, as a single graph: com.microsoft.QMoE.

The same shard files serve a session an expert or a group. QMoE wants what the shards have, stacked, with gate and up
rows taking turns: weights uint8 [n, 2I, H * bits / 8] and [n, H, I * bits / 8], scales float32 [n, 2I, H / b] and
[n, H, I / b] for blocks of b inputs. Its own routing is switched off: selection is 0 for an expert that a row uses and
-1e4 for the rest, `router_weights` carries the mixing weights, so the result is exactly the weighted partial sum over
the group. Needs onnxruntime 1.31 (router_weights; fast kernels since microsoft/onnxruntime#32644); see decision 0012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.manifest import BLOCK, ExpertFunction, Precision
from models.serving.onnx_bytes import FLOAT, UINT8, Node, Value, model

F32 = NDArray[np.float32]
BITS: dict[Precision, int] = {"int8": 8, "int4": 4}
NOT_PICKED = np.float32(-1e4)
MINIMUM_ONNXRUNTIME = (1, 31)

Weights = dict[str, NDArray[Any]]


def can_group(shards: Sequence[Weights], precision: Precision) -> bool:
    """Whether these experts' weights (`shard_file.unpack`) have one shape, whole blocks, and a precision QMoE takes."""
    if precision not in BITS or not shards:
        return False
    shapes = {tuple(sorted((name, value.shape) for name, value in weights.items())) for weights in shards}
    codes = {name: value for name, value in shards[0].items() if name.endswith(".codes")}
    hidden, width = (_inputs(codes, name) for name in ("gate_up", "y"))
    blocks = {_block(value, precision) for value in codes.values()}
    whole = all(inputs % block == 0 for inputs in (hidden, width) for block in blocks)
    return len(shapes) == len(blocks) == 1 and whole and codes[_site(codes, "y")].shape[0] == hidden


def _block(codes: NDArray[Any], precision: Precision) -> int:
    """Inputs under one scale, of codes [outputs, blocks, bytes a block]."""
    return int(codes.shape[2]) * 8 // BITS[precision]


def _site(codes: Weights, site: str) -> str:
    return next(name for name in codes if name.startswith(site + ".") and name.endswith(".codes"))


def _inputs(codes: Weights, site: str) -> int:
    """Inputs of a product: the shape is [outputs, blocks, bytes a block]; the other product's outputs tell exactly."""
    other = codes[_site(codes, "y" if site == "gate_up" else "gate_up")]
    return int(other.shape[0] if site == "gate_up" else other.shape[0] // 2)


def stack(shards: Sequence[Weights]) -> Weights:
    """The group's initialisers, one expert after the other. Copies: the shards' buffers are not needed afterwards."""
    first = shards[0]
    out: Weights = {}
    for short, site in (("up", "gate_up"), ("down", "y")):
        parts = [name for name in first if name.startswith(site + ".")]
        codes, scales = (next(n for n in parts if n.endswith(end)) for end in (".codes", ".scales"))
        rows, blocks, _ = first[codes].shape
        turns = _taking_turns(rows) if site == "gate_up" else np.arange(rows)
        out[f"{short}_codes"] = np.stack([w[codes].reshape(rows, -1)[turns] for w in shards])
        out[f"{short}_scales"] = np.stack([w[scales].reshape(rows, blocks)[turns] for w in shards])
        bias = next((n for n in parts if n.endswith(".bias")), None)
        if bias is not None:
            out[f"{short}_bias"] = np.stack([w[bias][turns] for w in shards])
    return out


def _taking_turns(rows: int) -> NDArray[np.intp]:
    """Gate rows then up rows -> gate 0, up 0, gate 1, ..."""
    return np.arange(rows).reshape(2, -1).T.reshape(-1)


def group_graph(weights: Weights, precision: Precision, function: ExpertFunction) -> bytes:
    """x [R, H], selection [R, n], mixing [R, n] -> y [R, H] for stacked `weights`.

    k is n, so that no pick can be dropped: experts of weight 0 cost nothing (measured equal to k = 2).
    """
    count, hidden, stored = weights["down_codes"].shape
    block = stored * 8 // BITS[precision] // weights["down_scales"].shape[2]
    attributes: dict[str, int | float | str] = {
        "k": count, "expert_weight_bits": BITS[precision], "block_size": block, "accuracy_level": 4,
        "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": float(function.alpha),
        "activation_beta": 1.0 if function.activation == "clamped" else 0.0, "normalize_routing_weights": 0,
        "weights_prepacked": 0,
    }  # fmt: skip
    if function.activation == "clamped":
        attributes["swiglu_limit"] = float(function.limit)

    def given(name: str) -> str:
        return name if name in weights else ""

    inputs = (
        "x", "selection", "up_codes", "up_scales", given("up_bias"), "down_codes", "down_scales", given("down_bias"),
        *[""] * 6, "mixing",
    )  # fmt: skip
    return model(
        "group",
        (Node("QMoE", "com.microsoft", inputs, ("y",), attributes),),
        (
            Value("x", FLOAT, ("R", hidden)),
            Value("selection", FLOAT, ("R", count)),
            Value("mixing", FLOAT, ("R", count)),
        ),
        (Value("y", FLOAT, ("R", hidden)),),
        tuple(Value(name, UINT8 if value.dtype == np.uint8 else FLOAT, value.shape) for name, value in weights.items()),
        {"": 21, "com.microsoft": 1},
    )


def select_inputs(experts: NDArray[np.int16], weights: F32, place: NDArray[np.intp], count: int) -> tuple[F32, F32]:
    """`selection` and `mixing` [n, count] for rows' experts and weights [n, k]; -1 is no expert.

    `place` [E]: an expert's place in the group. A row may name an expert twice; its weights add up.
    """
    selection = np.full((len(experts), count), NOT_PICKED, np.float32)
    mixing = np.zeros((len(experts), count), np.float32)
    row, slot = np.nonzero(experts >= 0)
    column = place[experts[row, slot]]
    selection[row, column] = 0.0
    np.add.at(mixing, (row, column), weights[row, slot])
    return selection, mixing


def expert_output(weights: Weights, x: F32, function: ExpertFunction, block: int = BLOCK) -> F32:
    """One expert in plain numpy from its stored blocks of `block` inputs, activations not rounded: what a group is
    checked against."""
    gate, up = np.split(_product(weights, "gate_up", x, block), 2, axis=1)
    if function.activation == "clamped":
        gate, up = np.minimum(gate, function.limit), np.clip(up, -function.limit, function.limit) + 1
    inner = gate / (1 + np.exp(-function.alpha * gate)) * up
    return _product(weights, "y", inner.astype(np.float32), block)


def _product(weights: Weights, site: str, x: F32, block: int) -> F32:
    codes = next(v for n, v in weights.items() if n.startswith(site + ".") and n.endswith(".codes"))
    scales = next(v for n, v in weights.items() if n.startswith(site + ".") and n.endswith(".scales"))
    bias = next((v for n, v in weights.items() if n.startswith(site + ".") and n.endswith(".bias")), None)
    rows, blocks, stored = codes.shape
    if stored == block:
        value = codes.astype(np.float32) - 128
    else:
        value = np.stack((codes & 15, codes >> 4), axis=-1).reshape(rows, blocks, block).astype(np.float32) - 8
    whole = (value * scales.reshape(rows, blocks, 1)).reshape(rows, -1)[:, : x.shape[1]]
    product: F32 = x @ whole.T
    return product if bias is None else product + bias
