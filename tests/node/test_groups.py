"""Grouped experts: the same sums as one session an expert, exact zeros for others' rows, and a gate in front."""

from __future__ import annotations

import os
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import (
    MANIFEST_NAME,
    ExpertFunction,
    Precision,
    Shard,
    ShardKind,
    encode_manifest,
    read_shard,
)
from hil_config.wire.orders import ExpertHolding
from models.build import build_shards
from models.serving.group import can_group, expert_output, group_graph, select_inputs, stack
from models.serving.onnx_bytes import FLOAT, UINT8, Node, Value, model
from models.serving.shard_file import unpack
from node_agent.engine.experts import ExpertBank, NotHeld, open_experts
from node_agent.engine.trunk import open_trunk
from node_agent.power_modes.duty import DutyLimit
from node_agent.shards.groups import ExpertGroup, computes, grouping_unsupported, open_group, reads_in_place
from node_agent.shards.store import BYTES_A_THREAD, ShardStore, threads_for

HELD = (0, 3, 4, 9, 15)
needs_grouping = pytest.mark.skipif(bool(grouping_unsupported()), reason=grouping_unsupported() or "supported")
# Both round activations to 8 bits a block of 32; only the order of additions differs.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[32, 128], ids="blocks of {}".format)
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ShardStore:
    from models.locate import reference_checkpoint

    out = tmp_path_factory.mktemp("groups") / "shards"
    build_shards(reference_checkpoint(), out, ("int8", "int4", "fp32"), block=request.param)
    return ShardStore(out)


def rows_and_picks(seed: int, count: int, hidden: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    picks = np.stack([rng.permutation(HELD)[:2] for _ in range(count)]).astype(np.int16)
    picks[rng.random(picks.shape) < 0.3] = -1
    return rng.standard_normal((count, hidden)).astype(np.float32), picks, rng.random((count, 2)).astype(np.float32)


def one_by_one(store: ShardStore, precision: Precision, x: np.ndarray, picks: np.ndarray, w: np.ndarray) -> np.ndarray:
    total = np.zeros_like(x)
    for expert in set(picks.ravel().tolist()) - {-1}:
        (y,) = store.session("expert", precision, 1, expert).run(x)
        total += np.where(picks == expert, w, 0).sum(axis=1, dtype=np.float32)[:, None] * y
    return total


@needs_grouping
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("count", [1, 2, 33])
def test_a_group_gives_the_weighted_partial_sums_of_single_sessions(
    store: ShardStore, precision: Precision, count: int
) -> None:
    group = open_group(store, 1, precision, HELD)
    assert group is not None
    x, picks, w = rows_and_picks(count, count, store.manifest.model.hidden)
    got = group.partial_sum(x, picks, w)
    np.testing.assert_allclose(got, one_by_one(store, precision, x, picks, w), rtol=0, atol=TOLERANCE)
    assert not got[(picks == -1).all(axis=1)].any(), "rows that use nobody here get exactly nothing"


@needs_grouping
def test_a_row_that_names_an_expert_twice_gets_both_weights(store: ShardStore) -> None:
    group = open_group(store, 1, "int8", HELD)
    assert group is not None
    x, _, _ = rows_and_picks(0, 1, store.manifest.model.hidden)
    twice = group.partial_sum(x, np.array([[3, 3]], np.int16), np.array([[0.25, 0.5]], np.float32))
    once = group.partial_sum(x, np.array([[3, -1]], np.int16), np.array([[0.75, 0.0]], np.float32))
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-6)


@needs_grouping
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_row_in_a_group_does_not_depend_on_its_mates(store: ShardStore, precision: Precision) -> None:
    group = open_group(store, 1, precision, HELD)
    assert group is not None
    x, picks, w = rows_and_picks(4, 12, store.manifest.model.hidden)
    alone = np.concatenate([group.partial_sum(x[i : i + 1], picks[i : i + 1], w[i : i + 1]) for i in range(12)])
    loud = np.concatenate((x, x * 1000))
    together = group.partial_sum(loud, np.concatenate((picks, picks)), np.concatenate((w, w)))[:12]
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


@needs_grouping
def test_rows_of_several_threads_do_not_meet_in_a_group(store: ShardStore) -> None:
    group = open_group(store, 1, "int4", HELD)
    assert group is not None
    rng, threads = np.random.default_rng(5), 6
    x = rng.standard_normal((threads, 1, store.manifest.model.hidden)).astype(np.float32)
    picks = [rng.permutation(HELD)[:3].tolist() for _ in range(threads)]
    weights = rng.random((threads, 3)).tolist()
    alone = [group.row_sum(x[n], picks[n], weights[n]) for n in range(threads)]
    together = threading.Barrier(threads)

    def differences(n: int) -> int:
        together.wait(10.0)
        return sum(not np.array_equal(group.row_sum(x[n], picks[n], weights[n]), alone[n]) for _ in range(200))

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(differences, range(threads))) == [0] * threads


@needs_grouping
@pytest.mark.parametrize("count", [1, 2])
def test_a_group_computes_in_its_nodes_turns(store: ShardStore, count: int) -> None:
    """Or a limit of duty would slow a board's trunk, and its experts, which are most of the work, would run on."""
    group = open_group(store, 1, "int8", HELD)
    assert group is not None
    x, picks, w = rows_and_picks(count, count, store.manifest.model.hidden)
    with ThreadPoolExecutor(1) as pool:
        try:
            store.duty.set(0.5)
            with store.duty.turn():
                found = pool.submit(group.partial_sum, x, picks, w)
                with pytest.raises(TimeoutError):
                    found.result(0.2)
            np.testing.assert_allclose(found.result(10.0), one_by_one(store, "int8", x, picks, w), atol=TOLERANCE)
        finally:
            store.duty.set(1.0)


@needs_grouping
def test_a_group_keeps_no_copy_of_what_onnxruntime_has_copied(store: ShardStore) -> None:
    shards = [read_shard(store.folder, store.manifest.find("expert", "int8", 2, expert)) for expert in range(16)]
    size = sum(map(len, shards))
    tracemalloc.start()
    try:
        group = open_group(store, 2, "int8", range(16))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert group is not None and most > size / 2 > 4 * kept, (kept, most, size)


class Reader(ExpertGroup):
    """Computes from the arrays it was given, as another onnxruntime may."""

    def __init__(self, weights: np.ndarray) -> None:
        self.experts, self.weights = (0, 1), weights

    def partial_sum(self, hidden: np.ndarray, experts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total: np.ndarray = hidden * self.weights[experts].sum(axis=1, keepdims=True)
        return total


def test_arrays_that_are_read_where_they_lie_are_found_out() -> None:
    stacked = {"up_scales": np.array([1.0, 0.999], np.float32)}
    assert reads_in_place(Reader(stacked["up_scales"]), stacked, 8)
    assert not reads_in_place(Reader(stacked["up_scales"].copy()), stacked, 8)


@pytest.mark.parametrize("kind", ["head", "trunk"])
def test_a_shard_has_a_second_thread_where_its_bytes_are_many(kind: ShardKind) -> None:
    sizes = [count * BYTES_A_THREAD[kind] + 1 for count in (0, 1, 2, 100)]
    assert [threads_for(kind, size) for size in sizes] == [1, 1, *[min(2, os.cpu_count() or 1)] * 2]
    assert threads_for("expert", 1 << 40) == threads_for("embed", 1 << 40) == 1


def test_a_trunk_of_the_older_layout_is_refused_before_it_is_opened(store: ShardStore, tmp_path: Path) -> None:
    def older(shard: Shard) -> Shard:
        inputs = tuple(
            msgspec.structs.replace(t, shape=("B", "P", *t.shape[2:])) if t.name.startswith("past_") else t
            for t in shard.inputs
        )
        return msgspec.structs.replace(shard, inputs=inputs)

    manifest = msgspec.structs.replace(store.manifest, shards=tuple(older(shard) for shard in store.manifest.shards))
    (tmp_path / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    with pytest.raises(ArtefactError, match="wanted positions first") as refusal:
        open_trunk(ShardStore(tmp_path), (0,))
    assert "hil models build" in refusal.value.hint
    assert open_trunk(store, (0,)).layers


def test_what_cannot_be_grouped_is_served_one_by_one(store: ShardStore) -> None:
    assert open_group(store, 1, "fp32", HELD) is None, "QMoE has no unquantised experts"
    assert open_group(store, 1, "int8", (3,)) is None, "one expert is no group"
    for version, fine in (("1.23.2", False), ("1.30.0", False), ("1.31.1", True), ("1.32.0", True), ("2.0.0", True)):
        assert bool(grouping_unsupported(version)) != fine
    assert open_group(store, 1, "int8", HELD, version="1.23.2") is None


@needs_grouping
@pytest.mark.parametrize("fault", ["other weights", "other order", "other function"])
def test_the_self_test_refuses_a_group_that_computes_something_else(store: ShardStore, fault: str) -> None:
    """As a release would that reads rows in another order, or knows another activation."""
    card, group = store.manifest.model, open_group(store, 1, "int8", HELD)
    assert group is not None
    shards = [unpack(read_shard(store.folder, store.manifest.find("expert", "int8", 1, e))).weights for e in HELD]
    assert computes(group, shards, card)
    if fault == "other weights":
        shards[-1] = shards[1]
    elif fault == "other order":
        codes = next(name for name in shards[0] if name.startswith("gate_up") and name.endswith(".codes"))
        shards[0] = {**shards[0], codes: shards[0][codes][::-1]}
    else:
        card = msgspec.structs.replace(card, expert_function=ExpertFunction("clamped", 1.702, 7.0))
    assert not computes(group, shards, card)


@needs_grouping
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_clamped_experts_with_biases_group_too(precision: Precision, tmp_path: Path) -> None:
    from models.checkpoint import ExpertWeights
    from models.describe import FeedForward
    from models.export_onnx import feed_forward
    from models.graph import Graph

    rng = np.random.default_rng(0)
    function, shards = ExpertFunction("clamped", 1.702, 2.0), []
    for _ in range(3):
        shapes = ((96, 64), (96, 64), (64, 96), (96,), (96,), (64,))
        graph = Graph()
        parts = ExpertWeights(*(rng.standard_normal(shape).astype(np.float32) * 0.3 for shape in shapes))
        feed_forward(graph, "x", parts, FeedForward(96, "clamped", True, 1.702, 2.0), precision, "", "y", deltas=True)
        shards.append(graph.weights)
    assert can_group(shards, precision)
    stacked = stack(shards)
    data = group_graph(stacked, precision, function)
    held = [ort.OrtValue.ortvalue_from_numpy(value) for value in stacked.values()]
    options = ort.SessionOptions()
    options.add_external_initializers(list(stacked), held)
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    group = ExpertGroup(session, held, (0, 1, 2), DutyLimit())
    x = rng.standard_normal((5, 64)).astype(np.float32) * 3
    picks, w = np.tile(np.array([[2, 0]], np.int16), (5, 1)), np.tile(np.array([[0.5, 0.25]], np.float32), (5, 1))
    wanted = 0.5 * expert_output(shards[2], x, function) + 0.25 * expert_output(shards[0], x, function)
    np.testing.assert_allclose(group.partial_sum(x, picks, w), wanted, rtol=0, atol=0.03 * np.abs(wanted).max())


@needs_grouping
def test_a_bank_groups_what_it_holds_and_gives_the_same_sums(store: ShardStore) -> None:
    """Two precisions in one layer, a lone expert in another, more picks a row than the model's own top-k."""
    held = [ExpertHolding(1, e, "int8" if e < 5 else "int4") for e in (0, 3, 4, 9, 15, 7)]
    held.append(ExpertHolding(2, 6, "int8"))
    bank = ExpertBank(store, tuple(held))
    assert {g.experts for g in bank.held.grouped.values()} == {(0, 3, 4), (7, 9, 15)}
    assert list(bank.held.single) == [(2, 6)]
    portable = ShardStore(store.folder, grouping=False)
    plain = ExpertBank(portable, tuple(held))
    assert not plain.held.grouped and len(plain.held.single) == 7
    rng = np.random.default_rng(0)
    for rows in (1, 9):
        x = rng.standard_normal((rows, store.manifest.model.hidden)).astype(np.float32)
        picks = np.stack([rng.permutation([0, 3, 4, 9, 15, 7])[:5] for _ in range(rows)]).astype(np.int16)
        picks[:, 4] = -1
        w = rng.random(picks.shape).astype(np.float32)
        got, wanted = bank.partial_sum(1, x, picks, w), plain.partial_sum(1, x, picks, w)
        np.testing.assert_allclose(got.total, wanted.total, rtol=0, atol=TOLERANCE)
        assert got.calls == wanted.calls == 4 * rows
    with pytest.raises(NotHeld, match="layer 1 expert 2"):
        bank.partial_sum(1, x, np.full((9, 1), 2, np.int16), np.ones((9, 1), np.float32))
    again = open_experts(store, tuple(held[:3]), bank.held)
    assert again.grouped[1, 0] is bank.held.grouped[1, 0], "an unchanged group is taken over"


def test_experts_of_different_shape_or_part_filled_blocks_do_not_group(store: ShardStore) -> None:
    folder, manifest = store.folder, store.manifest
    good = [unpack(read_shard(folder, manifest.find("expert", "int8", 0, e))).weights for e in (0, 1)]
    assert can_group(good, "int8")
    assert not can_group([], "int8")
    odd = dict(good[1])
    name = next(n for n in odd if n.startswith("y.") and n.endswith(".codes"))
    odd[name] = odd[name][:-1]
    assert not can_group([good[0], odd], "int8")


def test_the_bytes_are_a_valid_onnx_model() -> None:
    data = model(
        "sum", (Node("Gemm", "", ("a", "b", "c"), ("y",), {"alpha": 0.5, "transB": 1}),),
        (Value("a", FLOAT, ("R", 300)), Value("b", FLOAT, (4, 300))), (Value("y", FLOAT, ("R", 4)),),
        (Value("c", FLOAT, (4,)), Value("unused", UINT8, (2, 3))), {"": 21},
    )  # fmt: skip
    read = onnx.load_from_string(data)
    assert [i.name for i in read.graph.input] == ["a", "b"]
    assert [d.dim_value or d.dim_param for d in read.graph.input[0].type.tensor_type.shape.dim] == ["R", 300]
    for tensor in read.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        shape = tuple(tensor.dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(shape, dtype), tensor.name))
    onnx.checker.check_model(read, full_check=True)
    session = ort.InferenceSession(read.SerializeToString(), providers=["CPUExecutionProvider"])
    a, b = np.ones((2, 300), np.float32), np.full((4, 300), 2, np.float32)
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], np.full((2, 4), 301, np.float32))


def test_selection_inputs_say_who_is_used_and_how_much() -> None:
    place = np.array([-1, 0, -1, 1])
    selection, mixing = select_inputs(
        np.array([[3, -1], [1, 3]], np.int16), np.array([[2, 9], [3, 4]], np.float32), place, 2
    )
    assert selection.tolist() == [[-1e4, 0], [0, 0]]
    assert mixing.tolist() == [[0, 2], [3, 4]]
