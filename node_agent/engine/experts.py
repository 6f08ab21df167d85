"""The experts a node holds: weighted partial sums over them.

Experts of one layer at one precision share a session where this machine's onnxruntime computes such a group rightly
(`node_agent.shards.groups`): one call a layer, and twice as fast from about eight rows. The others have one each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import ArtefactError, LocalProtocolError
from hil_config.wire.manifest import Precision
from hil_config.wire.orders import ExpertHolding
from node_agent.shards.groups import ExpertGroup, open_group
from node_agent.shards.sessions import Session
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]


class Partial(NamedTuple):
    """`total` float32 [n, H]; `runtime_us` spent inside onnxruntime; `calls` expert rows computed."""

    total: F32
    runtime_us: float
    calls: int


class HeldExperts(NamedTuple):
    """By (layer, expert). `precision` of all that is held; a grouped expert has its own session only for deltas.
    `beside`: experts that are held at further precisions as well, by precision."""

    single: dict[tuple[int, int], Session]
    grouped: dict[tuple[int, int], ExpertGroup]
    precision: dict[tuple[int, int], Precision]
    beside: Mapping[Precision, HeldExperts] = MappingProxyType({})

    def at(self, layer: int, expert: int, precision: Precision) -> HeldExperts:
        """Where that variant is held; NotHeld if it is not."""
        if self.precision.get((layer, expert)) == precision:
            return self
        found = self.beside.get(precision)
        if found is None or (layer, expert) not in found.precision:
            raise NotHeld(f"layer {layer} expert {expert} is not held at {precision} here")
        return found


Variants = Sequence[tuple[int, Precision]]
"""(expert, precision) of those that are not to be served at the precision they are held at first."""


class NotHeld(LocalProtocolError):
    """An expert was asked for that this node does not hold."""


class ExpertBank:
    """Sessions of the experts held now. What is held is replaced as a whole; a call ends with what it began with."""

    def __init__(self, store: ShardStore, holdings: tuple[ExpertHolding, ...]) -> None:
        self._store = store
        self._deltas = store.deltas
        self.held = open_experts(store, holdings)

    def replace(self, held: HeldExperts) -> None:
        """From the next call on."""
        self.held = held

    def partial_sum(
        self, layer: int, hidden: F32, experts: I16, weights: F32, adapter: str = "", variants: Variants = ()
    ) -> Partial:
        """Sum over k of weights[i, k] * expert[i, k](hidden[i]) for rows hidden [n, H]; -1 is no expert."""
        held = self.held
        if not variants:
            return self._sum(held, layer, hidden, experts, weights, adapter)
        parts: dict[int, tuple[HeldExperts, list[int]]] = {}
        for expert, precision in variants:
            where = held.at(layer, expert, precision)
            parts.setdefault(id(where), (where, []))[1].append(expert)
        rest = np.where(np.isin(experts, [expert for expert, _ in variants]), np.int16(-1), experts)
        split = [(where, np.where(np.isin(experts, own), experts, np.int16(-1))) for where, own in parts.values()]
        sums = [
            self._sum(where, layer, hidden, own, weights, adapter)
            for where, own in [(held, rest), *split]
            if (own >= 0).any()
        ]
        total = np.zeros_like(hidden)
        for part in sums:
            total += part.total
        return Partial(total, sum(part.runtime_us for part in sums), sum(part.calls for part in sums))

    def row_sum(
        self,
        layer: int,
        hidden: F32,
        experts: Sequence[int],
        weights: Sequence[float],
        adapter: str = "",
        variants: Variants = (),
    ) -> Partial:
        """`partial_sum` of one row [1, H]."""
        group = self.held.grouped.get((layer, experts[0]))
        if group is None or adapter or variants or not group.members.issuperset(experts):
            picks = np.array([experts], np.int16), np.array([weights], np.float32)
            return self.partial_sum(layer, hidden, *picks, adapter, variants)
        begin_s = time.perf_counter()
        total = group.row_sum(hidden, experts, weights)
        return Partial(total, (time.perf_counter() - begin_s) * 1e6, len(experts) - experts.count(-1))

    def _sum(self, held: HeldExperts, layer: int, hidden: F32, experts: I16, weights: F32, adapter: str) -> Partial:
        feeds = self._deltas.feeds(adapter)
        if feeds is None:
            raise NotHeld(f"delta {adapter!r} is not here")
        groups: list[ExpertGroup] = []
        single: list[int] = []
        named = experts.ravel().tolist()
        for expert in set(named) - {-1}:
            key = layer, expert
            if key not in held.precision:
                raise NotHeld(f"layer {layer} expert {expert} is not held here")
            group = held.grouped.get(key)
            if group is None or key in feeds:  # a group takes no deltas
                single.append(expert)
            elif group not in groups:
                groups.append(group)
        sessions = [(expert, self._session(held, layer, expert)) for expert in single]
        for expert, session in sessions:
            if not session.takes(feeds.get((layer, expert), {})):
                raise NotHeld(f"delta {adapter!r} does not fit layer {layer} expert {expert}")
        begin_s = time.perf_counter()
        if len(groups) == 1 and not single:
            total = groups[0].partial_sum(hidden, experts, weights)
        else:
            total = np.zeros_like(hidden)
            rest = np.where(np.isin(experts, single), -1, experts) if groups else experts
            for group in groups:
                total += group.partial_sum(hidden, np.where(np.isin(rest, group.experts), rest, -1), weights)
            for expert, session in sessions:
                rows, share = _share(expert, experts, weights)
                extra = feeds.get((layer, expert))
                total[rows] += session.run(hidden if len(hidden) == 1 else hidden[rows], extra=extra)[0] * share
        return Partial(total, (time.perf_counter() - begin_s) * 1e6, len(named) - named.count(-1))

    def _session(self, held: HeldExperts, layer: int, expert: int) -> Session:
        """The expert's own session; that of a grouped one is opened, and verified, when a delta first asks for it."""
        session = held.single.get((layer, expert))
        if session is None:
            try:
                session = self._store.session("expert", held.precision[layer, expert], layer, expert)
            except ArtefactError as error:
                raise NotHeld(error.message) from error
            held.single[layer, expert] = session
        return session


def _share(expert: int, experts: I16, weights: F32) -> tuple[NDArray[np.intp], F32]:
    """Rows that use an expert and their weights [rows, 1]. A row may name it twice (a substitute): weights add up."""
    mine = experts == expert
    rows = np.nonzero(mine.any(axis=1))[0]
    return rows, np.where(mine[rows], weights[rows], 0.0).sum(axis=1, dtype=np.float32)[:, None]


def open_experts(
    store: ShardStore, holdings: tuple[ExpertHolding, ...], before: HeldExperts | None = None
) -> HeldExperts:
    """Verified sessions; ArtefactError if a shard is not what the manifest says. Groups of `before` that stay the
    same are taken over. An expert that is named more than once is held at its first precision, at others beside."""
    precision: dict[tuple[int, int], Precision] = {}
    further: dict[Precision, list[ExpertHolding]] = {}
    for holding in holdings:
        if precision.setdefault((holding.layer, holding.expert), holding.precision) != holding.precision:
            further.setdefault(holding.precision, []).append(holding)
    beside = {
        kind: open_experts(store, tuple(rest), before.beside.get(kind) if before is not None else None)
        for kind, rest in further.items()
    }
    routed = store.manifest.model.experts - store.manifest.model.routing.always_on
    families: dict[tuple[int, Precision, bool], list[int]] = {}
    for (layer, expert), kind in precision.items():
        families.setdefault((layer, kind, expert < routed), []).append(expert)  # shared ones have a width of their own
    single: dict[tuple[int, int], Session] = {}
    grouped: dict[tuple[int, int], ExpertGroup] = {}
    for (layer, kind, _), members in families.items():
        experts = tuple(sorted(members))
        group = _kept(before, layer, kind, experts) or open_group(store, layer, kind, experts)
        for expert in experts:
            if group is not None:
                grouped[layer, expert] = group
            else:
                single[layer, expert] = store.session("expert", kind, layer, expert)
    return HeldExperts(single, grouped, precision, beside)


def _kept(before: HeldExperts | None, layer: int, kind: Precision, experts: tuple[int, ...]) -> ExpertGroup | None:
    group = before.grouped.get((layer, experts[0])) if before is not None else None
    if before is None or group is None or group.experts != experts or before.precision[layer, experts[0]] != kind:
        return None
    return group
