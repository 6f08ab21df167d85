"""The same weights in another disk layout give the same shards; compressed weights read as their makers read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hil_config.errors import DataFileError
from hil_config.wire.manifest import Manifest
from models.build import build_shards
from models.families import describe
from models.tensor_file import TensorFiles
from tests.models.tiny_families import FAMILIES, make_model, save_model, torch

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def hashes(manifest: Manifest) -> dict[str, str]:
    return {shard.name: shard.sha256 for shard in manifest.shards}


def stack_experts(tensors: dict[str, Any]) -> dict[str, Any]:
    """Experts one by one -> gate_up_proj [E, 2I, H] and down_proj [E, H, I], as transformers 5 holds them in memory."""
    stacked = {name: value for name, value in tensors.items() if ".mlp.experts." not in name}
    for layer in {name.split(".mlp.experts.")[0] for name in tensors if ".mlp.experts." in name}:
        root = f"{layer}.mlp.experts."
        count = len([name for name in tensors if name.startswith(root) and name.endswith("gate_proj.weight")])

        def part(name: str, root: str = root, count: int = count) -> Any:
            return np.stack([tensors[f"{root}{e}.{name}_proj.weight"] for e in range(count)])

        stacked[root + "gate_up_proj"] = np.concatenate((part("gate"), part("up")), axis=1)
        stacked[root + "down_proj"] = part("down")
    return stacked


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek_v3"])
def test_stacked_and_separate_experts_give_the_same_shards(family: str, tmp_path: Path) -> None:
    save_model(family, tmp_path / "separate")
    (tmp_path / "stacked").mkdir()
    (tmp_path / "stacked" / CONFIG).write_bytes((tmp_path / "separate" / CONFIG).read_bytes())
    save_file(stack_experts(load_file(tmp_path / "separate" / WEIGHTS)), tmp_path / "stacked" / WEIGHTS)
    wanted = build_shards(tmp_path / "separate", tmp_path / "a", ("fp32",))
    assert hashes(build_shards(tmp_path / "stacked", tmp_path / "b", ("fp32",))) == hashes(wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights_read_as_torch_reads_them(dtype: str, tmp_path: Path) -> None:
    model = make_model("olmoe").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "narrow")
    model.to(torch.float32).save_pretrained(tmp_path / "wide")
    wanted = build_shards(tmp_path / "wide", tmp_path / "a", ("fp32",))
    assert hashes(build_shards(tmp_path / "narrow", tmp_path / "b", ("fp32",))) == hashes(wanted)


def test_mxfp4_blocks_read_as_transformers_reads_them(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (3, 10, 2, 16), dtype=np.uint8)
    scales = rng.integers(118, 130, (3, 10, 2), dtype=np.uint8)
    save_file({"w_blocks": blocks, "w_scales": scales}, tmp_path / WEIGHTS)
    files = TensorFiles(tmp_path)
    wanted = convert_moe_packed_tensors(
        torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32
    ).numpy()  # fmt: skip
    assert wanted.shape == (3, 64, 10)
    np.testing.assert_array_equal(files.read("w", (3, 64, 10)), wanted)
    np.testing.assert_array_equal(files.read("w", (3, 64, 10), 1), wanted[1])


def test_fp8_blocks_read_as_torch_reads_them(tmp_path: Path) -> None:
    from safetensors.torch import save_file as save_torch

    weight = (torch.randn(200, 130, generator=torch.Generator().manual_seed(0)) * 30).to(torch.float8_e4m3fn)
    scale = torch.rand(2, 2, generator=torch.Generator().manual_seed(1)) + 0.1
    save_torch({"w": weight, "w_scale_inv": scale}, tmp_path / WEIGHTS)
    whole = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:200, :130]
    np.testing.assert_array_equal(TensorFiles(tmp_path).read("w", (200, 130)), (weight.float() * whole).numpy())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_missing_tensor_of_any_family_is_named(family: str, tmp_path: Path) -> None:
    save_model(family, tmp_path / "c")
    tensors = load_file(tmp_path / "c" / WEIGHTS)
    rng = np.random.default_rng(3)
    for victim in rng.choice(sorted(tensors), 6, replace=False):
        save_file({name: value for name, value in tensors.items() if name != victim}, tmp_path / "c" / WEIGHTS)
        with pytest.raises(DataFileError) as caught:
            build_shards(tmp_path / "c", tmp_path / "out", ("fp32",))
        assert caught.value.exit_code == 4
        assert victim in caught.value.message or ".experts.0." in caught.value.message
        assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".out*"))


def test_the_older_config_spelling_describes_the_same_model() -> None:
    """transformers 4 wrote rope_theta and rope_scaling side by side, and the experts' number by another name."""
    for family in FAMILIES:
        values = make_model(family).config.to_dict()
        old = dict(values)
        rope = dict(old.pop("rope_parameters"))
        old["rope_theta"] = rope.pop("rope_theta")
        kind = rope.pop("rope_type")
        old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
        for new in ("num_experts", "num_local_experts", "n_routed_experts"):
            if new in old:
                old["num_experts"] = old.pop(new)
        assert describe(Path(CONFIG), old) == describe(Path(CONFIG), values), family


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("deepseek_v2", "n_shared_experts"), ("deepseek_v2", "routed_scaling_factor"),
        ("deepseek_v3", "n_shared_experts"), ("deepseek_v3", "routed_scaling_factor"), ("gpt_oss", "sliding_window"),
    ],
)  # fmt: skip
def test_a_key_that_is_absent_means_what_it_means_to_the_familys_own_code(family: str, key: str) -> None:
    config = make_model(family).config
    values = {name: value for name, value in config.to_dict().items() if name != key}
    filled = type(config).from_dict(values).to_dict()
    assert describe(Path(CONFIG), values) == describe(Path(CONFIG), filled)


def test_no_shared_experts_are_none() -> None:
    values = make_model("deepseek_v3").config.to_dict()
    for none in (None, 0):
        assert describe(Path(CONFIG), values | {"n_shared_experts": none}).shared is None


@pytest.mark.parametrize("all_dim", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"phimoe"}))
def test_scales_of_a_stretched_context_are_those_of_the_familys_own_code(family: str, all_dim: float) -> None:
    """`mscale_all_dim` is DeepSeek's key: its attention alone is scaled by it, the others' rotary factor only."""
    yarn = {
        "rope_type": "yarn", "rope_theta": 5000.0, "factor": 8.0, "original_max_position_embeddings": 32,
        "mscale": 1.0, "mscale_all_dim": all_dim,
    }  # fmt: skip
    model = make_model(family, rope_parameters=yarn).model
    found = describe(Path(CONFIG), model.config.to_dict()).attention
    assert found.scale == pytest.approx(model.layers[0].self_attn.scaling)
    assert found.rotary.factor == pytest.approx(model.rotary_emb.attention_scaling)
    np.testing.assert_allclose(found.rotary.frequencies, model.rotary_emb.inv_freq.numpy(), rtol=1e-6)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("olmoe", {"model_type": "jamba"}, "'jamba'"),
    ("olmoe", {"model_type": None}, "None"),
    ("mixtral", {"hidden_act": "gelu"}, "hidden_act: got 'gelu'"),
    ("qwen2_moe", {"mlp_only_layers": [3]}, "mlp_only_layers: got [3], wanted a last layer that has experts"),
    ("qwen3_moe", {"decoder_sparse_step": 3}, "a last layer that has experts"),
    ("qwen3_moe", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters.rope_type: got 'dyn"),
    ("qwen3_moe", {"quantization_config": {"quant_method": "awq"}}, "quantization_config: got 'awq'"),
    ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method: got 'noaux_tc'"),
    ("deepseek_v2", {"moe_layer_freq": 2}, "moe_layer_freq: got 2"),
    ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob: got True"),
    ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func: got 'softmax'"),
    ("deepseek_v3", {"n_group": 3}, "n_group: got 3, wanted a divisor of 8"),
    ("deepseek_v3", {"topk_group": 1}, "topk_group: got 1, wanted groups that hold at least 3 experts"),
    ("phimoe", {"num_experts_per_tok": 1}, "num_experts_per_tok: got 1, wanted 2"),
    ("gpt_oss", {"rope_parameters": None}, "rope_parameters: got None"),
    ("gpt_oss", {"layer_types": ["chunked_attention"] * 4}, "layer_types"),
]


@pytest.mark.parametrize(("family", "changes", "said"), REFUSED, ids=[f"{f}-{next(iter(c))}" for f, c, _ in REFUSED])
def test_what_is_not_supported_is_refused_with_what_was_found(
    family: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    values = json.loads(json.dumps(make_model(family).config.to_dict())) | changes
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(DataFileError) as caught:
        build_shards(tmp_path, tmp_path / "out")
    assert said in caught.value.message and CONFIG in caught.value.message
