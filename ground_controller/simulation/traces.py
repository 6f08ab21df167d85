"""Recorded gate scores: the model itself, run once over the workload's prompts in one process, and kept by hash.

What a simulated gateway routes by are these rows: real text through the real router. They are the scores of the model
with all its experts: where a plan skips or replaces experts, the real model would go on from other hidden states,
and choose other tokens now and then. A simulated run does not show that (its perplexity is the undisturbed one's).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.preparation import Prepared, cache_folder
from ground_controller.workload import Workload
from hil_config.durable_file import write_result
from hil_config.wire.manifest import Precision
from models.oracle import Oracle

F32 = NDArray[np.float32]
FORMAT = "1"


@dataclass(frozen=True)
class Trace:
    """One prompt and its greedy continuation. `scores`, and `mixing` where the model has it: [layers, positions, E];
    `tokens`, `logprobs`, `margins` of what follows the prompt."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]
    scores: F32
    mixing: F32 | None

    def gate_bytes(self, layer: int, start: int, rows: int) -> tuple[bytes, bytes]:
        """The scores of `rows` positions as evidence has them, and the mixing weights where the model has those."""
        scores, mixing, width = self._raw[layer]
        part = slice(start * width, (start + rows) * width)
        return scores[part].tobytes(), mixing[part].tobytes()

    @cached_property
    def _raw(self) -> list[tuple[memoryview, memoryview, int]]:
        """Of every layer the bytes of both, and how many a row has."""
        whole = np.ascontiguousarray(self.scores, "<f4")
        mixing = [b""] * len(whole) if self.mixing is None else np.ascontiguousarray(self.mixing, "<f4")
        return [
            (memoryview(a).cast("B"), memoryview(b).cast("B"), 4 * whole.shape[2])
            for a, b in zip(whole, mixing, strict=True)
        ]


class Recorder(Oracle):
    """The model in one process; keeps what its router said."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        super().__init__(folder, precision)
        self._rows: list[list[F32]] = [[] for _ in range(self.card.layers)]
        self._mixing: list[list[F32]] = [[] for _ in range(self.card.layers)]

    def mix(self, layer: int, rows: F32, scores: F32, mixing: F32 | None = None) -> F32:
        self._rows[layer].append(scores)
        if mixing is not None:
            self._mixing[layer].append(mixing)
        return super().mix(layer, rows, scores, mixing)

    def record(self, prompt: list[int], count: int) -> Trace:
        """At most `count` tokens after the prompt; fewer where the text ends."""
        for kept in (*self._rows, *self._mixing):
            kept.clear()
        cache, logits = self.prefill(prompt)
        row, tokens, logprobs, margins = logits[-1], [], [], []
        while True:
            second, best = np.partition(row, -2)[-2:]
            tokens.append(int(row.argmax()))
            logprobs.append(-float(np.log(np.exp(row - best).sum(dtype=np.float64))))
            margins.append(float(best - second))
            if len(tokens) == count or tokens[-1] == self.card.end_of_text:
                break
            row = self.decode(cache, tokens[-1])
        scores = np.stack([np.concatenate(kept) for kept in self._rows])
        mixing = np.stack([np.concatenate(kept) for kept in self._mixing]) if self._mixing[0] else None
        return Trace(tuple(prompt), tuple(tokens), tuple(logprobs), tuple(margins), scores, mixing)


def record_traces(prepared: Prepared, progress: Callable[[int, int, str], None] | None = None) -> tuple[Trace, ...]:
    """One trace a prompt of the workload, in its order; from the cache where the same was recorded before."""
    wanted = prepared.campaign.workload.max_new_tokens
    card = prepared.manifest.model
    source = Workload(prepared.prompts, prepared.tokenizer, card.begin, 0, len(prepared.prompts), card.context - wanted)
    prompts = [ready.tokens for ready in iter(source.next, None)]
    key = hashlib.sha256(
        msgspec.json.encode((FORMAT, prepared.manifest_sha256, prepared.campaign.model.precision, prompts, wanted))
    ).hexdigest()
    path = cache_folder() / "traces" / f"{key[:32]}.npz"
    if path.exists():
        return _read(path)
    model = Recorder(prepared.shards, prepared.campaign.model.precision)
    traces = []
    for number, prompt in enumerate(prompts):
        if progress is not None:
            progress(number, len(prompts), "recording the gate")
        traces.append(model.record(prompt, wanted))
    write_result(path, _encoded(traces))
    return _read(path)


def _encoded(traces: list[Trace]) -> bytes:
    arrays: dict[str, NDArray[np.generic]] = {}
    for i, t in enumerate(traces):
        arrays |= {
            f"prompt{i}": np.array(t.prompt, np.int32), f"tokens{i}": np.array(t.tokens, np.int32),
            f"logprobs{i}": np.array(t.logprobs), f"margins{i}": np.array(t.margins), f"scores{i}": t.scores,
        }  # fmt: skip
        if t.mixing is not None:
            arrays[f"mixing{i}"] = t.mixing
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keyword for allow_pickle
    return out.getvalue()


def _read(path: Path) -> tuple[Trace, ...]:
    with np.load(path, allow_pickle=False) as kept:
        count = sum(name.startswith("prompt") for name in kept.files)
        return tuple(
            Trace(
                tuple(kept[f"prompt{i}"].tolist()), tuple(kept[f"tokens{i}"].tolist()),
                tuple(kept[f"logprobs{i}"].tolist()), tuple(kept[f"margins{i}"].tolist()),
                kept[f"scores{i}"], kept[f"mixing{i}"] if f"mixing{i}" in kept.files else None,
            )
            for i in range(count)
        )  # fmt: skip
