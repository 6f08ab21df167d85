"""Write a checkpoint folder that `models.checkpoint` reads: plain float32, or 8-bit blocks for shipping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from models.architecture import Architecture, config_values
from models.checkpoint import CONFIG_NAME
from models.quantize import quantize
from models.tensor_file import WEIGHTS_NAME, FloatArray


def write_checkpoint(
    folder: Path, a: Architecture, weights: Mapping[str, FloatArray], name: str, quantised: bool = False
) -> None:
    """Write config.json and model.safetensors.

    Quantised: every matrix but the routers becomes int8 codes and float16 scales; routers and norms stay
    float32, since a router flip costs more than the few bytes saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, npt.NDArray[Any]] = {}
    for key, value in weights.items():
        if quantised and value.ndim == 2 and not key.endswith("mlp.gate.weight"):
            stored[key + ".codes"], stored[key + ".scales"] = quantize(value, np.float16)
        else:
            stored[key] = np.ascontiguousarray(value, dtype=np.float32)
    save_file(stored, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / WEIGHTS_NAME).chmod(0o644)  # save_file makes it private
    write_json(folder / CONFIG_NAME, config_values(a, name))


def write_json(path: Path, value: object) -> None:
    """JSON a person can read and diff; non-ASCII text stays as it is."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
