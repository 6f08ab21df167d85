"""A build needs the memory of a shard, not of the model: a checkpoint larger than the limit it runs under builds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hil_config.wire.manifest import read_manifest
from models.architecture import Architecture, config_values, tensor_shapes

WIDE = Architecture(
    vocabulary=64, hidden=512, layers=3, heads=8, kv_heads=2, head_dim=64, experts=16, expert_width=640, top_k=2,
    context=64,
)  # fmt: skip
ALLOWED_BYTES = 48 << 20

CHILD = """
import resource, sys
from pathlib import Path
from models.build import build_shards
import onnx, safetensors  # all libraries are in memory before the limit is set
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
limit = used + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
build_shards(Path(sys.argv[1]), Path(sys.argv[2]), ("int8",))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory on Linux only")
def test_a_checkpoint_larger_than_the_memory_limit_builds(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(640 * 512).astype(np.float32) * 0.05
    shapes = tensor_shapes(WIDE)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({name: np.resize(noise, shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_values(WIDE, "wide")))
    assert (folder / "model.safetensors").stat().st_size > 3 * ALLOWED_BYTES
    command = [sys.executable, "-c", CHILD, str(folder)]

    def build(out: str, allowed: int) -> subprocess.CompletedProcess[str]:
        arguments = [*command, str(tmp_path / out), str(allowed)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)

    built = build("out", ALLOWED_BYTES)
    assert built.returncode == 0, built.stderr
    assert len(read_manifest(tmp_path / "out").shards) == 1 + 3 + 1 + 3 * 16
    starved = build("other", 1 << 20)
    assert starved.returncode != 0, "the limit must be one that bites"
