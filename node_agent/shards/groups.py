"""Grouped experts: one session for all experts of a layer that a node holds at one precision (the fast profile).

Behind a version gate and a self-test: a group is only given out if it computes on this machine what the weights say.
Whoever gets None opens one session an expert instead (the portable profile); both read the same shard files.
A group takes no low-rank deltas: a request that uses one is served by sessions an expert.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import ModelCard, Precision, read_shard
from models.serving.group import (
    MINIMUM_ONNXRUNTIME,
    NOT_PICKED,
    Weights,
    can_group,
    expert_output,
    group_graph,
    select_inputs,
    stack,
)
from models.serving.safetensors_file import BadContainer
from models.serving.shard_file import unpack
from node_agent.power_modes.duty import DutyLimit
from node_agent.shards.providers import ON_CPU
from node_agent.shards.sessions import REFUSALS, bare, session_options
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]
_OUTPUTS = ["y"]
_NOT_PICKED = float(NOT_PICKED)
TOLERANCE = 0.05
"""Of the largest value: activations are rounded to 8 bits a block, which a wrong layout exceeds by far."""


class _Bound(NamedTuple):
    """Where onnxruntime reads one row's inputs and writes its output, told once: an array passed in a run is looked at,
    wrapped and given back as another one in each."""

    binding: ort.IOBinding
    hidden: F32
    selection: array[float]
    mixing: array[float]
    total: F32


class ExpertGroup:
    """Experts of one layer in one session. Calls from several threads are allowed."""

    def __init__(
        self, session: ort.InferenceSession, held: Sequence[ort.OrtValue], experts: Sequence[int], duty: DutyLimit
    ) -> None:
        self._session, self._held = session, tuple(held)
        self._run, self._run_bound = bare(session).run, bare(session).run_with_iobinding
        self._duty = duty
        self.experts = tuple(experts)
        self._place = np.full(max(experts) + 1, -1, np.intp)
        self._place[list(experts)] = np.arange(len(experts))
        self.members = frozenset((*experts, -1))
        """The experts, and -1 for none."""
        self._column = dict(zip(self.experts, range(len(experts)), strict=True))
        self._free: list[_Bound] = []
        """Those no thread is using; as many as there ever were calls at once."""

    def let_go(self) -> None:
        """Of the weights that the session was made of: it computes from others."""
        self._held = ()

    def partial_sum(self, hidden: F32, experts: NDArray[np.int16], weights: F32) -> F32:
        """Sum over k of weights[i, k] * expert[i, k](hidden[i]) for rows [n, H]; -1 is no expert, all others held."""
        if len(experts) == 1:
            return self.row_sum(hidden, experts[0].tolist(), weights[0].tolist())
        selection, mixing = select_inputs(experts, weights, self._place, len(self.experts))
        total: F32
        with self._duty.turn():
            (total,) = self._run(_OUTPUTS, {"x": hidden, "selection": selection, "mixing": mixing}, None)
        return total

    def row_sum(self, hidden: F32, experts: Sequence[int], weights: Sequence[float]) -> F32:
        """`partial_sum` of one row [1, H]: a few numbers are put in place quickest one by one."""
        try:
            bound = self._free.pop()
        except IndexError:
            bound = self._bind(hidden.shape[1])
        _, row, selection, mixing, total = bound
        row[:] = hidden
        columns = [self._column[expert] for expert in experts if expert >= 0]
        for expert, weight in zip(experts, weights, strict=True):
            if expert >= 0:
                column = self._column[expert]
                selection[column] = 0.0
                mixing[column] += weight
        if self._duty.share < 1.0:
            with self._duty.turn():
                self._run_bound(bound.binding._iobinding, None)
        else:
            self._run_bound(bound.binding._iobinding, None)
        for column in columns:
            selection[column], mixing[column] = _NOT_PICKED, 0.0
        found = total.copy()
        self._free.append(bound)
        return found

    def _bind(self, width: int) -> _Bound:
        count, binding = len(self.experts), self._session.io_binding()
        hidden, total = np.zeros((1, width), np.float32), np.zeros((1, width), np.float32)
        selection, mixing = array("f", [_NOT_PICKED] * count), array("f", [0.0] * count)
        for name, shape, address in (
            ("x", (1, width), hidden.ctypes.data),
            ("selection", (1, count), selection.buffer_info()[0]),
            ("mixing", (1, count), mixing.buffer_info()[0]),
        ):
            binding.bind_input(name, "cpu", 0, np.float32, shape, address)
        binding.bind_output(_OUTPUTS[0], "cpu", 0, np.float32, (1, width), total.ctypes.data)
        return _Bound(binding, hidden, selection, mixing, total)


def grouping_unsupported(version: str = ort.__version__) -> str:
    """Why this onnxruntime has no fast grouped experts, or ""."""
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if found >= MINIMUM_ONNXRUNTIME:
        return ""
    return f"onnxruntime {version}: grouped experts need {'.'.join(map(str, MINIMUM_ONNXRUNTIME))} or newer"


def open_group(
    store: ShardStore, layer: int, precision: Precision, experts: Sequence[int], version: str = ort.__version__
) -> ExpertGroup | None:
    """A checked group of these experts, or None where it must be served one session an expert.

    ArtefactError only for shards that are not what the manifest says.
    """
    if grouping_unsupported(version) or len(experts) < 2 or not store.grouping or store.providers != ON_CPU:
        return None
    shards = [_weights(store, layer, precision, expert) for expert in experts]
    if not can_group(shards, precision):
        return None
    card, stacked = store.manifest.model, stack(shards)
    group = _group(stacked, precision, card, experts, store.duty)
    if group is None or not computes(group, shards, card):
        return None
    if not reads_in_place(group, stacked, card.hidden):
        group.let_go()
        return group
    for name, value in stack(shards).items():
        stacked[name][...] = value
    return group


def _weights(store: ShardStore, layer: int, precision: Precision, expert: int) -> Weights:
    shard = store.manifest.find("expert", precision, layer, expert)
    try:
        return unpack(read_shard(store.folder, shard)).weights
    except BadContainer as error:
        path = store.folder / shard.name
        raise ArtefactError(f"{path}: not a shard: {error}", "build the shards again: hil models build") from error


def _group(
    stacked: Weights, precision: Precision, card: ModelCard, experts: Sequence[int], duty: DutyLimit
) -> ExpertGroup | None:
    graph = group_graph(stacked, precision, card.expert_function)
    held = [ort.OrtValue.ortvalue_from_numpy(value) for value in stacked.values()]
    options = session_options()
    options.add_external_initializers(list(stacked), held)
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except REFUSALS:  # single sessions will name a real fault
        return None
    return ExpertGroup(session, held, experts, duty)


def reads_in_place(group: ExpertGroup, stacked: Weights, hidden: int) -> bool:
    """Does a result change, by a bit, when `stacked` is written over? It does not with onnxruntime 1.32, which computes
    from copies of its own: without ours a host of 256 experts of OLMoE has 1.5 GB in use instead of 2.5."""

    def results() -> list[F32]:
        found = []
        for count in (1, 4, 64):
            rows = np.random.default_rng(count).standard_normal((count, hidden)).astype(np.float32)
            picks = np.tile(np.array([[group.experts[0], group.experts[-1]]], np.int16), (count, 1))
            found.append(group.partial_sum(rows, picks, np.full((count, 2), 0.5, np.float32)))
        return found

    before = results()
    for value in stacked.values():
        value[...] = 1
    return not all(map(np.array_equal, before, results()))


def computes(group: ExpertGroup, shards: Sequence[Weights], card: ModelCard) -> bool:
    """The self-test: the first and the last expert, alone, together and not at all, against plain numpy."""
    rows = np.random.default_rng(0).standard_normal((4, card.hidden)).astype(np.float32)
    first, last = group.experts[0], group.experts[-1]
    picks = np.array([[first, -1], [last, -1], [first, last], [-1, -1]], np.int16)
    weights = np.array([[0.75, 0.0], [0.5, 0.0], [0.25, 0.5], [0.0, 0.0]], np.float32)
    outputs = [expert_output(shards[at], rows, card.expert_function, card.scale_block) for at in (0, -1)]
    wanted = sum(
        np.where(picks == expert, weights, 0).sum(axis=1)[:, None] * output
        for expert, output in zip((first, last), outputs, strict=True)
    )
    try:
        got = group.partial_sum(rows, picks, weights)
    except REFUSALS:
        return False
    return bool(np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max())
