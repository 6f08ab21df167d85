"""The router rule of one MoE layer as ONNX nodes: selection scores and, where they differ, mixing weights.

Everything a rule says about the *model's own* picks (groups, normalisation, scaling) is finished here, so that the
gate on the board needs one rule for all families; see `models.serving.gate`.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from models.checkpoint import Checkpoint
from models.describe import Router
from models.graph import Graph

ALWAYS = 1e4
"""Selection score of an always-on expert."""
BARRED = -1e4
"""Selection score of an expert whose group was not chosen."""


def route(g: Graph, checkpoint: Checkpoint, layer: int, x: str) -> None:
    """Writes `scores` [R, E] and, if the description has separate weights, `weights` [R, E] for rows x [R, H]."""
    d = checkpoint.description
    r = d.router
    weight, bias, correction = checkpoint.router(layer)
    logits = g.linear(x, weight, "router_logits", "fp32", bias)
    if not d.separate_weights:
        g.node("Softmax", [logits], "scores", axis=-1)
        return
    if r.rule == "sparsemixer":
        selection, mixing = _sparsemixer(g, r, logits)
    elif r.rule == "sigmoid":
        assert correction is not None
        mixing = g.node("Sigmoid", [logits], "router_sigmoid")
        selection = g.node("Add", [mixing, g.weight("router_correction", correction)], "router_corrected")
    else:
        selection = mixing = g.node("Softmax", [logits], "router_softmax", axis=-1)
    if r.groups > 1:
        selection = _limit_groups(g, r, selection)
    if r.normalise:
        mixing = _normalise(g, r, selection, mixing)
    mixing = g.scaled(mixing, r.scaling * d.residual_multiplier, "router_scaled")
    if not d.always_on:
        g.node("Identity", [selection], "scores")
        g.node("Identity", [mixing], "weights")
        return
    g.node("Shape", [x], "row_count", start=0, end=1)
    g.node("Concat", ["row_count", g.constant([1])], "column", axis=0)
    always = _filled(g, ALWAYS, "always_score")
    share = _filled(g, d.residual_multiplier, "always_weight")
    if d.shared_gate:
        gate = checkpoint.tensor(checkpoint.moe_name(layer, "shared_expert_gate.weight"), 1, d.hidden)
        share = g.node("Sigmoid", [g.linear(x, gate, "shared_gate")], "shared_share")
    g.node("Concat", [selection, always], "scores", axis=1)
    g.node("Concat", [mixing, share], "weights", axis=1)


def _filled(g: Graph, value: float, out: str) -> str:
    return g.node("ConstantOfShape", ["column"], out, value=helper.make_tensor("", TensorProto.FLOAT, [1], [value]))


def _limit_groups(g: Graph, r: Router, selection: str) -> str:
    """Bar the experts of all but the best groups."""
    size = r.experts // r.groups
    g.reshape(selection, (-1, r.groups, size), "grouped")
    if r.group_score == "max":
        g.node("ReduceMax", ["grouped", g.constant([2])], "group_score", keepdims=0)
    else:
        g.node("TopK", ["grouped", g.constant([2])], ["group_best", "group_best_index"], axis=2)
        g.node("ReduceSum", ["group_best", g.constant([2])], "group_score", keepdims=0)
    g.node("TopK", ["group_score", g.constant([r.kept_groups])], ["kept_score", "kept_group"], axis=1)
    g.node("Unsqueeze", ["kept_group", g.constant([2])], "kept_group_3d")
    numbers = g.constant(np.arange(r.groups, dtype=np.int64), "group_numbers")
    g.node("Equal", ["kept_group_3d", numbers], "kept_one_hot")
    g.node("Cast", ["kept_one_hot"], "kept_float", to=TensorProto.FLOAT)
    g.node("ReduceMax", ["kept_float", g.constant([1])], "kept_any", keepdims=0)
    g.node("Cast", ["kept_any"], "kept_bool", to=TensorProto.BOOL)
    g.node("Unsqueeze", ["kept_bool", g.constant([2])], "kept_3d")
    g.node("Where", ["kept_3d", "grouped", g.constant(BARRED)], "limited")
    return g.reshape("limited", (-1, r.experts), "limited_flat")


def _normalise(g: Graph, r: Router, selection: str, mixing: str) -> str:
    """Mixing weights over their sum at the model's own picks."""
    g.node("TopK", [selection, g.constant([r.top_k])], ["own_score", "own_expert"], axis=1)
    g.node("GatherElements", [mixing, "own_expert"], "own_weight", axis=1)
    g.node("ReduceSum", ["own_weight", g.constant([1])], "own_sum", keepdims=1)
    return g.node("Div", [mixing, "own_sum"], "mixing_normalised")


def _sparsemixer(g: Graph, r: Router, logits: str) -> tuple[str, str]:
    """Selection softmax(l); weight of the first pick from the first softmax, of all others from the second."""
    barred = g.constant(float("-inf"))
    g.node("Softmax", [logits], "router_softmax", axis=-1)
    g.node("Abs", [logits], "logits_size")
    g.node("ArgMax", [logits], "first", axis=1, keepdims=1)
    numbers = g.constant(np.arange(r.experts, dtype=np.int64), "expert_numbers")
    g.node("Equal", ["first", numbers], "is_first")
    g.node("Where", ["is_first", barred, logits], "others")
    shares = []
    for stage, rows in (("one", logits), ("two", "others")):
        g.node("ReduceMax", [rows, g.constant([1])], f"top_{stage}", keepdims=1)
        g.node("Max", ["logits_size", f"top_{stage}"], f"factor_{stage}")
        g.node("Sub", [f"top_{stage}", logits], f"below_{stage}")
        g.node("Div", [f"below_{stage}", f"factor_{stage}"], f"distance_{stage}")
        g.node("Greater", [f"distance_{stage}", g.constant(2 * r.jitter)], f"far_{stage}")
        g.node("Where", [f"far_{stage}", barred, rows], f"near_{stage}")
        shares.append(g.node("Softmax", [f"near_{stage}"], f"share_{stage}", axis=-1))
    return "router_softmax", g.node("Where", ["is_first", *shares], "sparse_weights")
