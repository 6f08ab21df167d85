"""What a node's record must satisfy before anything reads it: its types were checked, not whether it can be true.

Whoever reads the journal (twin, replay, report, export) relies on it: rows of one length, indices of this run, counts
that are counts. One record that is none of this would otherwise end the controller, or each report of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import ge
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hil_config.errors import RemoteProtocolError
from hil_config.wire import messages as m

KIND = "refused"
"""Of a journal entry: committed, so that its node can forget it, and read by nothing that counts."""

MOST_W = 500.0
"""No instrument of an agent tells more; it is the most that one finds plausible."""

MOST_NS = 1 << 58
"""Nine years since a board was started."""

MOST_COUNT = 1 << 48
"""Of anything between two reports: sums of them still fit 64 bits."""

MOST_MASS = 1e6
"""Above 1 where experts that the model would not pick have more weight than its own picks: where scores are not
weights, or more are used than its k."""


class Refused(msgspec.Struct, frozen=True):
    """Body of such an entry: why, and the record as it came."""

    reason: str
    record: bytes


class Shape(NamedTuple):
    """Of a run: `nodes` of its plans, in order, and its model's `layers` of `experts`."""

    nodes: tuple[str, ...]
    layers: int
    experts: int


NO_MODEL = Shape((), 0, 0)
"""Of whoever only listens: evidence of tokens is none of it."""


def refusal(record: m.Record, run: Shape) -> str:
    """Why the record cannot be of such a run, or ""."""
    try:
        _CHECKS[type(record.body)](record.body, run)
    except RemoteProtocolError as error:
        return error.message
    return ""


def _demand(good: bool, what: str) -> None:
    if not good:
        raise RemoteProtocolError(what)


def _counts(what: str, numbers: Sequence[int], most: int = MOST_COUNT) -> None:
    if numbers and not (min(numbers) >= 0 and max(numbers) <= most):
        raise RemoteProtocolError(f"{what}: {min(numbers)} to {max(numbers)} are not all in 0 to {most}")


def _amounts(what: str, numbers: Sequence[float], most: float = 1e15) -> None:
    if numbers and not (min(numbers) >= 0.0 and max(numbers) <= most):
        raise RemoteProtocolError(f"{what}: {min(numbers):g} to {max(numbers):g} are not all in 0 to {most:g}")


def _instants(*mono_ns: int) -> None:
    _counts("mono_ns", mono_ns, MOST_NS)


def _samples(body: m.SampleBatch, run: Shape) -> None:
    instants = body.mono_ns
    _instants(*instants)
    if any(map(ge, instants, instants[1:])):
        raise RemoteProtocolError("samples are not in the order of their instants")
    for name, column in body.columns.items():
        if len(column) != len(instants):
            raise RemoteProtocolError(f"{len(column)} values of {name} at {len(instants)} instants")
        if name.startswith("power") and name.endswith("_w"):
            _amounts(name, [value for value in column if value is not None], MOST_W)


def _token(body: m.TokenEvidence, run: Shape) -> None:
    _instants(body.mono_ns)
    _counts("a step", (body.request, body.attempt, body.start, body.plan_version, body.token + 1, body.rows - 1))
    _amounts("times of a step", (body.total_us, body.head_us))
    _amounts("kept mass", (body.kept_mass,), MOST_MASS)
    layers = body.layers
    numbers = [layer.layer for layer in layers]
    _demand(bool(numbers) and numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"layers {numbers}")
    for layer in layers:
        _layer(layer, body.rows, run)
    # A numpy call costs more than all it does to one layer.
    scores = np.frombuffer(b"".join([layer.scores + layer.mixing for layer in layers]), "<f4")
    _demand(bool(np.isfinite(scores).all()), "a score is not finite")
    _indices("picks", [layer.picks for layer in layers], run.experts)
    _indices("hosts", [layer.hosts for layer in layers], len(run.nodes))


def _layer(layer: m.LayerEvidence, rows: int, run: Shape) -> None:
    number, nodes = layer.layer, len(run.nodes)
    scores, picks, mixing = len(layer.scores), len(layer.picks), len(layer.mixing)
    if not 0 <= number < run.layers:
        raise RemoteProtocolError(f"layer {number} of {run.layers}")
    if scores != 4 * rows * run.experts or (mixing and mixing != scores):
        raise RemoteProtocolError(f"layer {number}: {scores} and {mixing} bytes of scores for {rows} rows")
    if picks % (2 * rows) or picks != len(layer.hosts):
        raise RemoteProtocolError(
            f"layer {number}: {picks} bytes of picks and {len(layer.hosts)} of hosts for {rows} rows"
        )
    if len(layer.live) != nodes or max(layer.live, default=0) > 1:
        raise RemoteProtocolError(f"layer {number}: {layer.live!r} does not say which of {nodes} nodes live")
    _counts(f"rows of layer {number}", (layer.rerouted, layer.lost))
    _amounts(f"times of layer {number}", (layer.trunk_us, layer.serialise_us, layer.link_us, layer.queue_us,
                                          layer.expert_us, layer.combine_us))  # fmt: skip
    for call in layer.sent:
        _demand(0 <= call.host < nodes, f"layer {number}: a call to node {call.host} of {nodes}")
        _counts(f"rows of a call of layer {number}", (call.rows - 1,))
        _amounts(f"importance in layer {number}", (call.importance,))


def _indices(what: str, raw: Sequence[bytes], count: int) -> None:
    found = np.frombuffer(b"".join(raw), "<i2")
    if found.size and not (found.min() >= -1 and found.max() < count):
        raise RemoteProtocolError(f"{what}: {found.min()} to {found.max()} are not all in -1 to {count - 1}")


def _event(body: m.NodeEvent, run: Shape) -> None:
    _instants(body.mono_ns)
    if body.name in {"ShardsChanged", "ShardsRefused"}:  # migration goes by them
        held = str(body.details.get("held", "[]"))
        try:
            pairs = [one[:2] for one in msgspec.json.decode(held, type=list[list[int | str]])]
        except ValueError as error:
            raise RemoteProtocolError(f"{body.name}: held: {error}") from error
        for pair in pairs:
            good = len(pair) == 2 and isinstance(pair[0], int) and isinstance(pair[1], int)
            _demand(good, f"{body.name}: {pair} is no layer and expert")


def _links(body: m.LinkReport, run: Shape) -> None:
    _instants(body.mono_ns)
    _counts("link report", (body.frames, body.bytes, body.refused, body.lost, body.cut, *body.histogram))
    bins = len(m.ERROR_EDGES_US) + 1
    _demand(len(body.histogram) in {0, bins}, f"{len(body.histogram)} bins of delay error, wanted {bins}")
    _amounts("scheduled delay", (body.scheduled_us,))
    _amounts("error of delay", tuple(map(abs, body.error_us)))


def _work(body: m.WorkSummary, run: Shape) -> None:
    _instants(body.mono_ns)
    _counts("work", (body.stride, body.tokens, body.rows, *(count for _, count in body.expert_rows)))
    _demand(all(0 <= host < len(run.nodes) for host, _ in body.expert_rows), "work of nodes that are none")


def _gap(body: m.Gap, run: Shape) -> None:
    _instants(body.mono_ns)


_CHECKS: dict[type, Callable[[Any, Shape], None]] = {
    m.SampleBatch: _samples,
    m.TokenEvidence: _token,
    m.NodeEvent: _event,
    m.LinkReport: _links,
    m.WorkSummary: _work,
    m.Gap: _gap,
}
