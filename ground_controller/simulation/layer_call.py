"""One layer of one batch in a simulated run: the real dispatch; calls travel and compute on calculated time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from ground_controller.simulation.agenda import Agenda
from ground_controller.simulation.choosing import Compiled
from ground_controller.simulation.fabric import Fabric
from ground_controller.simulation.frame_size import call_bytes, reply_bytes
from ground_controller.simulation.node import ModelNode
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import Precision
from hil_config.wire.messages import Sent
from models.serving.dispatch import Ask, LayerDispatch, Outcome
from models.serving.pick_table import PickTable
from models.serving.transmission import mean_square_mass

_SLACK_S = 0.05


class Terms(NamedTuple):
    """What calls are made under. `codec` of a link (source, target), where a plan has no rules."""

    agenda: Agenda
    fabric: Fabric
    nodes: dict[str, ModelNode]
    width: int
    timeout_s: float
    codec: Callable[[str, str], Codec]


class CallTiming(NamedTuple):
    """Microseconds on the path of the host that answered last."""

    link_us: float = 0.0
    queue_us: float = 0.0
    expert_us: float = 0.0


class SimLayerCall:
    """`done(outcome, timing)` when the layer is whole; `outcome` is None where every host answered as it was picked."""

    def __init__(
        self,
        terms: Terms,
        gateway: ModelNode,
        layer: int,
        picks: PickTable,
        names: tuple[str, ...],
        compiled: Compiled,
        done: Callable[[Outcome | None, CallTiming], None],
    ) -> None:
        self._t = terms
        self._gateway = gateway
        self._layer = layer
        self._names = names
        self._done: Callable[[Outcome | None, CallTiming], None] | None = done
        self._timing = CallTiming()
        self._compiled = compiled
        self._answer: dict[int, Codec] = {}
        self.sent: list[Sent] = []
        """Calls of the first round, where the plan has rules of transmission."""
        # The sums themselves are not calculated.
        self._dispatch = LayerDispatch(
            picks, 1, compiled.holders, partial(_patience_s, terms, gateway.name, names), terms.timeout_s,
            terms.agenda.now_s, 1,
        )  # fmt: skip
        self.first = self._dispatch.take_asks()

    @property
    def remote(self) -> int:
        """How many frames the first calls are."""
        return sum(self._names[call.host] != self._gateway.name for call in self.first)

    @property
    def asked(self) -> set[str]:
        """Whoever is asked first."""
        return {self._names[call.host] for call in self.first}

    def begin(self) -> None:
        """Send the first calls."""
        self._send(self.first)
        self._watch()
        self._settle()

    def _watch(self) -> None:
        if not self._dispatch.finished:
            self._t.agenda.at(self._dispatch.next_deadline_s(), self._advance)

    def _advance(self) -> None:
        if self._done is None or not self._gateway.alive:
            return
        if self._dispatch.next_deadline_s() <= self._t.agenda.now_s:
            self._dispatch.advance(self._t.agenda.now_s)
            self._send(self._dispatch.take_asks())
        self._watch()
        self._settle()

    def _send(self, calls: list[Ask]) -> None:
        while calls:
            for call in calls:
                self._send_one(call)
            calls = self._dispatch.take_asks()

    def _send_one(self, call: Ask) -> None:
        host = self._t.nodes[self._names[call.host]]
        sent_s = self._t.agenda.now_s
        works = self._works(host, call)
        if host is self._gateway:
            if works is None:
                self._dispatch.refused(call.id, sent_s)
            else:
                self._compute(host, call, sent_s, works)
            return
        codec, answer = self._codecs(host, call)
        size = call_bytes(len(call.rows), self._t.width, call.picks, codec, self._variants(call), answer)
        serve = partial(host.later, partial(self._serve, host, call, sent_s))
        if not self._t.fabric.send(self._gateway.name, host.name, size, serve):
            self._dispatch.refused(call.id, sent_s)

    def _codecs(self, host: ModelNode, call: Ask) -> tuple[Codec, Codec | Literal[""]]:
        """Of a call, and what it asks the reply to be in: by the plan's rules, else the link's own."""
        rules = self._compiled.sending
        if rules is None:
            return self._t.codec(self._gateway.name, host.name), ""
        own, rows, importance = self._compiled.own, len(call.rows), mean_square_mass(call.call().weights)
        codec, answer = (
            rules.codec(*pair, self._layer, rows, self._t.width, importance)
            for pair in ((own, call.host), (call.host, own))
        )
        self._answer[call.id] = answer
        if call.id <= self.first[-1].id:
            self.sent.append(Sent(call.host, rows, importance, codec, answer))
        return codec, answer

    def _variants(self, call: Ask) -> tuple[tuple[int, Precision], ...]:
        """As in the frame, but for the numbers of experts, of which only the length counts."""
        wanted = self._compiled.precision
        if not wanted:
            return ()
        asked = sorted({item.expert for row in call.rows.values() for item in row})
        return tuple((0 if e < 128 else 1000, p) for e in asked if (p := wanted.get((e, call.host))) is not None)

    def _works(self, host: ModelNode, call: Ask) -> Counter[Precision] | None:
        """How many expert rows at each precision; None where the host does not hold one of them."""
        wanted, layer, found = self._compiled.precision, self._layer, Counter[Precision]()
        for row in call.rows.values():
            for item in row:
                expert = item.expert
                precision = host.serves(layer, expert, wanted.get((expert, call.host)) if wanted else None)
                if precision is None:
                    return None
                found[precision] += 1
        return found

    def _serve(self, host: ModelNode, call: Ask, sent_s: float) -> None:
        if not host.alive:
            return
        works = self._works(host, call)
        if host.out_of_service() or works is None:
            self._return(host, call, partial(self._refused, call))
        else:
            self._compute(host, call, sent_s, works)

    def _compute(self, host: ModelNode, call: Ask, sent_s: float, works: Counter[Precision]) -> None:
        items, work_us, joules_e6 = works.total(), 0.0, 0.0
        for precision, rows in works.items():
            work = host.work("expert", precision)
            work_us += work.us(rows)
            joules_e6 += work.us(rows) * work.watts
        watts, session_us = joules_e6 / work_us if work_us > 0.0 else 0.0, work_us
        if host is not self._gateway:
            work_us += host.work("frame").us(len(call.rows))

        def computed(queue_us: float, took_us: float) -> None:
            host.expert_rows += items
            answer = partial(self._answered, host, call, sent_s, queue_us, took_us)
            if host is self._gateway:
                answer()
            else:
                self._return(host, call, answer)

        host.compute(work_us, watts, computed, session_us)

    def _return(self, host: ModelNode, call: Ask, action: Callable[[], None]) -> None:
        codec = self._answer.get(call.id) or self._t.codec(host.name, self._gateway.name)
        size = reply_bytes(len(call.rows), self._t.width, codec)
        self._t.fabric.send(host.name, self._gateway.name, size, partial(self._gateway.later, action))

    def _refused(self, call: Ask) -> None:
        if self._done is None:
            return
        self._dispatch.refused(call.id, self._t.agenda.now_s)
        self._send(self._dispatch.take_asks())
        self._settle()

    def _answered(self, host: ModelNode, call: Ask, sent_s: float, queue_us: float, expert_us: float) -> None:
        if self._done is None or not self._gateway.alive:
            return
        if self._dispatch.answered(call.id):
            trip_us = (self._t.agenda.now_s - sent_s) * 1e6
            link_us = 0.0 if host is self._gateway else max(0.0, trip_us - queue_us - expert_us)
            self._timing = CallTiming(link_us, queue_us, expert_us)
        self._settle()

    def lost(self, node: str) -> None:
        """A host is gone."""
        if self._done is not None and node in self._names:
            self._dispatch.host_lost(self._names.index(node), self._t.agenda.now_s)
            self._send(self._dispatch.take_asks())
            self._settle()

    def _settle(self) -> None:
        if self._done is not None and self._dispatch.finished:
            done, self._done = self._done, None
            done(None if self._dispatch.as_picked else self._dispatch.outcome(), self._timing)


def _patience_s(terms: Terms, gateway: str, names: tuple[str, ...], host: int) -> float:
    scheduled_s = terms.fabric.round_trip_s(gateway, names[host])
    return min(terms.timeout_s / 2, scheduled_s + max(_SLACK_S, terms.timeout_s / 4))
