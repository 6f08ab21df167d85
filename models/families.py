"""config.json of each supported family -> Description. What is not supported is refused with what was found.

Key names and rules were read from the models' public code in transformers 4.57 and 5.24; both spellings of
renamed keys are understood (num_experts / num_local_experts / n_routed_experts, rope_theta / rope_parameters).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.config_file import Config
from models.describe import Attention, Description, DiskNames, FeedForward, Latent, Router
from models.rotary import read_rotary

_THETA = {"mixtral": 1e6, "phimoe": 1e6, "gpt_oss": 150_000.0}
_EPSILON = {"olmoe": 1e-5, "mixtral": 1e-5, "phimoe": 1e-5, "gpt_oss": 1e-5}
"""Defaults of the families' own configuration classes, where they are not the most common ones."""

MAX_LAYERS = 4096
BLOCK_SPARSE = DiskNames("block_sparse_moe", parts=("w1", "w3", "w2"))


def describe(path: Path, values: dict[str, Any]) -> Description:
    """The description of a parsed config.json at `path`; DataFileError names the key that does not fit."""
    config = Config(path, values)
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise config.fail("model_type", family, "one of " + ", ".join(map(repr, FAMILIES)))
    if family != "gpt_oss":
        config.text("hidden_act", ("silu",), "silu")
    quantised = config.table("quantization_config")
    if quantised is not None and quantised.get("quant_method") not in ("mxfp4", "fp8"):
        raise config.fail("quantization_config", quantised.get("quant_method"), "none, 'mxfp4' or 'fp8'")
    d = FAMILIES[family](config, _common(config, family))
    _check(config, d)
    return d


def _common(config: Config, family: str) -> Description:
    """What all families share: sizes, full attention, RMSNorm, softmax routing over every layer."""
    layers, heads = config.count("num_hidden_layers"), config.count("num_attention_heads")
    if layers > MAX_LAYERS:
        raise config.fail("num_hidden_layers", layers, f"at most {MAX_LAYERS}")
    hidden = config.count("hidden_size")
    latent = config.get("kv_lora_rank") is not None and family.startswith("deepseek")
    head_dim = config.count("qk_rope_head_dim") if latent else config.count("head_dim", default=hidden // heads or 1)
    if head_dim % 2:
        raise config.fail("qk_rope_head_dim" if latent else "head_dim", head_dim, "an even number")
    scaled = read_rotary(config, head_dim, _THETA.get(family, 10_000.0), family == "deepseek_v2")
    context = config.count("max_position_embeddings")
    scale = scaled.scale if latent else 1.0  # only DeepSeek's attention knows mscale_all_dim
    attention = Attention(
        heads=heads, kv_heads=config.count("num_key_value_heads", default=heads), key_dim=head_dim,
        value_dim=head_dim, scale=scale * head_dim**-0.5, rotary=scaled.rotary, windows=(0,) * layers,
    )  # fmt: skip
    experts = config.count("num_experts", "num_local_experts", "n_routed_experts")
    return Description(
        family=family, vocabulary=config.count("vocab_size"), hidden=hidden, decoder_layers=layers, dense=(),
        norm="rms", epsilon=config.real("rms_norm_eps", _EPSILON.get(family, 1e-6)),
        attention=attention, router=Router(experts, config.count("num_experts_per_tok")),
        expert=FeedForward(config.count("moe_intermediate_size", "intermediate_size")), names=DiskNames(),
        context=min(context, scaled.context or context), end_of_text=_end_of_text(config),
        tied=config.flag("tie_word_embeddings", False),
    )  # fmt: skip


def _olmoe(config: Config, d: Description) -> Description:
    bias = config.flag("attention_bias", False)
    clip = config.real("clip_qkv", 1.0) if config.get("clip_qkv") is not None else 0.0
    attention = replace(d.attention, norm="full", bias=bias, out_bias=bias, clip=clip)
    return replace(d, attention=attention, router=_normalised(config, d))


def _mixtral(config: Config, d: Description) -> Description:
    window = config.count("sliding_window", default=0)
    attention = replace(d.attention, windows=(window,) * d.decoder_layers)
    return replace(d, attention=attention, router=replace(d.router, normalise=True), names=BLOCK_SPARSE)


def _qwen2_moe(config: Config, d: Description) -> Description:
    attention = replace(d.attention, bias=config.flag("qkv_bias", True), windows=_windows(config, d, False))
    width = config.count("shared_expert_intermediate_size", default=5632)
    return replace(
        _sparse_step(config, d), attention=attention, router=_normalised(config, d),
        names=DiskNames(shared="shared_expert"), shared=FeedForward(width), shared_gate=True,
    )  # fmt: skip


def _qwen3_moe(config: Config, d: Description) -> Description:
    bias = config.flag("attention_bias", False)
    window = config.count("sliding_window", default=0) if config.flag("use_sliding_window", False) else 0
    attention = replace(d.attention, norm="head", bias=bias, out_bias=bias, windows=(window,) * d.decoder_layers)
    return replace(_sparse_step(config, d), attention=attention, router=_normalised(config, d))


def _granitemoe(config: Config, d: Description) -> Description:
    bias = config.flag("attention_bias", False)
    attention = replace(d.attention, scale=config.real("attention_multiplier", 1.0), bias=bias, out_bias=bias)
    names = DiskNames(
        "block_sparse_moe", "router.layer.weight", stacked=("input_linear.weight", "output_linear.weight")
    )
    return replace(
        d, attention=attention, router=replace(d.router, normalise=True), names=names,
        embedding_multiplier=config.real("embedding_multiplier", 1.0),
        residual_multiplier=config.real("residual_multiplier", 1.0),
        logits_divisor=config.real("logits_scaling", 1.0),
    )  # fmt: skip


def _phimoe(config: Config, d: Description) -> Description:
    if d.router.top_k != 2:
        raise config.fail("num_experts_per_tok", d.router.top_k, "2: sparsemixer picks two")
    bias = config.flag("attention_bias", False)
    window = config.count("sliding_window", default=0)
    attention = replace(d.attention, bias=bias, out_bias=bias, windows=(window,) * d.decoder_layers)
    router = replace(d.router, rule="sparsemixer", jitter=config.real("router_jitter_noise", 0.01))
    return replace(
        d, attention=attention, router=router, norm="layer", names=BLOCK_SPARSE,
        head_bias=config.flag("lm_head_bias", False),
    )  # fmt: skip


def _gpt_oss(config: Config, d: Description) -> Description:
    if config.get("rope_parameters", "rope_scaling") is None:
        raise config.fail("rope_parameters", None, "the family's yarn scaling, or a rope_type of 'default'")
    bias = config.flag("attention_bias", True)
    attention = replace(d.attention, bias=bias, out_bias=bias, sinks=True, windows=_windows(config, d, True))
    limit, alpha = config.real("swiglu_limit", 7.0), config.real("swiglu_alpha", 1.702)
    return replace(
        d, attention=attention, router=replace(d.router, normalise=True, bias=True),
        expert=FeedForward(config.count("intermediate_size"), "clamped", True, alpha, limit),
        names=DiskNames(router="router.weight", transposed=True),
    )  # fmt: skip


def _deepseek(config: Config, d: Description, scaling: float, shared: int) -> Description:
    """DeepSeek-V2 and V3 share attention, dense first layers and shared experts, but not what absent keys mean."""
    plain, rotary = config.count("qk_nope_head_dim"), config.count("qk_rope_head_dim")
    key = plain + rotary
    latent = Latent(config.count("q_lora_rank", default=0), config.count("kv_lora_rank"), plain, rotary)
    bias = config.flag("attention_bias", False)
    attention = replace(
        d.attention, kv_heads=d.attention.heads, key_dim=key, value_dim=config.count("v_head_dim"), latent=latent,
        scale=d.attention.scale * (rotary / key) ** 0.5, bias=bias, out_bias=bias,
    )  # fmt: skip
    groups = config.count("n_group", default=1)
    router = replace(
        d.router, scaling=config.real("routed_scaling_factor", scaling), groups=groups,
        kept_groups=config.count("topk_group", default=groups),
    )  # fmt: skip
    dense = tuple(range(min(config.count("first_k_dense_replace", default=0, least=0), d.decoder_layers)))
    absent = 0 if "n_shared_experts" in config.values else shared
    shared = config.count("n_shared_experts", default=absent, least=0)
    if config.get("moe_layer_freq") not in (None, 1):
        raise config.fail("moe_layer_freq", config.get("moe_layer_freq"), "1")
    return replace(
        d, attention=attention, router=router, dense=dense, dense_width=config.count("intermediate_size"),
        shared=FeedForward(d.expert.width * shared) if shared else None, names=DiskNames(shared="shared_experts"),
    )  # fmt: skip


def _deepseek_v2(config: Config, d: Description) -> Description:
    d = _deepseek(config, d, 1.0, 2)
    if config.flag("norm_topk_prob", False):
        raise config.fail("norm_topk_prob", True, "false: the public code of this family never normalises")
    if config.text("topk_method", ("greedy", "group_limited_greedy"), "greedy") == "greedy":
        return replace(d, router=replace(d.router, groups=1, kept_groups=1))
    return d


def _deepseek_v3(config: Config, d: Description) -> Description:
    interleaved = config.flag("rope_interleave", True)
    d = _deepseek(config, d, 2.5, 1)
    config.text("scoring_func", ("sigmoid",), "sigmoid")
    config.text("topk_method", ("noaux_tc",), "noaux_tc")
    attention = replace(d.attention, rotary=replace(d.attention.rotary, interleaved=interleaved))
    router = replace(d.router, rule="sigmoid", group_score="top2", normalise=config.flag("norm_topk_prob", True))
    return replace(d, attention=attention, router=router)


FAMILIES: dict[str, Callable[[Config, Description], Description]] = {
    "olmoe": _olmoe,
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "granitemoe": _granitemoe,
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "phimoe": _phimoe,
    "gpt_oss": _gpt_oss,
}
"""model_type -> what turns the common description into the family's."""


def _normalised(config: Config, d: Description) -> Router:
    return replace(d.router, normalise=config.flag("norm_topk_prob", False))


def _sparse_step(config: Config, d: Description) -> Description:
    """Dense layers by `mlp_only_layers` and `decoder_sparse_step`."""
    step = config.count("decoder_sparse_step", default=1)
    named = config.get("mlp_only_layers") or []
    if not isinstance(named, list) or not all(type(n) is int and 0 <= n < d.decoder_layers for n in named):
        raise config.fail("mlp_only_layers", named, f"a list of layers below {d.decoder_layers}")
    dense = tuple(n for n in range(d.decoder_layers) if n in named or (n + 1) % step)
    return replace(d, dense=dense, dense_width=config.count("intermediate_size") if dense else 0)


def _windows(config: Config, d: Description, alternating: bool) -> tuple[int, ...]:
    """A window per decoder layer from `layer_types`, or by the family's rule where that is absent."""
    window = config.count("sliding_window", default=128 if alternating else 0, least=0)
    kinds = config.get("layer_types")
    if not alternating and not config.flag("use_sliding_window", False):
        return (0,) * d.decoder_layers
    if kinds is None:
        most = d.decoder_layers if alternating else config.count("max_window_layers", default=28, least=0)
        return tuple(window if n % 2 == 0 and n < most else 0 for n in range(d.decoder_layers))
    known = {"sliding_attention": window, "full_attention": 0}
    if not isinstance(kinds, list) or len(kinds) != d.decoder_layers or not all(k in known for k in map(str, kinds)):
        raise config.fail("layer_types", kinds, f"{d.decoder_layers} of {sorted(known)}")
    return tuple(known[kind] for kind in kinds)


def _end_of_text(config: Config) -> int:
    """The end-of-text token; -1 where the checkpoint names none."""
    value = config.values.get("eos_token_id")
    if isinstance(value, list) and value:
        value = value[0]
    if value is None:
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < config.count("vocab_size"):
        raise config.fail("eos_token_id", value, "a token of the vocabulary")
    return value


def _check(config: Config, d: Description) -> None:
    """Sizes that must fit each other."""
    a, r = d.attention, d.router
    if a.heads % a.kv_heads:
        raise config.fail("num_key_value_heads", a.kv_heads, f"a divisor of {a.heads}")
    if r.top_k > r.experts:
        raise config.fail("num_experts_per_tok", r.top_k, f"at most {r.experts}")
    if r.experts % r.groups or r.kept_groups > r.groups:
        raise config.fail("n_group", r.groups, f"a divisor of {r.experts}, at least topk_group = {r.kept_groups}")
    if r.groups > 1 and r.top_k > r.kept_groups * (r.experts // r.groups):
        raise config.fail("topk_group", r.kept_groups, f"groups that hold at least {r.top_k} experts")
    if not d.moe_layers:
        raise config.fail("num_hidden_layers", d.decoder_layers, "at least one layer with experts")
    if d.moe_layers[-1] != d.decoder_layers - 1:
        raise config.fail("mlp_only_layers", list(d.dense), "a last layer that has experts")
