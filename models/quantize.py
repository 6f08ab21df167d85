"""Symmetric 8-bit block quantiser in the exact layout onnxruntime's MatMulNBits reads.

A weight [N, K] (outputs, inputs) is cut into blocks of BLOCK inputs. scale = max|w| / 127, rounded up in its
stored type; code = round(w / scale) in -127..127, so the error is at most half a scale. MatMulNBits stores
code + 128 as uint8 (its default zero point).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 32
ZERO_POINT = 128
_LEVELS = 127

FloatArray = npt.NDArray[np.float32]
CodeArray = npt.NDArray[np.int8]


def expand_scales(scales: FloatArray, inputs: int) -> FloatArray:
    """Scales [N, blocks] repeated over their inputs: [N, K]."""
    return np.repeat(scales, BLOCK, axis=1)[:, :inputs]


def _blocks(weight: FloatArray) -> FloatArray:
    """[N, K] -> [N, blocks, BLOCK], the tail filled with zeros."""
    rows, inputs = weight.shape
    count = -(-inputs // BLOCK)
    padded = np.zeros((rows, count * BLOCK), dtype=np.float32)
    padded[:, :inputs] = weight
    return padded.reshape(rows, count, BLOCK)


def quantize(
    weight: FloatArray, scale_dtype: type[np.float16] | type[np.float32] = np.float32
) -> tuple[CodeArray, npt.NDArray[np.floating]]:
    """Codes int8 [N, K] and scales [N, blocks] of `scale_dtype`.

    Codes are rounded against the scale as it is stored. A scale that rounding made too small for its block is
    raised by one step, else the largest weight of the block would be clipped.
    """
    blocks = _blocks(weight)
    largest = np.abs(blocks).max(axis=2)
    scales = (largest / _LEVELS).astype(scale_dtype)
    short = scales.astype(np.float64) * _LEVELS < largest
    scales = np.where(short, np.nextafter(scales, scale_dtype(np.inf)), scales)
    step = scales.astype(np.float32)[:, :, None]
    ratio = np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0)
    codes = np.clip(np.rint(ratio), -_LEVELS, _LEVELS).astype(np.int8)
    return codes.reshape(weight.shape[0], -1)[:, : weight.shape[1]].copy(), scales


def dequantize(codes: CodeArray, scales: npt.NDArray[np.floating]) -> FloatArray:
    """Float32 weight [N, K] from codes [N, K] and scales [N, blocks]."""
    return codes.astype(np.float32) * expand_scales(scales.astype(np.float32), codes.shape[1])


def matmul_nbits_layout(weight: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Initialisers of MatMulNBits(bits=8): B uint8 [N, blocks, BLOCK] and scales float32 [N * blocks]."""
    codes, scales = quantize(weight)
    blocks = _blocks(codes.astype(np.float32))
    return (blocks + ZERO_POINT).astype(np.uint8), scales.astype(np.float32).reshape(-1)
