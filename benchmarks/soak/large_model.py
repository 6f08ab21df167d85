"""A random OLMoE-1B-7B-shaped checkpoint of 4 layers builds at int8 and int4 within 8 GB, and generates.

Writes a bf16 checkpoint in several files (3.6 GB), builds it in a child process, then generates from each precision in
another, and prints time, size on disk and the largest resident memory of each child. Needs 12 GB of disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_BYTES = 8 << 30


@dataclass(frozen=True)
class Shape:
    """OLMoE-1B-7B-0924 but for the number of layers."""

    layers: int = 4
    hidden: int = 2048
    experts: int = 64
    width: int = 1024
    top_k: int = 8
    heads: int = 16
    vocabulary: int = 50304

    def config(self) -> dict[str, Any]:
        return {
            "model_type": "olmoe", "vocab_size": self.vocabulary, "hidden_size": self.hidden,
            "intermediate_size": self.width, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_experts": self.experts, "num_experts_per_tok": self.top_k, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "eos_token_id": None, "norm_topk_prob": False,
        }  # fmt: skip

    def layer_tensors(self, layer: int) -> dict[str, tuple[int, ...]]:
        root, h = f"model.layers.{layer}.", self.hidden
        shapes: dict[str, tuple[int, ...]] = {f"{root}self_attn.{s}_proj.weight": (h, h) for s in "qkvo"}
        norms = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
        shapes |= {f"{root}{norm}.weight": (h,) for norm in norms}
        shapes[root + "mlp.gate.weight"] = (self.experts, h)
        for expert in range(self.experts):
            part = f"{root}mlp.experts.{expert}."
            shapes |= {f"{part}{name}_proj.weight": (self.width, h) for name in ("gate", "up")}
            shapes[part + "down_proj.weight"] = (h, self.width)
        return shapes


def write_random(folder: Path, shape: Shape) -> None:
    """A bf16 checkpoint: a file a layer and one for the rest, with an index."""
    outer = {
        "model.embed_tokens.weight": (shape.vocabulary, shape.hidden),
        "model.norm.weight": (shape.hidden,),
        "lm_head.weight": (shape.vocabulary, shape.hidden),
    }
    index: dict[str, str] = {}
    for number, tensors in enumerate([outer, *(shape.layer_tensors(n) for n in range(shape.layers))]):
        name = f"model-{number:05d}.safetensors"
        _write_bf16(folder / name, tensors, np.random.default_rng(number))
        index |= dict.fromkeys(tensors, name)
    (folder / "config.json").write_text(json.dumps(shape.config()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def _write_bf16(path: Path, tensors: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    """Stream random tensors of unit gain into a safetensors file."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(path, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            values = rng.standard_normal(shape, dtype=np.float32) * shape[-1] ** -0.5 + (len(shape) == 1)
            handle.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def build(checkpoint: str, out: str) -> None:
    """In a child: both precisions of the experts, the rest at int8."""
    from models.build import build_shards

    build_shards(Path(checkpoint), Path(out), ("int8", "int4"), trunk_precision="int8")


def generate(out: str, precision: Any) -> None:
    """In a child: a prompt of 32 tokens and 16 new ones."""
    from models.oracle import Oracle

    start = time.monotonic()
    oracle = Oracle(Path(out), precision)
    opened = time.monotonic()
    prompt = [int(t) for t in np.random.default_rng(0).integers(0, oracle.card.vocabulary, 32)]
    tokens, margins = oracle.generate_greedy(prompt, 16)
    assert len(tokens) == 16
    assert np.isfinite(margins).all()
    print(f"opened in {opened - start:.1f} s, 32 + 16 tokens in {time.monotonic() - opened:.1f} s")


def child(*arguments: str) -> str:
    """Run a function of this module in a process of its own; what it printed, its time and largest memory."""
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.soak.large_model", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.strip().splitlines()
    assert int(peak) < LIMIT_BYTES, f"{arguments[0]} took {int(peak) / 1e9:.2f} GB"
    return f"{time.monotonic() - start:.0f} s, at most {int(peak) / 1e9:.2f} GB resident; {' '.join(said)}"


def folder_gb(folder: Path, pattern: str = "*") -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e9


def programme(folder: Path, shape: Shape) -> None:
    """Write, build, generate; AssertionError if a child fails or takes more than 8 GB."""
    checkpoint, out = folder / "checkpoint", folder / "shards"
    checkpoint.mkdir()
    write_random(checkpoint, shape)
    print(
        f"checkpoint {folder_gb(checkpoint):.2f} GB bf16, {shape.layers} layers of {shape.experts} experts", flush=True
    )
    print(f"build int8 and int4: {child('build', str(checkpoint), str(out))}", flush=True)
    for precision in ("int8", "int4"):
        size = folder_gb(out, f"expert_*_{precision}.safetensors")
        print(f"{precision}, experts {size:.2f} GB: {child('generate', str(out), precision)}", flush=True)


def run() -> None:
    with tempfile.TemporaryDirectory() as name:
        programme(Path(name), Shape())


if __name__ == "__main__":
    {"build": build, "generate": generate}[sys.argv[1]](*sys.argv[2:])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
