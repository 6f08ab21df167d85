"""onnxruntime sessions of verified shard bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import Shard
from models.serving.safetensors_file import BadContainer
from models.serving.shard_file import unpack
from node_agent.power_modes.duty import DutyLimit
from node_agent.scheduling import workers_wait
from node_agent.shards.providers import ON_CPU, Providers

REFUSALS = (
    ort_state.Fail, ort_state.InvalidArgument, ort_state.InvalidGraph, ort_state.InvalidProtobuf,
    ort_state.NoModel, ort_state.NotImplemented, ort_state.RuntimeException,
)  # fmt: skip
"""onnxruntime's exceptions share no public base."""
_NUMPY = {"tensor(float)": "float32", "tensor(int64)": "int64"}


def bare(session: ort.InferenceSession) -> Any:
    """What is below onnxruntime's Python class, whose `run` looks at the name and type of every input once more: that
    costs a decoded token 30 us a layer. (And after a provider's failure it goes on without that provider.)"""
    return session._sess


class Session:
    """One shard, ready to run. Calls from several threads are allowed (onnxruntime's promise)."""

    def __init__(self, session: ort.InferenceSession, held: Sequence[ort.OrtValue] = ()) -> None:
        self._session, self._run = session, bare(session).run
        self.duty = DutyLimit()
        self._held = held  # views of a mapped file. onnxruntime does not keep them alive; 1.23.2 and 1.32 copy them all
        self._inputs = [item.name for item in session.get_inputs()]
        self._outputs = [item.name for item in session.get_outputs()]
        self._extra = {item.name: item.shape for item in session.get_overridable_initializers()}

    def takes(self, extra: dict[str, NDArray[np.float32]]) -> bool:
        """Are these overridden initialisers of this graph, in sizes that it can have?"""
        return all(
            len(value.shape) == len(self._extra.get(name, ()))
            and all(isinstance(n, str) or n == size for n, size in zip(self._extra[name], value.shape, strict=True))
            for name, value in extra.items()
        )

    def run(
        self, *inputs: NDArray[Any], extra: dict[str, NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Outputs in graph order for inputs in graph order. `extra`: initialisers overridden in this run alone."""
        feed = dict(zip(self._inputs, inputs, strict=True))
        if extra:
            feed.update(extra)
        found: list[NDArray[np.float32]]
        if self.duty.share < 1.0:
            with self.duty.turn():
                found = self._run(self._outputs, feed, None)
        else:
            found = self._run(self._outputs, feed, None)
        return found


def session_options(threads: int = 1) -> ort.SessionOptions:
    """One thread: measured best for small experts, and a spinning pool would burn the joules this bench measures.

    More threads spin within a run only (without that a run pays a wake-up at every operator) and stop with it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return options


def _signature(items: Sequence[Any]) -> list[tuple[str, str, int]]:
    return [(item.name, _NUMPY.get(item.type, item.type), len(item.shape)) for item in items]


def open_session(
    data: memoryview | bytes, shard: Shard, where: str, threads: int = 1, providers: Providers = ON_CPU
) -> Session:
    """A session of `data`; ArtefactError if onnxruntime refuses it or its signature is not the manifest's."""
    options = session_options(threads)
    try:
        contents = unpack(data)
        held = [ort.OrtValue.ortvalue_from_numpy(array) for array in contents.weights.values()]
        options.add_external_initializers(list(contents.weights), held)
        with workers_wait():
            session = ort.InferenceSession(contents.graph, options, providers=list(providers.names))
    except BadContainer as error:
        raise ArtefactError(f"{where}: not a shard: {error}", "build the shards again: hil models build") from error
    except REFUSALS as error:
        raise ArtefactError(
            f"{where}: onnxruntime {ort.__version__} refuses it: {str(error)[:300]}",
            "build the shards again: hil models build",
        ) from error
    for found, wanted in ((session.get_inputs(), shard.inputs), (session.get_outputs(), shard.outputs)):
        expected = [(tensor.name, tensor.dtype, len(tensor.shape)) for tensor in wanted]
        if _signature(found) != expected:
            raise ArtefactError(
                f"{where}: its graph has {_signature(found)}, the manifest says {expected}",
                "build the shards again: hil models build",
            )
    return Session(session, held)
