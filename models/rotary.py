"""Rotary frequencies of a config.json in both spellings, for the scaling rules that fixed tables can express.

Formulas: default (arXiv 2104.09864), linear (arXiv 2306.15595), yarn (arXiv 2309.00071), llama3 (Llama 3.1 model
card), longrope (arXiv 2402.13753; its short table, so the context ends where the long one would begin).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.config_file import Config
from models.describe import Rotary

TYPES = ("default", "linear", "yarn", "llama3", "longrope")
FASTEST = 1e6
"""Radians that a position may turn a pair of dimensions by; unscaled it is 1 for the fastest pair."""


class Scaled(NamedTuple):
    """`scale`: what the attention scale is multiplied by (mscale_all_dim); `context`: 0 or where tables end."""

    rotary: Rotary
    scale: float
    context: int


def read_rotary(config: Config, dims: int, theta: float, interleaved: bool = False) -> Scaled:
    """The table of a head with `dims` rotary dimensions; `theta` is the family's default base."""
    table = config.table("rope_parameters") or config.table("rope_scaling") or Config(config.path, {})
    if table.values.get("rope_type") is None:
        table = Config(table.path, table.values | {"rope_type": table.values.get("type")}, table.inside)
    kind = table.text("rope_type", TYPES, "default")
    base = table.real("rope_theta", config.real("rope_theta", theta))
    if base <= 1.0:
        raise config.fail("rope_theta", base, "a number above 1")
    inverse = 1.0 / base ** (np.arange(0, dims, 2, dtype=np.float64) / dims)
    factor, scale, context = 1.0, 1.0, 0
    if kind == "linear":
        inverse = inverse / table.real("factor")
    elif kind == "llama3":
        inverse = _llama3(table, inverse)
    elif kind == "yarn":
        inverse, factor = _yarn(table, inverse, dims, base)
        if table.get("mscale_all_dim"):
            scale = _mscale(table.real("factor"), table.real("mscale_all_dim")) ** 2
    elif kind == "longrope":
        inverse, factor, context = _longrope(table, config, inverse)
    if not inverse.max() <= FASTEST:
        raise table.fail("factor", table.get("factor"), f"a scaling that leaves at most {FASTEST:g} radians a position")
    return Scaled(
        Rotary(tuple(float(f) for f in inverse.astype(np.float32)), base, factor, interleaved), scale, context
    )


def _mscale(factor: float, weight: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _yarn(
    table: Config, inverse: npt.NDArray[np.float64], dims: int, base: float
) -> tuple[npt.NDArray[np.float64], float]:
    factor, original = table.real("factor"), table.count("original_max_position_embeddings")
    if table.get("attention_factor"):
        attention = table.real("attention_factor")
    elif table.get("mscale") and table.get("mscale_all_dim"):
        attention = _mscale(factor, table.real("mscale")) / _mscale(factor, table.real("mscale_all_dim"))
    else:
        attention = _mscale(factor)

    def dimension(rotations: float) -> float:
        return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(table.real("beta_fast", 32.0)), dimension(table.real("beta_slow", 1.0))
    if table.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    high += 0.001 if low == high else 0
    ramp = np.clip((np.arange(dims // 2) - low) / (high - low), 0, 1)
    return inverse / factor * ramp + inverse * (1 - ramp), attention


def _llama3(table: Config, inverse: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    factor, low, high = table.real("factor"), table.real("low_freq_factor"), table.real("high_freq_factor")
    original = table.count("original_max_position_embeddings")
    wavelength = 2 * math.pi / inverse
    smooth = (original / wavelength - low) / (high - low)
    medium = (1 - smooth) * inverse / factor + smooth * inverse
    slow = np.where(wavelength > original / low, inverse / factor, inverse)
    return np.where((wavelength <= original / low) & (wavelength >= original / high), medium, slow)


def _longrope(
    table: Config, config: Config, inverse: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float, int]:
    original = table.count(
        "original_max_position_embeddings", default=config.count("original_max_position_embeddings", default=1 << 30)
    )
    if original == 1 << 30:
        raise table.fail("original_max_position_embeddings", None, "a whole number of at least 1")
    factors = np.array(table.numbers("short_factor", len(inverse)))
    if table.get("short_mscale"):  # PhiMoE states the factor itself
        attention = table.real("short_mscale")
    elif table.get("attention_factor"):
        attention = table.real("attention_factor")
    else:
        ratio = table.real("factor", config.count("max_position_embeddings") / original)
        attention = 1.0 if ratio <= 1 else math.sqrt(1 + math.log(ratio) / math.log(original))
    return inverse / factors, attention, original
