"""Read a Qwen3-MoE-layout checkpoint folder: config.json and safetensors, without torch.

A weight is stored either plainly under its name (F32, F16 or BF16) or in blocks as `<name>.codes` (I8 [N, K])
and `<name>.scales` (F16 [N, ceil(K / 32)]); weight = code * scale of its block of 32 inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from hil_config.errors import DataFileError
from models.architecture import Architecture
from models.quantize import BLOCK, expand_scales

FloatArray = npt.NDArray[np.float32]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TRAINING_NAME = "training.json"
MODEL_TYPE = "qwen3_moe"
MAX_JSON_BYTES = 64 << 20

_HINT = "a checkpoint folder has config.json and model.safetensors as Hugging Face writes Qwen3-MoE models"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or DataFileError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataFileError(f"{path}: {path.stat().st_size} bytes, wanted at most {MAX_JSON_BYTES}", _HINT)
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: not JSON: {error}", _HINT) from error
    if not isinstance(value, dict):
        raise DataFileError(f"{path}: got a JSON {type(value).__name__}, wanted an object", _HINT)
    return value


class _Config:
    """Typed access to config.json; every complaint names the file, the key, what it got and wanted."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    def fail(self, key: str, got: object, wanted: str) -> DataFileError:
        return DataFileError(f"{self.path}: {key}: got {got!r}, wanted {wanted}", _HINT)

    def count(self, *keys: str) -> int:
        """A positive whole number under the first key that is there; two names exist for some."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 31:
                    raise self.fail(key, value, "a whole number of at least 1")
                return value
        raise self.fail(" or ".join(keys), None, "a whole number of at least 1")

    def real(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise self.fail(key, value, "a positive number")
        return float(value)

    def only(self, key: str, allowed: object) -> None:
        """Refuse a variant that the exporter would silently compute wrongly."""
        value = self.values.get(key, allowed)
        if value != allowed and value is not None:
            raise self.fail(key, value, f"{allowed!r}; other variants are not supported")

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, value, "true or false")
        return value


def parse_architecture(path: Path, values: dict[str, Any]) -> Architecture:
    """Dimensions out of a parsed config.json; both spellings of renamed keys are understood."""
    config = _Config(path, values)
    if values.get("model_type") != MODEL_TYPE:
        raise config.fail("model_type", values.get("model_type"), repr(MODEL_TYPE))
    for key, allowed in (
        ("hidden_act", "silu"), ("attention_bias", False), ("decoder_sparse_step", 1),
        ("mlp_only_layers", []), ("rope_scaling", None), ("use_sliding_window", False),
    ):  # fmt: skip
        config.only(key, allowed)
    rope = values.get("rope_parameters")
    if rope is not None:
        if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
            raise config.fail("rope_parameters", rope, "an object with rope_type 'default'")
        config.values = values | {"rope_theta": rope.get("rope_theta", values.get("rope_theta"))}
    architecture = Architecture(
        vocabulary=config.count("vocab_size"),
        hidden=config.count("hidden_size"),
        layers=config.count("num_hidden_layers"),
        heads=config.count("num_attention_heads"),
        kv_heads=config.count("num_key_value_heads"),
        head_dim=config.count("head_dim"),
        experts=config.count("num_experts", "num_local_experts"),
        expert_width=config.count("moe_intermediate_size"),
        top_k=config.count("num_experts_per_tok"),
        normalise_top_k=config.flag("norm_topk_prob", False),
        theta=config.real("rope_theta", 10_000.0),
        epsilon=config.real("rms_norm_eps", 1e-6),
        context=config.count("max_position_embeddings"),
        end_of_text=_end_of_text(config),
        tied=config.flag("tie_word_embeddings", False),
    )
    if architecture.heads % architecture.kv_heads:
        raise config.fail("num_key_value_heads", architecture.kv_heads, f"a divisor of {architecture.heads}")
    if architecture.head_dim % 2:
        raise config.fail("head_dim", architecture.head_dim, "an even number")
    if architecture.top_k > architecture.experts:
        raise config.fail("num_experts_per_tok", architecture.top_k, f"at most {architecture.experts}")
    return architecture


def _end_of_text(config: _Config) -> int:
    """The end-of-text token; -1 where the checkpoint names none."""
    value = config.values.get("eos_token_id")
    if isinstance(value, list) and value:
        value = value[0]
    if value is None:
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < config.count("vocab_size"):
        raise config.fail("eos_token_id", value, "a token of the vocabulary")
    return value


def config_values(a: Architecture, name: str) -> dict[str, Any]:
    """The config.json object that `parse_architecture` reads back as `a`."""
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


class Checkpoint:
    """An opened checkpoint. Tensors are read when asked for, so a large model never sits in memory whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        values = read_json(folder / CONFIG_NAME)
        self.architecture = parse_architecture(folder / CONFIG_NAME, values)
        a = self.architecture
        name = values.get("name")
        self.name = name if isinstance(name, str) and name else f"{MODEL_TYPE}-{a.layers}x{a.experts}"
        self.shapes = tensor_shapes(a)
        self._files = self._open()
        for wanted in self.shapes:
            if wanted not in self._files and wanted + ".codes" not in self._files:
                raise DataFileError(f"{folder}: tensor {wanted!r}: got nothing, wanted {self.shapes[wanted]}", _HINT)

    def _open(self) -> dict[str, tuple[Path, Any]]:
        """Tensor name -> (file, open handle), from one file or from an index of several."""
        index = self.folder / INDEX_NAME
        names = {WEIGHTS_NAME}
        if index.exists():
            table = read_json(index).get("weight_map")
            if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
                raise DataFileError(f"{index}: weight_map: got {type(table).__name__}, wanted an object", _HINT)
            names = set(table.values())
        found: dict[str, tuple[Path, Any]] = {}
        for name in sorted(names):
            path = self.folder / name
            if Path(name).name != name:
                raise DataFileError(f"{index}: file {name!r}: wanted a plain file name", _HINT)
            try:
                handle = safe_open(path, framework="numpy")
                names_inside: list[str] = handle.keys()  # type: ignore[no-untyped-call]
                found |= dict.fromkeys(names_inside, (path, handle))
            except (OSError, SafetensorError) as error:
                raise DataFileError(f"{path}: not a safetensors file: {error}", _HINT) from error
        return found

    def _read(self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> npt.NDArray[Any]:
        if name not in self._files:
            raise DataFileError(f"{self.folder}: tensor {name!r}: got nothing, wanted {shape}", _HINT)
        path, handle = self._files[name]
        view = handle.get_slice(name)
        got, dtype = tuple(view.get_shape()), str(view.get_dtype())
        if got != shape or dtype not in dtypes:
            wanted = " or ".join(dtypes)
            raise DataFileError(f"{path}: tensor {name!r}: got {dtype} {got}, wanted {wanted} {shape}", _HINT)
        value = cast("npt.NDArray[Any]", handle.get_tensor(name))
        if dtype != "I8" and not np.isfinite(value.astype(np.float32)).all():
            raise DataFileError(f"{path}: tensor {name!r}: got NaN or infinity, wanted finite numbers", _HINT)
        return value

    def tensor(self, name: str) -> FloatArray:
        """A weight as float32 in its disk shape [outputs, inputs]; blocks are dequantised."""
        shape = self.shapes[name]
        if name in self._files:
            return self._read(name, shape, ("F32", "F16", "BF16")).astype(np.float32)
        if len(shape) != 2:
            raise DataFileError(f"{self.folder}: tensor {name!r}: got codes, wanted plain values {shape}", _HINT)
        codes = self._read(name + ".codes", shape, ("I8",))
        scales = self._read(name + ".scales", (shape[0], -(-shape[1] // BLOCK)), ("F16",))
        return codes.astype(np.float32) * expand_scales(scales.astype(np.float32), shape[1])

    def tensors(self) -> dict[str, FloatArray]:
        """Every weight, for small models."""
        return {name: self.tensor(name) for name in self.shapes}

    def expert(self, layer: int, expert: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gate [I, H], up [I, H] and down [H, I] weights of one expert."""
        root = f"model.layers.{layer}.mlp.experts.{expert}."
        gate, up, down = (self.tensor(f"{root}{part}_proj.weight") for part in ("gate", "up", "down"))
        return gate, up, down

    def training(self) -> dict[str, Any]:
        """The contents of training.json, empty where the checkpoint has none."""
        path = self.folder / TRAINING_NAME
        return read_json(path) if path.exists() else {}

    def sources(self) -> Iterator[Path]:
        """The files a build depends on, in a fixed order."""
        paths = {path for path, _ in self._files.values()}
        for path in [self.folder / CONFIG_NAME, *sorted(paths), self.folder / TRAINING_NAME]:
            if path.exists():
                yield path

    def sha256(self) -> str:
        """SHA-256 over the names and hashes of all source files."""
        whole = hashlib.sha256()
        for path in self.sources():
            digest = hashlib.sha256()
            with open(path, "rb") as handle:
                while chunk := handle.read(1 << 20):
                    digest.update(chunk)
            whole.update(f"{path.name} {digest.hexdigest()}\n".encode())
        return whole.hexdigest()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder; DataFileError says which file and tensor is wrong."""
    return Checkpoint(folder)
