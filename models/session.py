"""Open shard bytes in onnxruntime, always the same way, and check that a graph is what its manifest says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import Shard, Tensor
from models.serving.safetensors_file import BadContainer
from models.serving.shard_file import unpack

_ORT_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
_HINT = "build the shards again: hil models build"


def session_options() -> ort.SessionOptions:
    """One thread, no spinning: others share the board, and a batch of one gains nothing from threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


class ShardSession(ort.InferenceSession):  # type: ignore[misc]
    """A session together with the weights it reads, which onnxruntime does not keep alive."""

    held: list[ort.OrtValue]


def open_shard(shard: Shard, data: memoryview | bytes) -> ShardSession:
    """A CPU session of the shard; ArtefactError where onnxruntime refuses it or its tensors differ."""
    try:
        contents = unpack(data)
        held = [ort.OrtValue.ortvalue_from_numpy(array) for array in contents.weights.values()]
        options = session_options()
        options.add_external_initializers(list(contents.weights), held)
        session = ShardSession(contents.graph, options, providers=["CPUExecutionProvider"])
        session.held = held
    except BadContainer as error:
        raise ArtefactError(f"{shard.name}: not a shard: {error}", _HINT) from error
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise ArtefactError(f"{shard.name}: onnxruntime {ort.__version__} refuses it: {error}", _HINT) from error
    for label, wanted, got in (
        ("inputs", shard.inputs, _tensors(session.get_inputs())),
        ("outputs", shard.outputs, _tensors(session.get_outputs())),
    ):
        if wanted != got:
            raise ArtefactError(f"{shard.name}: {label}: got {_show(got)}, wanted {_show(wanted)}", _HINT)
    return session


def sample_inputs(shard: Shard, tokens: int = 3, past: int = 2) -> dict[str, npt.NDArray[np.generic]]:
    """Small valid inputs for a trial run, one request: seeded normal rows; ids and positions counting from `past`."""
    rng = np.random.default_rng(0)
    sizes = {"R": tokens, "T": tokens, "P": past, "B": 1}
    feeds: dict[str, npt.NDArray[np.generic]] = {}
    for tensor in shard.inputs:
        shape = tuple(sizes.get(size, 1) if isinstance(size, str) else size for size in tensor.shape)
        if tensor.dtype == "int64":
            first = past if tensor.name == "position" else 0
            feeds[tensor.name] = np.arange(first, first + tokens, dtype=np.int64).reshape(shape)
        else:
            feeds[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def trial_run(shard: Shard, data: memoryview | bytes) -> None:
    """Run a shard once on sample inputs; ArtefactError unless outputs are finite and of the right shape."""
    session = open_shard(shard, data)
    feeds = sample_inputs(shard)
    try:
        outputs = session.run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise ArtefactError(f"{shard.name}: does not run: {error}", _HINT) from error
    for tensor, value in zip(shard.outputs, outputs, strict=True):
        wanted = tuple({"R": 3, "T": 3, "B": 1}.get(str(size), size) for size in tensor.shape)
        if value.shape != wanted or not np.isfinite(value).all():
            raise ArtefactError(f"{shard.name}: {tensor.name}: got {value.shape}, wanted finite {wanted}", _HINT)


def _tensors(nodes: list[ort.NodeArg]) -> tuple[Tensor, ...]:
    return tuple(Tensor(node.name, _ORT_TYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes)


def _show(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors)
