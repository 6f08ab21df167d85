"""A checkpoint folder as the exporter sees it: a description and weights by their role, without torch.

Experts may lie one by one (transformers 4) or stacked in one tensor (transformers 5, GraniteMoE, gpt-oss).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hil_config.errors import DataFileError
from models.architecture import Architecture, tensor_shapes
from models.config_file import HINT, read_json
from models.families import describe
from models.tensor_file import FloatArray, TensorFiles, file_sha256

CONFIG_NAME = "config.json"
TRAINING_NAME = "training.json"
_CORRECTION = "gate.e_score_correction_bias"


class ExpertWeights(NamedTuple):
    """`gate`, `up` [I, H], `down` [H, I]; biases [I], [I], [H] or None."""

    gate: FloatArray
    up: FloatArray
    down: FloatArray
    gate_bias: FloatArray | None = None
    up_bias: FloatArray | None = None
    down_bias: FloatArray | None = None


class Checkpoint:
    """An opened checkpoint. Tensors are read when asked for, so a large model never sits in memory whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        values = read_json(folder / CONFIG_NAME)
        self.description = d = describe(folder / CONFIG_NAME, values)
        name = values.get("name") or values.get("_name_or_path")
        self.name = name if isinstance(name, str) and name else f"{d.family}-{d.layers}x{d.router.experts}"
        self.files = TensorFiles(folder)
        for wanted, shape in self._required():
            if not self.files.has(wanted):
                raise DataFileError(f"{folder}: tensor {wanted!r}: got nothing, wanted {shape}", HINT)

    @property
    def architecture(self) -> Architecture:
        """The dimensions the reference model's torch code needs; only its own family has them all."""
        d, a = self.description, self.description.attention
        if d.family != "qwen3_moe" or d.dense or a.bias:
            raise DataFileError(f"{self.folder}: model_type: got {d.family!r}, wanted 'qwen3_moe' without biases", HINT)
        return Architecture(
            vocabulary=d.vocabulary, hidden=d.hidden, layers=d.layers, heads=a.heads, kv_heads=a.kv_heads,
            head_dim=a.key_dim, experts=d.router.experts, expert_width=d.expert.width, top_k=d.router.top_k,
            normalise_top_k=d.router.normalise, theta=a.rotary.base, epsilon=d.epsilon, context=d.context,
            end_of_text=d.end_of_text, tied=d.tied,
        )  # fmt: skip

    def _required(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What must be there, by the names this family uses; checked before anything is built."""
        d, a = self.description, self.description.attention
        yield "model.embed_tokens.weight", (d.vocabulary, d.hidden)
        for n in range(d.decoder_layers):
            root = f"model.layers.{n}."
            yield root + "input_layernorm.weight", (d.hidden,)
            yield root + "post_attention_layernorm.weight", (d.hidden,)
            yield root + "self_attn.o_proj.weight", (d.hidden, a.heads * a.value_dim)
            if a.latent is None:
                for short, heads in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)):
                    yield f"{root}self_attn.{short}_proj.weight", (heads * a.key_dim, d.hidden)
        yield "model.norm.weight", (d.hidden,)
        if not d.tied:
            yield "lm_head.weight", (d.vocabulary, d.hidden)
        for layer, n in enumerate(d.moe_layers):
            yield self.moe_name(layer, d.names.router), (d.router.experts, d.hidden)
            if self._stacked(layer) is None:
                for expert in range(d.router.experts):
                    for part, shape in zip(d.names.parts, self._part_shapes(d.expert.width), strict=True):
                        yield f"model.layers.{n}.{d.names.moe}.experts.{expert}.{part}.weight", shape

    def _part_shapes(self, width: int) -> tuple[tuple[int, int], ...]:
        hidden = self.description.hidden
        return (width, hidden), (width, hidden), (hidden, width)

    def moe_name(self, layer: int, name: str) -> str:
        d = self.description
        return f"model.layers.{d.moe_layers[layer]}.{d.names.moe}.{name}"

    def _stacked(self, layer: int) -> tuple[str, str] | None:
        """Full names of the stacked experts' two tensors, or None where experts lie one by one."""
        gate_up, down = (self.moe_name(layer, name) for name in self.description.names.stacked)
        return (gate_up, down) if self.files.has(gate_up) else None

    def tensor(self, name: str, *shape: int) -> FloatArray:
        """A weight as float32 in its disk shape [outputs, inputs]; blocks are dequantised."""
        return self.files.read(name, shape)

    def tensors(self) -> dict[str, FloatArray]:
        """Every weight by name, for small models of the reference model's layout."""
        return {name: self.tensor(name, *shape) for name, shape in tensor_shapes(self.architecture).items()}

    def router(self, layer: int) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        """Router weight [E, H], bias [E] or None, correction bias [E] or None (added for selection only)."""
        d = self.description
        weight = self.tensor(self.moe_name(layer, d.names.router), d.router.experts, d.hidden)
        bias = self.moe_name(layer, d.names.router.replace("weight", "bias")) if d.router.bias else ""
        correction = self.moe_name(layer, _CORRECTION) if d.router.rule == "sigmoid" else ""
        size = d.router.experts
        return weight, self.tensor(bias, size) if bias else None, self.tensor(correction, size) if correction else None

    def expert(self, layer: int, expert: int) -> ExpertWeights:
        """The weights of one expert; the shared expert is the last."""
        d = self.description
        if expert >= d.router.experts:
            assert d.shared is not None
            return self._separate(self.moe_name(layer, d.names.shared), d.shared.width)
        stacked = self._stacked(layer)
        if stacked is None:
            return self._separate(self.moe_name(layer, f"experts.{expert}"), d.expert.width)
        return self._from_stack(stacked, expert)

    def dense(self, decoder_layer: int) -> ExpertWeights:
        """The feed-forward network of a dense layer."""
        d = self.description
        return self._separate(f"model.layers.{decoder_layer}.{d.names.moe}", d.dense_width)

    def _separate(self, root: str, width: int) -> ExpertWeights:
        parts = self.description.names.parts
        shapes = self._part_shapes(width)
        return ExpertWeights(*(self.tensor(f"{root}.{p}.weight", *s) for p, s in zip(parts, shapes, strict=True)))

    def _from_stack(self, names: tuple[str, str], expert: int) -> ExpertWeights:
        d = self.description
        count, width, hidden = d.router.experts, d.expert.width, d.hidden
        gate_up_name, down_name = names
        if not d.names.transposed:
            both = self.files.read(gate_up_name, (count, 2 * width, hidden), expert)
            return ExpertWeights(both[:width], both[width:], self.files.read(down_name, (count, hidden, width), expert))
        both = self.files.read(gate_up_name, (count, hidden, 2 * width), expert).T
        down = self.files.read(down_name, (count, width, hidden), expert).T
        bias = self.files.read(gate_up_name + "_bias", (count, 2 * width), expert)
        down_bias = self.files.read(down_name + "_bias", (count, hidden), expert)
        return ExpertWeights(both[0::2], both[1::2], down, bias[0::2], bias[1::2], down_bias)

    def training(self) -> dict[str, Any]:
        """The contents of training.json, empty where the checkpoint has none."""
        path = self.folder / TRAINING_NAME
        return read_json(path) if path.exists() else {}

    def sources(self) -> Iterator[Path]:
        """The files a build depends on, in a fixed order."""
        for path in [self.folder / CONFIG_NAME, *self.files.paths(), self.folder / TRAINING_NAME]:
            if path.exists():
                yield path

    def sha256(self) -> str:
        """SHA-256 over the names and hashes of all source files."""
        whole = hashlib.sha256()
        for path in self.sources():
            whole.update(f"{path.name} {file_sha256(path)}\n".encode())
        return whole.hexdigest()


def deinterleave(weight: FloatArray, heads: int, rotary: int) -> FloatArray:
    """Rows [heads * D, ..] whose last `rotary` rows a head are pairs (2i, 2i + 1) -> halves (i, i + n).

    Queries and keys are permuted alike, so their products do not change.
    """
    rows = weight.reshape(heads, -1, *weight.shape[1:])
    plain, turned = rows[:, : rows.shape[1] - rotary], rows[:, rows.shape[1] - rotary :]
    return np.concatenate((plain, turned[:, 0::2], turned[:, 1::2]), axis=1).reshape(weight.shape)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder; DataFileError says which file and tensor is wrong."""
    return Checkpoint(folder)
