"""Symmetric 8-bit and 4-bit block quantisers in the exact layout onnxruntime's MatMulNBits reads.

A weight [N, K] (outputs, inputs) is cut into blocks of `block` inputs: BLOCK, or a longer one of BLOCKS.
8 bits: scale = max|w| / 127, rounded up in its stored type; code = round(w / scale) in -127..127.
4 bits: the weight of largest magnitude becomes exactly code -8, so scale = that weight / -8, of either sign
(as onnxruntime's own quantiser and GGML's q4_0 do); code = round(w / scale) in -8..7.
MatMulNBits stores code + 128 or code + 8 unsigned (its default zero points), two 4-bit codes a byte, low first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil_config.wire.manifest import BLOCK

BLOCKS = (32, 64, 128)
"""Longer blocks are read faster and rounded more coarsely; figures in decision 0012."""
ZERO_POINT = 128
_LEVELS = 127

FloatArray = npt.NDArray[np.float32]
CodeArray = npt.NDArray[np.int8]
ByteArray = npt.NDArray[np.uint8]


def halved(weight: FloatArray) -> npt.NDArray[np.float16]:
    """As float16; infinite beyond 65504, where whoever builds has to look."""
    with np.errstate(over="ignore"):
        return weight.astype(np.float16)


def expand_scales(scales: FloatArray, inputs: int, block: int = BLOCK) -> FloatArray:
    """Scales [N, blocks] repeated over their inputs: [N, K]."""
    return np.repeat(scales, block, axis=1)[:, :inputs]


def _blocks(weight: FloatArray, block: int) -> FloatArray:
    """[N, K] -> [N, blocks, block], the tail filled with zeros; a view where nothing need be filled."""
    rows, inputs = weight.shape
    count = -(-inputs // block)
    if inputs % block == 0:
        return np.ascontiguousarray(weight, dtype=np.float32).reshape(rows, count, block)
    padded = np.zeros((rows, count * block), dtype=np.float32)
    padded[:, :inputs] = weight
    return padded.reshape(rows, count, block)


def quantize(
    weight: FloatArray, scale_dtype: type[np.float16] | type[np.float32] = np.float32, block: int = BLOCK
) -> tuple[CodeArray, npt.NDArray[np.floating]]:
    """8-bit codes int8 [N, K] and scales [N, blocks] of `scale_dtype`.

    Codes are rounded against the scale as it is stored. A scale that rounding made too small for its block is
    raised by one step, else the largest weight of the block would be clipped.
    """
    blocks = _blocks(weight, block)
    largest = np.abs(blocks).max(axis=2)
    scales = (largest / _LEVELS).astype(scale_dtype)
    short = scales.astype(np.float64) * _LEVELS < largest
    scales = np.where(short, np.nextafter(scales, scale_dtype(np.inf)), scales)
    step = scales.astype(np.float32)[:, :, None]
    ratio = np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0)
    codes = np.clip(np.rint(ratio), -_LEVELS, _LEVELS).astype(np.int8)
    return codes.reshape(weight.shape[0], -1)[:, : weight.shape[1]].copy(), scales


def quantize4(weight: FloatArray, block: int = BLOCK) -> tuple[CodeArray, FloatArray]:
    """4-bit codes int8 [N, K] in -8..7 and signed scales float32 [N, blocks]."""
    blocks = _blocks(weight, block)
    high, low = blocks.max(axis=2), blocks.min(axis=2)
    scales = (np.where(high > -low, high, low) / np.float32(-8)).astype(np.float32)
    step = scales[:, :, None]
    ratio = np.divide(blocks, step, out=np.zeros_like(blocks), where=step != 0)
    codes = np.clip(np.rint(ratio), -8, 7).astype(np.int8)
    return codes.reshape(weight.shape[0], -1)[:, : weight.shape[1]].copy(), scales


def dequantize(codes: CodeArray, scales: npt.NDArray[np.floating], block: int = BLOCK) -> FloatArray:
    """Float32 weight [N, K] from codes [N, K] and scales [N, blocks]."""
    return codes.astype(np.float32) * expand_scales(scales.astype(np.float32), codes.shape[1], block)


def matmul_nbits_layout(weight: FloatArray, bits: int = 8, block: int = BLOCK) -> tuple[ByteArray, FloatArray]:
    """Initialisers of MatMulNBits: B uint8 [N, blocks, block * bits / 8] and scales float32 [N * blocks]."""
    codes, scales = quantize(weight, block=block) if bits == 8 else quantize4(weight, block)
    flat = scales.astype(np.float32).reshape(-1)
    count = -(-weight.shape[1] // block)
    padded = np.zeros((weight.shape[0], count * block), dtype=np.int16)
    padded[:, : weight.shape[1]] = codes
    stored: ByteArray = (padded + (1 << (bits - 1))).astype(np.uint8).reshape(weight.shape[0], count, block)
    if bits == 8:
        return stored, flat
    return stored[:, :, 0::2] | (stored[:, :, 1::2] << np.uint8(4)), flat
