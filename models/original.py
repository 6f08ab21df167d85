"""A checkpoint as its makers' code computes it: transformers, the yardstick of `hil models verify --against`.

The only file that imports transformers. It is a development dependency: no shard is built or served with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hil_config.errors import DataFileError, EnvironmentFault
from models.checkpoint import CONFIG_NAME, read_checkpoint
from models.tensor_file import FloatArray
from models.write_checkpoint import write_checkpoint


class Original:
    """The whole model in float32 on one processor, in memory."""

    def __init__(self, folder: Path) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging as hub_logging
        except ImportError as error:
            hint = "pip install 'spacemoe-hil[ground,models,dev]'"
            raise EnvironmentFault(f"comparing needs torch and transformers: {error}", hint) from error
        self._torch: Any = torch
        hub_logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as plain:
            source = _plain(folder, Path(plain))
            try:
                loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
            except (OSError, ValueError) as error:
                message = f"{folder}: transformers cannot load it: {error}"
                raise DataFileError(message, "check the checkpoint") from error
        self._model: Any = loaded.eval()

    def logits(self, tokens: npt.NDArray[np.int64]) -> FloatArray:
        """Logits [T, V] of tokens [T], one pass."""
        with self._torch.no_grad():
            out = self._model(self._torch.from_numpy(tokens)[None]).logits[0]
        return np.asarray(out.float().numpy(), np.float32)


def _plain(folder: Path, plain: Path) -> Path:
    """The folder itself, or a copy with its 8-bit blocks written out, which transformers does not know."""
    checkpoint = read_checkpoint(folder)
    if not any(
        checkpoint.files.stored_shape(name + ".codes") for name in ("model.embed_tokens.weight", "lm_head.weight")
    ):
        return folder
    write_checkpoint(plain, checkpoint.architecture, checkpoint.tensors(), checkpoint.name)
    assert (plain / CONFIG_NAME).exists()
    return plain
