"""Random-weight models of a given shape: our int4 shards, and the same shape as a Q4_0 GGUF file for llama.cpp.

Speed does not depend on the values. The graphs are those that `hil models build` makes of an OLMoE checkpoint. All
experts hold the same numbers, each in a file and in memory of its own; routers are random, so the picks of a token
are spread over all experts.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire import manifest as m
from hil_config.wire.manifest import BLOCK
from models import graph
from models.build import build_graph, model_card, plan_shards
from models.build_folder import BUILD_REVISION
from models.checkpoint import Checkpoint
from models.families import describe
from models.shard_writer import write_shard

F32 = NDArray[np.float32]


class Shape(NamedTuple):
    """An OLMoE-like decoder: query and key norms over the full width, softmax over all experts, then top-k."""

    name: str
    hidden: int
    layers: int
    experts: int
    top_k: int
    width: int
    heads: int
    vocabulary: int = 50304
    context: int = 512

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def weights_per_token(self) -> int:
        """Weights that one decoded token reads."""
        layer = 4 * self.hidden**2 + self.hidden * self.experts + self.top_k * 3 * self.hidden * self.width
        return self.layers * layer + self.hidden * self.vocabulary


OLMOE_4 = Shape("OLMoE, 4 layers", 2048, 4, 64, 8, 1024, 16)
OLMOE_16 = Shape("OLMoE, 16 layers", 2048, 16, 64, 8, 1024, 16)
SMALL = Shape("small", 512, 8, 16, 2, 1024, 8)


class _RandomCheckpoint(Checkpoint):
    """A checkpoint of that shape whose tensors are drawn when they are asked for: unit gain, norms of one."""

    def __init__(self, s: Shape, folder: Path) -> None:
        self.folder = folder
        self.name = s.name
        path = folder / "config.json"
        values = {
            "model_type": "olmoe", "vocab_size": s.vocabulary, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.heads, "intermediate_size": s.width,
            "num_experts": s.experts, "num_experts_per_tok": s.top_k, "norm_topk_prob": False,
            "max_position_embeddings": s.context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": False, "eos_token_id": 0,
        }  # fmt: skip
        path.write_text(json.dumps(values))
        self.description = replace(describe(path, values), end_of_text=-1)
        self._rng = np.random.default_rng(0)

    def _stacked(self, layer: int) -> tuple[str, str] | None:
        return None

    def tensor(self, name: str, *shape: int) -> F32:
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        return self._rng.standard_normal(shape, np.float32) / np.float32(shape[1] ** 0.5)


def write_shards(s: Shape, folder: Path, block: int) -> None:
    """A model folder as nodes read it, all at int4 with `block` weights to a scale (embedding fp16, router fp32)."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = _RandomCheckpoint(s, folder)
    shards: list[m.Shard] = []
    expert: tuple[Path, m.Shard] | None = None
    for name, kind, precision, layer, number in plan_shards(s.layers, s.experts, ("int4",), "int4"):
        if expert is not None:
            shutil.copyfile(expert[0], folder / name)
            old = expert[1]
            shard = m.Shard(name, kind, precision, old.sha256, old.bytes, old.inputs, old.outputs, layer, number)
        else:
            built = build_graph(checkpoint, kind, precision, layer, number, block)
            digest, size = write_shard(folder / name, built.graph, built.weights)
            shard = m.Shard(name, kind, precision, digest, size, built.inputs, built.outputs, layer, number)
            expert = (folder / name, shard) if kind == "expert" else None
        shards.append(shard)
    manifest = m.Manifest(
        version=m.MANIFEST_VERSION, model=model_card(checkpoint, "int4", block), source_sha256="random",
        opset=graph.OPSET, minimum_onnxruntime=graph.MINIMUM_ONNXRUNTIME, shards=tuple(shards),
    )  # fmt: skip
    (folder / m.MANIFEST_NAME).write_bytes(m.encode_manifest(manifest))


def _q4_0(rng: np.random.Generator, rows: int, inputs: int) -> NDArray[np.uint8]:
    """Random Q4_0 blocks [rows, inputs / 32 * 18]: a float16 scale and 16 bytes of codes each."""
    blocks = rng.integers(0, 256, (rows, inputs // BLOCK, 18), np.uint8)
    blocks[:, :, :2] = np.frombuffer(np.float16(1.0 / (4.6 * inputs**0.5)).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _gguf_tensors(s: Shape) -> Iterator[tuple[str, NDArray[Any], bool]]:
    rng = np.random.default_rng(0)
    ones = np.ones(s.hidden, np.float32)
    yield "token_embd.weight", _q4_0(rng, s.vocabulary, s.hidden), True
    yield "output.weight", _q4_0(rng, s.vocabulary, s.hidden), True
    yield "output_norm.weight", ones, False
    for n in range(s.layers):
        for name in ("attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm"):
            yield f"blk.{n}.{name}.weight", ones, False
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{n}.{name}.weight", _q4_0(rng, s.hidden, s.hidden), True
        router = rng.standard_normal((s.experts, s.hidden), np.float32) / np.float32(s.hidden**0.5)
        yield f"blk.{n}.ffn_gate_inp.weight", router, False
        for name, rows, inputs in (("gate", s.width, s.hidden), ("up", s.width, s.hidden), ("down", s.hidden, s.width)):
            blocks = _q4_0(rng, s.experts * rows, inputs).reshape(s.experts, rows, -1)
            yield f"blk.{n}.ffn_{name}_exps.weight", blocks, True


def write_gguf(s: Shape, path: Path) -> None:
    """The same shape for llama.cpp: architecture olmoe, every matrix but the routers Q4_0, no vocabulary."""
    import gguf

    writer = gguf.GGUFWriter(path, "olmoe")
    writer.add_context_length(s.context)
    writer.add_embedding_length(s.hidden)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.width)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(s.experts)
    writer.add_expert_used_count(s.top_k)
    writer.add_vocab_size(s.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    for name, data, quantised in _gguf_tensors(s):
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0 if quantised else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _folder(shape: Shape) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacemoe-hil" / "bench"
    return root / shape.name.replace(", ", "-").replace(" ", "-").lower()


def prepare_shards(shape: Shape, block: int = BLOCK) -> Path:
    """The shards of a shape, written once and kept in the cache."""
    folder = _folder(shape) / f"shards-{BUILD_REVISION}-{block}"
    if not (folder / m.MANIFEST_NAME).exists():  # written last
        shutil.rmtree(folder, ignore_errors=True)
        write_shards(shape, folder, block)
    return folder


def prepare_gguf(shape: Shape) -> Path:
    """The GGUF file of a shape, written once and kept in the cache."""
    path = _folder(shape) / "model.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        write_gguf(shape, part)
        part.rename(path)
    return path
