"""The dimensions of the reference model: a Qwen3-MoE-layout decoder, as its torch code and its writer need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MODEL_TYPE = "qwen3_moe"


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

    @property
    def always_on(self) -> int:
        """Shared experts: this layout has none."""
        return 0


def config_values(a: Architecture, name: str) -> dict[str, Any]:
    """The config.json object that `models.families.describe` reads back as `a`."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": MODEL_TYPE,
        "name": name,
        "vocab_size": a.vocabulary,
        "hidden_size": a.hidden,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_dim,
        "num_experts": a.experts,
        "moe_intermediate_size": a.expert_width,
        "num_experts_per_tok": a.top_k,
        "norm_topk_prob": a.normalise_top_k,
        "rope_theta": a.theta,
        "rms_norm_eps": a.epsilon,
        "max_position_embeddings": a.context,
        "eos_token_id": None if a.end_of_text < 0 else a.end_of_text,
        "tie_word_embeddings": a.tied,
        "hidden_act": "silu",
        "attention_bias": False,
    }


def tensor_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    """Every weight a checkpoint of this architecture must hold, with its shape."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (a.vocabulary, a.hidden)}
    for layer in range(a.layers):
        root = f"model.layers.{layer}."
        shapes[root + "input_layernorm.weight"] = (a.hidden,)
        shapes[root + "post_attention_layernorm.weight"] = (a.hidden,)
        for short, heads in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)):
            shapes[f"{root}self_attn.{short}_proj.weight"] = (heads * a.head_dim, a.hidden)
        shapes[root + "self_attn.o_proj.weight"] = (a.hidden, a.heads * a.head_dim)
        shapes[root + "self_attn.q_norm.weight"] = (a.head_dim,)
        shapes[root + "self_attn.k_norm.weight"] = (a.head_dim,)
        shapes[root + "mlp.gate.weight"] = (a.experts, a.hidden)
        for expert in range(a.experts):
            shapes[f"{root}mlp.experts.{expert}.gate_proj.weight"] = (a.expert_width, a.hidden)
            shapes[f"{root}mlp.experts.{expert}.up_proj.weight"] = (a.expert_width, a.hidden)
            shapes[f"{root}mlp.experts.{expert}.down_proj.weight"] = (a.hidden, a.expert_width)
    shapes["model.norm.weight"] = (a.hidden,)
    if not a.tied:
        shapes["lm_head.weight"] = (a.vocabulary, a.hidden)
    return shapes
