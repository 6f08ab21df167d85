"""The policies beyond selection at work: precisions, codecs, ways and moves for each tick's plan. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from ground_controller.journal import Entry
from ground_controller.migration import AGAIN_S, Holders, Migrations, MoveNumbers
from ground_controller.policies.further import Further
from ground_controller.policies.resources import Resources
from ground_controller.policies.view import View
from ground_controller.transmit import TransmitLoad
from hil_config.wire import messages as m
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.manifest import Precision
from hil_config.wire.orders import DropShards, LoadShards
from hil_config.wire.plan import LayerPlan, LinkLoad, Transmission


@dataclass(frozen=True)
class Additions:
    """What they add to a plan and to the record of a decision."""

    layers: tuple[LayerPlan, ...]
    transmission: Transmission | None
    routes: tuple[tuple[int, ...], ...]
    loads: tuple[LinkLoad, ...]
    reason: str
    orders: tuple[tuple[str, LoadShards | DropShards], ...]
    moves: tuple[MoveNumbers, ...]
    states: dict[str, Any]


class FurtherCore:
    """State of the further policies. `look` before the selection policy, `decide` after it.

    Args:
        holders: who holds what after the placement.
        work_factor: orbit work that a unit of bench work stands for.
        rate: orbit seconds in a host second.
    """

    def __init__(
        self, further: Further, nodes: tuple[str, ...], satellites: tuple[str, ...], predicted: LinkSchedule,
        holders: tuple[tuple[tuple[int, ...], ...], ...], transmit: TransmitLoad, joules_per_bit: float,
        work_factor: float, rate: float,
    ) -> None:  # fmt: skip
        self._further = further
        self._nodes = nodes
        self._satellites = satellites
        self._predicted = predicted
        self._transmit = transmit
        self._joules_per_bit = joules_per_bit
        self._work_factor = work_factor
        self._before_s = 0.0
        self._routes: tuple[tuple[int, ...], ...] = ()
        self._orders: list[tuple[str, LoadShards | DropShards]] = []
        self._policies = {
            name: policy
            for name, policy in (
                ("precision", further.precision), ("transmission", further.transmission),
                ("replacement", further.replacement),
            )
            if policy is not None
        }  # fmt: skip
        self._states = {name: policy.start(len(nodes)) for name, policy in self._policies.items()}
        self._migrations: Migrations | None = None
        if further.replacement is not None and further.make_carrier is not None:
            self._migrations = Migrations(
                nodes, holders, further.held, further.make_carrier(), joules_per_bit, further.link_share,
                further.grace_s, AGAIN_S * rate,
            )  # fmt: skip

    @property
    def looks_ahead(self) -> bool:
        return bool(getattr(self._further.replacement, "looks_ahead", False))

    def held(self, placed: Holders) -> Holders:
        """Who holds what by now, `placed` being the placement's."""
        return placed if self._migrations is None else self._migrations.held()

    def apply(self, entry: Entry) -> None:
        """A node's word on what it holds."""
        if self._migrations is None or entry.kind != "event":
            return
        body = m.decode(entry.body, m.Record).body
        if isinstance(body, m.NodeEvent) and body.name in {"ShardsChanged", "ShardsRefused"}:
            told = body.details
            held = str(told.get("held", "[]"))
            self._migrations.changed(entry.node, str(told.get("order", "")), held, body.name == "ShardsChanged")

    def look(self, view: View) -> View:
        """The view with the holders that are confirmed now and delays over the ways that frames take."""
        alive = tuple(node.alive for node in view.nodes)
        if self._migrations is not None:
            self._orders, sent = self._migrations.step(self._before_s, view.scenario_s, alive)
            for node, bits in sent.items():
                self._transmit.take(node, bits / self._work_factor)
            view = replace(view, holders=self._migrations.holders)
        self._before_s = view.scenario_s
        if self._further.ways is not None:
            self._routes = self._further.ways.ways(view.scenario_s, alive)
            view = replace(view, delay_s=self._over_ways(view))
        return view

    def _over_ways(self, view: View) -> Any:
        delay = view.delay_s.copy()
        for way in self._routes:
            delay[way[0], way[-1]] = sum(view.delay_s[a, b] for a, b in pairwise(way))
        return delay

    def decide(self, view: View, layers: tuple[LayerPlan, ...]) -> Additions:
        """Ask each in turn; `layers` are the selection policy's."""
        further, reasons = self._further, list[str]()
        rules: Transmission | None = None
        if further.idle:
            return Additions(layers, None, (), (), "", (), (), {})
        resources = self._resources(view)
        if further.precision is not None:
            self._states["precision"], precisions = further.precision.choose(
                self._states["precision"], view, resources
            )  # fmt: skip
            layers = with_precisions(layers, view, precisions.of)
            reasons.append(f"precision: {precisions.reason}")
        if further.transmission is not None:
            self._states["transmission"], sendings = further.transmission.rule(
                self._states["transmission"], view, resources
            )  # fmt: skip
            rules = sendings.rules
            reasons.append(f"transmission: {sendings.reason}")
        if further.ways is not None:
            reasons.append(f"routing: {len(self._routes)} ways over other nodes by {further.ways.name}")
        moving = self._migrations
        if further.replacement is not None and moving is not None:
            self._states["replacement"], moves = further.replacement.move(
                self._states["replacement"], view, resources
            )  # fmt: skip
            alive = [node.alive for node in view.nodes]
            stuck = [
                one for one in moves.moves
                if not moving.begin(one, view.scenario_s, further.expert_bits[one.layer][one.expert], alive)
            ]  # fmt: skip
            none = f"; no way for {len(stuck)} of them" if stuck else ""
            reasons.append(f"replacement: {moves.reason}{none}")
        return Additions(
            layers, rules, self._routes, moving.loads(view.scenario_s) if moving else (), "; ".join(reasons),
            tuple(self._orders), moving.numbers() if moving else (), dict(self._states),
        )  # fmt: skip

    def _resources(self, view: View) -> Resources:
        further, n = self._further, len(self._nodes)
        rate = np.zeros((n, n))
        if further.transmission is not None:
            for i, a in enumerate(self._satellites):
                for j, b in enumerate(self._satellites):
                    if i != j:
                        link = self._predicted.link(a, b, view.scenario_s)
                        rate[i, j] = link.rate_bit_s if link.up else 0.0
            for way in self._routes:
                rate[way[0], way[-1]] = min(rate[a, b] for a, b in pairwise(way))
        held = [0] * n
        for row in view.holders if further.replacement is not None else ():
            for nodes in row:
                for node in nodes:
                    held[node] += 1
        moving = self._migrations
        promised = [moving.promised(node) if moving else 0 for node in range(n)]
        slots = further.slots or (0,) * n
        bits = [size for row in further.expert_bits for size in row]
        return Resources(
            variants=further.variants, rate_bit_s=rate, sent_bit_s=tuple(self._transmit.rate_bit_s.tolist()),
            transmit_j_per_bit=self._joules_per_bit, sensitivity=further.sensitivity, codec=further.codec,
            free_slots=tuple(max(s - h - p, 0) for s, h, p in zip(slots, held, promised, strict=True)),
            expert_bits=sum(bits) / len(bits) if bits else 0.0, moving=moving.under_way if moving else 0,
        )  # fmt: skip


def with_precisions(
    layers: tuple[LayerPlan, ...], view: View, of: tuple[tuple[tuple[Precision, ...], ...], ...]
) -> tuple[LayerPlan, ...]:
    """The layers with a precision for each of their hosts; as they are where the policy says nothing."""
    if not of:
        return layers
    out = []
    for layer, held, kinds in zip(layers, view.holders, of, strict=True):
        table = tuple(
            tuple(kinds[expert][held[expert].index(share.node)] for share in hosts)
            for expert, hosts in enumerate(layer.hosts)
        )
        out.append(msgspec.structs.replace(layer, precision=table))
    return tuple(out)
