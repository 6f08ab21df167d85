"""The dimensions of a Qwen3-MoE-layout decoder: the one description that loader, exporter and torch share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Sizes in elements; `theta` is the rotary base, `epsilon` the RMSNorm constant."""

    vocabulary: int = 2048
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    experts: int = 16
    expert_width: int = 128
    top_k: int = 2
    normalise_top_k: bool = True
    theta: float = 10_000.0
    epsilon: float = 1e-6
    context: int = 256
    end_of_text: int = 0
    tied: bool = True
