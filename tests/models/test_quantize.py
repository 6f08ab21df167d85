"""Properties of the 8-bit block quantiser, and that onnxruntime reads its layout as we mean it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from hil_config.wire.manifest import BLOCK
from models.quantize import BLOCKS, dequantize, expand_scales, matmul_nbits_layout, quantize, quantize4
from models.session import session_options

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=140),
    elements=st.floats(-1000, 1000, width=32),
)


@given(WEIGHTS, st.sampled_from([np.float16, np.float32]), st.sampled_from(BLOCKS))
@settings(max_examples=150, deadline=None)
def test_error_is_at_most_half_a_scale(
    weight: np.ndarray, scale_dtype: type[np.float16] | type[np.float32], block: int
) -> None:
    codes, scales = quantize(weight, scale_dtype, block)
    assert scales.shape == (weight.shape[0], -(-weight.shape[1] // block))
    assert codes.shape == weight.shape
    step = expand_scales(scales.astype(np.float32), weight.shape[1], block).astype(np.float64)
    exact = codes.astype(np.float64) * step
    assert (np.abs(exact - weight) <= step * (0.5 + 1e-6)).all()


@given(WEIGHTS)
@settings(max_examples=100, deadline=None)
def test_codes_are_symmetric(weight: np.ndarray) -> None:
    codes, scales = quantize(weight)
    mirrored, same = quantize(-weight)
    np.testing.assert_array_equal(mirrored, -codes)
    np.testing.assert_array_equal(same, scales)
    assert codes.min() >= -127


@given(WEIGHTS)
@settings(max_examples=100, deadline=None)
def test_blocks_do_not_affect_each_other(weight: np.ndarray) -> None:
    whole = dequantize(*quantize(weight))
    for start in range(0, weight.shape[1], BLOCK):
        part = np.ascontiguousarray(weight[:, start : start + BLOCK])
        np.testing.assert_array_equal(dequantize(*quantize(part)), whole[:, start : start + BLOCK])


def test_quantising_a_quantised_weight_changes_nothing() -> None:
    """So an int8 shard built from the shipped int8 checkpoint holds exactly the shipped weights."""
    weight = np.random.default_rng(0).standard_normal((48, 128)).astype(np.float32)
    stored = dequantize(*quantize(weight, np.float16))
    np.testing.assert_array_equal(dequantize(*quantize(stored)), stored)


def test_zeros_stay_zeros() -> None:
    codes, scales = quantize(np.zeros((2, 40), dtype=np.float32))
    assert not codes.any()
    assert not scales.any()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [32, 40, 128, 192])
def test_matmul_nbits_reads_the_layout(inputs: int, bits: int, block: int) -> None:
    """With exact activations (accuracy_level 1) the operator is the product with our dequantised weight."""
    rng = np.random.default_rng(inputs)
    weight = rng.standard_normal((24, inputs)).astype(np.float32)
    x = rng.standard_normal((7, inputs)).astype(np.float32)
    packed, scales = matmul_nbits_layout(weight, bits, block)
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft",
        K=inputs, N=24, bits=bits, block_size=block, accuracy_level=1,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", 24])],
        [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(scales, "s")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    codes, step = quantize(weight, block=block) if bits == 8 else quantize4(weight, block)
    wanted = x @ dequantize(codes, step, block).T
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, rtol=0, atol=1e-4)
