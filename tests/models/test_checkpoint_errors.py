"""A malformed checkpoint is named: which file, which tensor or key, what was there, what was wanted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hil_config.errors import DataFileError
from models.architecture import Architecture, config_values
from models.build import build_shards
from models.checkpoint import read_checkpoint
from models.families import describe
from models.importance import uniform

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint")


def edit_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def refused(folder: Path, *parts: str) -> None:
    """The build says every one of `parts`, with exit code 4, and writes nothing."""
    out = folder.parent / "out"
    with pytest.raises(DataFileError) as caught:
        build_shards(folder, out)
    assert caught.value.exit_code == 4
    for part in parts:
        assert part in caught.value.message
    assert not out.exists()


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("model_type", "llama", "'qwen3_moe'"),
        ("rope_theta", 1e-80, "a number above 1"),
        ("rope_scaling", {"type": "linear", "factor": 1e-80}, "1e+06 radians a position"),
        ("hidden_size", "64", "whole number"),
        ("hidden_size", 0, "whole number"),
        ("head_dim", 1 << 31, "whole number"),
        ("num_hidden_layers", 1 << 24, "at most 4096"),
        ("hidden_size", True, "whole number"),
        ("num_hidden_layers", None, "whole number"),
        ("num_key_value_heads", 4, "divisor of 6"),
        ("head_dim", 15, "even"),
        ("num_experts_per_tok", 9, "at most 8"),
        ("norm_topk_prob", "yes", "true or false"),
        ("rms_norm_eps", -1.0, "positive"),
        ("rope_theta", "big", "positive"),
        ("eos_token_id", 160, "vocabulary"),
        ("hidden_act", "gelu", "'silu'"),
        ("mlp_only_layers", [9], "layers below 3"),
        ("rope_scaling", "yarn", "an object"),
        ("rope_parameters", {"rope_type": "spiral"}, "'default' or"),
        ("quantization_config", {"quant_method": "gptq"}, "'mxfp4'"),
    ],
)
def test_a_wrong_config_value_is_named(folder: Path, key: str, value: object, wanted: str) -> None:
    edit_config(folder, **{key: value})
    refused(folder, CONFIG, key, wanted)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff\x00", "[" * 100_000])
def test_a_config_that_is_not_an_object_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    refused(folder, CONFIG)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", CONFIG)
    (folder / WEIGHTS).unlink()
    refused(folder, WEIGHTS)


def test_a_cut_weight_file_is_refused(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    refused(folder, WEIGHTS)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    name = "model.layers.2.mlp.experts.5.up_proj.weight"
    edit_weights(folder, lambda tensors: tensors.pop(name))
    refused(folder, name, "(40, 64)")


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: np.zeros((64, 32), dtype=np.float32)}))
    refused(folder, WEIGHTS, name, "(64, 32)", "(32, 64)")


def test_a_tensor_of_another_dtype_is_named(folder: Path) -> None:
    name = "model.norm.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: np.zeros(64, dtype=np.int32)}))
    refused(folder, WEIGHTS, name, "I32", "F32")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(folder: Path, bad: float) -> None:
    name = "model.layers.1.mlp.gate.weight"

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[name][3, 3] = bad

    edit_weights(folder, spoil)
    refused(folder, WEIGHTS, name, "finite")


def test_codes_without_scales_are_named(folder: Path) -> None:
    name = "model.embed_tokens.weight"

    def spoil(tensors: dict[str, Any]) -> None:
        del tensors[name]
        tensors[name + ".codes"] = np.zeros((160, 64), dtype=np.int8)

    edit_weights(folder, spoil)
    refused(folder, name + ".scales", "(160, 2)")


@pytest.mark.parametrize("table", [[[1.0]], "high", [[float("nan")] * 8] * 3, [[-1.0] * 8] * 3])
def test_wrong_importance_tables_are_named(folder: Path, table: object) -> None:
    good = [[1.0] * 8] * 3
    (folder / "training.json").write_text(json.dumps({"activation": good, "importance": table}))
    refused(folder, "training.json", "importance", "(3, 8)")


def test_a_checkpoint_without_measurements_gets_uniform_tables(folder: Path) -> None:
    manifest = build_shards(folder, folder.parent / "out")
    wanted = uniform(read_checkpoint(folder).description)
    assert manifest.model.activation == wanted.activation
    assert manifest.model.importance == wanted.importance
    assert manifest.model.activation[0] == (0.25,) * 8
    assert manifest.model.perplexity == {}


def test_weights_may_be_spread_over_files_with_an_index(folder: Path) -> None:
    whole = build_shards(folder, folder.parent / "whole")
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    parts = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for part, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / part)
    (folder / WEIGHTS).unlink()
    index = {"weight_map": {key: part for part, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert build_shards(folder, folder.parent / "parts").shards == whole.shards


def test_an_index_cannot_name_a_file_elsewhere(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../checkpoint/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "plain file name")


def test_newer_config_spellings_are_understood(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    old, values = checkpoint.description, config_values(checkpoint.architecture, "x")
    values["num_local_experts"] = values.pop("num_experts")
    values["rope_parameters"] = {"rope_theta": values.pop("rope_theta"), "rope_type": "default"}
    assert describe(Path(CONFIG), values) == old


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_config_gives_an_architecture_or_a_named_error(data: st.DataObject) -> None:
    values = config_values(Architecture(), "x")
    key = data.draw(st.sampled_from(sorted(values)))
    values[key] = data.draw(JSON_VALUES)
    with contextlib.suppress(DataFileError):  # any other exception fails the test
        assert describe(Path(CONFIG), values).hidden >= 1
