"""Where sessions run: CPU, or CUDA where a real run on it succeeds.

onnxruntime's provider list is what it was compiled with, not what works: wheels for other GPUs list CUDA and then lack
the kernels. So a small product is really computed there first; if that fails in any way, the CPU serves, and why is
said. The CUDA arena is bounded, since a Jetson's memory is shared with everything else (onnxruntime#14038).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort

from models.serving.onnx_bytes import FLOAT, Node, Value, model

Wanted = Literal["cpu", "cuda", "auto"]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
ARENA_BYTES = 2 << 30

_SIZE = 64


class Providers(NamedTuple):
    """`names` as onnxruntime takes them, first choice first; `reason` why it is not what was wanted, or ""."""

    names: tuple[Any, ...]
    reason: str = ""

    def details(self) -> dict[str, str]:
        """For the record: where sessions run, and why not where it was wanted."""
        first = self.names[0]
        said = {"provider": first if isinstance(first, str) else first[0]}
        return said | ({"provider_reason": self.reason} if self.reason else {})


ON_CPU = Providers((CPU,))


def cuda_options(arena_bytes: int = ARENA_BYTES) -> dict[str, str]:
    """A bounded arena that grows by what is asked for, not by doubling."""
    return {"gpu_mem_limit": str(arena_bytes), "arena_extend_strategy": "kSameAsRequested"}


def choose_providers(wanted: Wanted = "cpu", arena_bytes: int = ARENA_BYTES) -> Providers:
    """CPU unless CUDA is wanted and computes. `auto` takes CUDA silently where it works and says nothing where not."""
    if wanted == "cpu":
        return ON_CPU
    listed = ort.get_available_providers()
    if CUDA not in listed:
        reason = f"onnxruntime {ort.__version__} was built for {', '.join(listed)}"
    else:
        reason = smoke_test(CUDA, cuda_options(arena_bytes))
    if not reason:
        return Providers(((CUDA, cuda_options(arena_bytes)), CPU))
    return Providers((CPU,), reason if wanted == "cuda" else "")


def smoke_test(provider: str, options: dict[str, str]) -> str:
    """Compute one product on `provider`; "" if it is right, else what went wrong."""
    square = (_SIZE, _SIZE)
    graph = model(
        "smoke", (Node("MatMul", "", ("a", "b"), ("c",), {}),),
        (Value("a", FLOAT, square), Value("b", FLOAT, square)), (Value("c", FLOAT, square),), (), {"": 21},
    )  # fmt: skip
    a = np.arange(_SIZE * _SIZE, dtype=np.float32).reshape(square) % 7
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    try:
        session = ort.InferenceSession(graph, quiet, providers=[(provider, options)])
        if session.get_providers()[0] != provider:
            return f"{provider} is listed, but onnxruntime {ort.__version__} fell back to {session.get_providers()[0]}"
        (c,) = session.run(None, {"a": a, "b": a})
    except Exception as error:  # onnxruntime's exceptions share no public base
        return f"{provider} does not run: {str(error)[:300]}"
    return "" if np.allclose(c, a @ a, rtol=1e-3) else f"{provider} computes wrong products"
