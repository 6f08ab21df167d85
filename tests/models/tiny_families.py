"""A tiny random model of every supported family, made and saved by transformers: the yardstick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the yardstick is transformers with torch (dev extra)")
transformers = pytest.importorskip("transformers", reason="the yardstick is transformers with torch (dev extra)")

COMMON: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
_MLA: dict[str, Any] = {
    "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 12, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
    "intermediate_size": 48, "n_shared_experts": 2, "first_k_dense_replace": 1, "num_hidden_layers": 3,
    "n_group": 4, "topk_group": 2, "routed_scaling_factor": 1.5,
    "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
        "mscale": 0.8, "mscale_all_dim": 0.7, "beta_fast": 32, "beta_slow": 1,
    },
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "olmoe": ("Olmoe", {"num_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 32, "clip_qkv": 1.5}),
    "mixtral": ("Mixtral", {
        "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48, "head_dim": 24, "sliding_window": 20,
    }),
    "qwen2_moe": ("Qwen2Moe", {
        "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "intermediate_size": 48,
        "shared_expert_intermediate_size": 40, "num_hidden_layers": 4, "mlp_only_layers": [1], "norm_topk_prob": False,
    }),
    "qwen3_moe": ("Qwen3Moe", {
        "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "intermediate_size": 48,
        "head_dim": 24, "norm_topk_prob": True, "decoder_sparse_step": 2, "num_hidden_layers": 4,
        "attention_bias": True, "tie_word_embeddings": True,
    }),
    "granitemoe": ("GraniteMoe", {
        "num_local_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 32, "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0, "residual_multiplier": 0.8, "logits_scaling": 0.5,
    }),
    "deepseek_v2": ("DeepseekV2", {**_MLA, "topk_method": "group_limited_greedy"}),
    "deepseek_v3": ("DeepseekV3", {**_MLA, "norm_topk_prob": True}),
    "phimoe": ("Phimoe", {
        "num_local_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 32, "attention_bias": True,
        "lm_head_bias": True, "router_jitter_noise": 0.2,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
            "long_factor": [2.0] * 8, "short_mscale": 1.1, "long_mscale": 1.2, "original_max_position_embeddings": 200,
        },
    }),
    "gpt_oss": ("GptOss", {
        "num_local_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 40, "head_dim": 16, "sliding_window": 12,
        "num_hidden_layers": 4,
    }),
}  # fmt: skip


SEEDS = {"granitemoe": 1, "qwen2_moe": 4, "qwen3_moe": 4, "deepseek_v2": 1, "deepseek_v3": 1}
"""Seeds whose greedy texts vary and have no near-tie, so that tokens can be compared outright; 0 elsewhere."""


def make_model(family: str, seed: int | None = None, **changes: Any) -> Any:
    """A seeded random model in evaluation mode whose greedy text varies: no weight is left at a trivial value.
    `changes`: of its configuration here."""
    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **own, **changes})
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(SEEDS.get(family, 0) if seed is None else seed)
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        with torch.no_grad():
            for key, value in [*model.named_parameters(), *model.named_buffers()]:
                if not value.is_floating_point() or "inv_freq" in key:
                    continue
                noise = torch.randn(value.shape)
                if "norm" in key and key.endswith("weight"):
                    value.copy_(1 + 0.1 * noise)
                elif "embed" in key:
                    # With tied embeddings a large one would make the model repeat its last token.
                    value.copy_((0.03 if config.tie_word_embeddings else 0.3) * noise)
                elif value.ndim == 1 or "bias" in key:
                    value.copy_(0.1 * noise)
                else:
                    value.copy_(noise * value.shape[-1] ** -0.5)
    return model


def save_model(family: str, folder: Path, seed: int | None = None) -> Any:
    """Make a model and save it as a checkpoint folder."""
    model = make_model(family, seed)
    model.save_pretrained(folder)
    return model
