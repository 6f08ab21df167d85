"""Experts on their way between nodes while a run goes on: asked for, carried, loaded, confirmed, dropped.

    carried  -> loading -> here  -> (leaving -> gone)          at the time that the modelled transfer takes
             -> failed            failed                      stranded, an end of it died, or the node refused; a target
                                                              that died before its source was told to drop

A node is named in plans only once its word that it serves the expert is in the record, and no longer before it is told
to drop one. Nothing here sends: orders are values that the loop carries out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ground_controller.policies.further import Carried, Carrier
from ground_controller.policies.resources import Move
from hil_config.wire.manifest import Precision
from hil_config.wire.orders import DropShards, ExpertHolding, LoadShards
from hil_config.wire.plan import LinkLoad

AGAIN_S = 30.0
"""An order that no node has answered is given again after so many host seconds."""

Stage = Literal["carried", "loading", "here", "leaving", "gone", "failed"]
Holders = tuple[tuple[tuple[int, ...], ...], ...]


class MoveNumbers(msgspec.Struct, frozen=True):
    """One move as the record has it. `bytes` that were sent so far, over all hops; `joules` that they cost."""

    layer: int
    expert: int
    source: str
    target: str
    copy: bool
    stage: Stage
    begun_s: float
    expected_s: float
    arrived_s: float | None
    hops: int
    bytes: int
    joules: float


@dataclass
class _Moving:
    move: Move
    carried: Carried
    bits: float
    begun_s: float
    precisions: tuple[Precision, ...]
    stage: Stage = "carried"
    since_s: float = 0.0
    ordered_s: float = -math.inf
    sent_bits: float = 0.0


class Migrations:
    """All moves of a run. `holders` is what plans may name.

    Args:
        precisions: at which a moved expert is held, by (layer, expert), the first by default.
    """

    def __init__(
        self, nodes: tuple[str, ...], holders: Holders, precisions: Sequence[Sequence[tuple[Precision, ...]]],
        carrier: Carrier, joules_per_bit: float, link_share: float, grace_s: float, again_s: float,
    ) -> None:  # fmt: skip
        self._nodes = nodes
        self.holders = holders
        self._precisions = precisions
        self._carrier = carrier
        self._joules_per_bit = joules_per_bit
        self._share = link_share
        self._grace_s = grace_s
        self._again_s = again_s
        self._all: list[_Moving] = []

    @property
    def under_way(self) -> int:
        return sum(one.stage in {"carried", "loading"} for one in self._all)

    def held(self) -> Holders:
        """`holders`, and the nodes that plans do not name any more but that have not dropped the expert yet."""
        extra = {
            (one.move.layer, one.move.expert): one.move.source for one in self._all if one.stage == "leaving"
        }  # fmt: skip
        return tuple(
            tuple(
                (*nodes, extra[layer, expert]) if extra.get((layer, expert), -1) not in {-1, *nodes} else nodes
                for expert, nodes in enumerate(row)
            )
            for layer, row in enumerate(self.holders)
        )

    def promised(self, node: int) -> int:
        """Experts on their way to a node."""
        return sum(one.move.target == node and one.stage in {"carried", "loading"} for one in self._all)

    def begin(self, move: Move, now_s: float, bits: float, alive: Sequence[bool]) -> bool:
        """Book its way; False where there is none."""
        carried = self._carrier.carry(move.source, move.target, now_s, bits, alive)
        if carried is None:
            return False
        kinds = self._precisions[move.layer][move.expert]
        self._all.append(_Moving(move, carried, bits, now_s, kinds, since_s=now_s))
        return True

    def changed(self, node: str, order: str, held: str, ok: bool) -> None:
        """A node's word on an order: what it serves now, or that it refused."""
        keys = {(h[0], h[1]) for h in msgspec.json.decode(held or "[]")}
        for one in self._all:
            move = one.move
            if (move.layer, move.expert) not in keys:
                continue
            if order == "load" and one.stage == "loading" and self._nodes[move.target] == node:
                one.stage = "here" if ok else "failed"
                if ok:
                    self._hold(move.layer, move.expert, move.target)
            elif order == "drop" and one.stage == "leaving" and self._nodes[move.source] == node:
                one.stage = "gone"

    def _hold(self, layer: int, expert: int, node: int, drop: bool = False) -> None:
        held = tuple(n for n in self.holders[layer][expert] if n != node) + (() if drop else (node,))
        row = tuple(held if e == expert else old for e, old in enumerate(self.holders[layer]))
        self.holders = tuple(row if n == layer else old for n, old in enumerate(self.holders))

    def step(
        self, before_s: float, now_s: float, alive: Sequence[bool]
    ) -> tuple[list[tuple[str, LoadShards | DropShards]], dict[int, float]]:
        """Time went on: orders to give now, and the bits that each node sent meanwhile."""
        orders: list[tuple[str, LoadShards | DropShards]] = []
        sent: dict[int, float] = {}
        for one in self._all:
            if one.stage in {"carried", "loading", "here"}:
                self._send(one, before_s, now_s, sent)
            move = one.move
            ends = [move.target] if one.stage == "loading" else [move.source, move.target]
            if (one.stage in {"carried", "loading"} and not all(alive[n] for n in ends)) or (
                one.stage == "carried" and math.isinf(one.carried.arrived_s) and now_s >= one.carried.expected_s
            ):
                one.stage, one.since_s = "failed", now_s
            elif one.stage == "carried" and now_s >= one.carried.arrived_s:
                one.stage, one.since_s = "loading", now_s
            elif _kept_in_vain(one, alive):
                self._hold(move.layer, move.expert, move.source)
                one.stage, one.since_s = "failed", now_s
            elif one.stage == "here" and not move.copy:
                self._hold(move.layer, move.expert, move.source, drop=True)
                one.stage, one.since_s, one.ordered_s = "leaving", now_s, -math.inf
            if one.stage == "loading" and now_s - one.ordered_s >= self._again_s:
                one.ordered_s = now_s
                held = tuple(ExpertHolding(move.layer, move.expert, p) for p in one.precisions)
                orders.append((self._nodes[move.target], LoadShards(held, beside=len(held) > 1)))
            late = now_s - one.since_s >= self._grace_s and now_s - one.ordered_s >= self._again_s
            if one.stage == "leaving" and late and alive[move.source]:
                one.ordered_s = now_s
                orders.append((self._nodes[move.source], DropShards(((move.layer, move.expert),))))
        return orders, sent

    def _send(self, one: _Moving, before_s: float, now_s: float, sent: dict[int, float]) -> None:
        for leg in one.carried.legs:
            length = leg.ends_s - leg.begins_s
            # The end of a leg that lies between two ticks belongs to one of them: half-open, as ticks are.
            over = min(now_s, leg.ends_s) - max(before_s, leg.begins_s)
            if over > 0.0 and length > 0.0:
                bits = one.bits * over / length
                sent[leg.source] = sent.get(leg.source, 0.0) + bits
                one.sent_bits += bits

    def loads(self, now_s: float) -> tuple[LinkLoad, ...]:
        """Links that carry weights, now or later."""
        found = {
            LinkLoad(leg.source, leg.target, leg.begins_s, leg.ends_s, self._share)
            for one in self._all
            if one.stage == "carried"
            for leg in one.carried.legs
            if leg.ends_s > now_s
        }
        return tuple(sorted(found, key=lambda load: (load.source, load.target, load.start_s)))

    def numbers(self) -> tuple[MoveNumbers, ...]:
        """Every move so far."""
        return tuple(
            MoveNumbers(
                one.move.layer, one.move.expert, self._nodes[one.move.source], self._nodes[one.move.target],
                one.move.copy, one.stage, one.begun_s, one.carried.expected_s,
                one.carried.arrived_s if math.isfinite(one.carried.arrived_s) else None, len(one.carried.legs),
                round(one.sent_bits / 8), one.sent_bits * self._joules_per_bit,
            )
            for one in self._all
        )  # fmt: skip


def _kept_in_vain(one: _Moving, alive: Sequence[bool]) -> bool:
    """Whether the target of a move died while its source, which is to drop the expert, was not told so yet."""
    waits = one.stage == "here" or (one.stage == "leaving" and math.isinf(one.ordered_s))
    return waits and not one.move.copy and not alive[one.move.target]
