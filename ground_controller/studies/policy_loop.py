"""One policy on one stage: the deciding core of a campaign, tick by tick, over work that is modelled.

The core, its twin and the policy are those of a run on boards, and the gate of the boards chooses from scores of the
real router. Boards are modelled: a tick's power follows from the rows that it served. Times of a token are those of a
lone row: the links' delays by the schedule, a core's time for the work, and the wait for a core (Sakasegawa's
approximation of M/M/c, Naval Research Logistics Quarterly 24, 1977).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ground_controller.core import Core
from ground_controller.journal import Entry
from ground_controller.policies.eligibility import layer_gateways
from ground_controller.policies.registry import selection_policy
from ground_controller.simulation.frame_size import call_bytes, handover_bytes, reply_bytes
from ground_controller.studies.policy_scene import Stage
from hil_config.wire import messages as m
from hil_config.wire.plan import SelectionPlan
from models.serving.gate import select
from models.serving.layer_gate import LayerGate, compile_layer, row_fraction

Float = NDArray[np.float64]

ROWS = 64
"""Tokens that are looked at in a tick; they stand for all of it."""
CODEC = "fp16"
BOOT = "model"
MOST_BUSY = 0.98


@dataclass
class Course:
    """What happened, [T] or [T, N] over ticks and nodes.

    `temperature_c`, `charge`: the twin's at the end of a tick; `wear`: the closed form so far. `power_w` of the boards,
    `experts_w` of it for experts and trunks, `sent_bytes` a second. `kept`: mixing mass served; `experts`: a row and
    layer; `unserved`: share of tokens without a gateway; `latency_s` a token. `busiest`: the largest share of its cores
    that a node needed, above 1 what it could not have done. `plans`: those in force at the ticks `sampled`.
    """

    temperature_c: Float
    charge: Float
    wear: Float
    power_w: Float
    experts_w: Float
    sent_bytes: Float
    kept: Float
    experts: Float
    unserved: Float
    latency_s: Float
    busiest: Float
    plans: list[SelectionPlan] = field(default_factory=list, kw_only=True)
    sampled: list[int] = field(default_factory=list, kw_only=True)


@dataclass(frozen=True)
class Work:
    """Of one tick: `calls` a second [N] of experts, `trunk_rows` a second [N], bytes a second [N] by sender."""

    calls: Float
    trunk_rows: Float
    sent_bytes: Float
    kept: float
    experts: float
    unserved: float
    latency_s: float
    busiest: float


class PolicyLoop:
    """A stage under a policy. `tokens`: scale of the demand, 0 for a bench without work."""

    def __init__(self, stage: Stage, policy: str, options: dict[str, object], tick_s: float, tokens: float = 1.0):
        self._stage, self._tick_s = stage, tick_s
        self._core = Core(stage.setting, selection_policy(policy, options), 1, 3.0 * tick_s)
        self._names = stage.setting.nodes
        self._count = len(self._names)
        self._per_row = stage.scene.tokens_s * tokens / ROWS
        profile = stage.prepared.profiles[0]
        self._cores, self._core_w = profile.cores, profile.per_core_w
        self._card = stage.setting.model
        self._idle_w = np.array(stage.setting.idle_power_w)
        self._entries: list[Entry] = []
        self._seq = 0

    def run(self, ticks: int, sampled: set[int]) -> Course:
        """`ticks` ticks; the plans of those in `sampled` are kept."""
        shape = (ticks, self._count)
        nodes, alone = [np.zeros(shape) for _ in range(6)], [np.zeros(ticks) for _ in range(5)]
        course = Course(*nodes, *alone)
        for tick in range(ticks):
            plan = self._core.advance(tick, tick * self._tick_s, self._entries).plan
            if tick:
                self._note(course, tick - 1)
            if tick in sampled:
                course.plans.append(plan)
                course.sampled.append(tick)
            work = self._serve(tick, plan)
            self._report(course, tick, work)
        self._core.advance(ticks, ticks * self._tick_s, self._entries)
        self._note(course, ticks - 1)
        return course

    def _note(self, course: Course, tick: int) -> None:
        twin = self._core.world.twin
        course.temperature_c[tick], course.charge[tick], course.wear[tick] = twin.temperature_c, twin.charge, twin.wear

    def _report(self, course: Course, tick: int, work: Work) -> None:
        """The evidence of a tick, as the nodes' records would bring it."""
        scene = self._stage.scene
        above_w = work.calls * scene.call_j + work.trunk_rows * scene.trunk_j
        course.power_w[tick], course.experts_w[tick] = self._idle_w + above_w, above_w
        course.sent_bytes[tick] = work.sent_bytes
        course.kept[tick], course.experts[tick], course.unserved[tick] = work.kept, work.experts, work.unserved
        course.latency_s[tick], course.busiest[tick] = work.latency_s, work.busiest
        now_s = (tick + 1) * self._tick_s
        self._entries = [
            self._entry(name, "samples", now_s, m.SampleBatch((round(now_s * 1e9),), {"power_w": (float(watts),)}))
            for name, watts in zip(self._names, course.power_w[tick], strict=True)
        ]
        counts = np.rint(work.calls * self._tick_s).astype(int)
        rows = round(float(work.trunk_rows.sum()) * self._tick_s)
        expert_rows = tuple((n, int(c)) for n, c in enumerate(counts) if c)
        if rows:
            summary = m.WorkSummary(round(now_s * 1e9), 1, rows // self._card.layers, rows, expert_rows)
            self._entries.append(self._entry(self._names[0], "work", now_s, summary))
        for n in np.flatnonzero(work.sent_bytes).tolist():
            sent = round(float(work.sent_bytes[n]) * self._tick_s)
            peer = self._names[n - 1]
            report = m.LinkReport(peer, round(now_s * 1e9), 1, sent, 0, 0.0, (0.0, 0.0, 0.0))
            self._entries.append(self._entry(self._names[n], "links", now_s, report))

    def _entry(self, node: str, kind: str, now_s: float, body: m.SampleBatch | m.WorkSummary | m.LinkReport) -> Entry:
        self._seq += 1
        ns = round(now_s * 1e9)
        record = m.Record(node=node, boot_id=BOOT, seq=self._seq, mono_ns=ns, wall_ns=0, body=body)
        return Entry(0, now_s, ns, kind, node, BOOT, self._seq, m.encode(record))

    def _serve(self, tick: int, plan: SelectionPlan) -> Work:
        """The tokens of a tick through all layers."""
        zero = np.zeros(self._count)
        gateways = layer_gateways(self._core.view)
        if self._per_row == 0.0 or None in gateways:
            return Work(zero, zero, zero, 0.0, 0.0, float(self._per_row > 0.0), np.nan, 0.0)
        chosen = np.random.default_rng((tick, self._stage.seed)).integers(0, self._stage.scores.shape[1], ROWS)
        alive, delay_s = np.ones(self._count, np.bool_), self._core.view.delay_s
        calls, trunk, sent = np.zeros(self._count), np.zeros(self._count), np.zeros(self._count)
        kept, latency_s, layers = np.zeros(ROWS), np.zeros(ROWS), list[tuple[int, NDArray[np.int16]]]()
        for layer in range(self._card.layers):
            gateway = gateways[layer]
            assert gateway is not None
            gate: LayerGate = compile_layer(plan, layer, alive)
            picks = select(
                gate, self._stage.scores[layer, chosen], self._card.routing, row_fraction(tick, 0, ROWS, layer)
            )
            served = picks.hosts[picks.hosts >= 0]
            calls += np.bincount(served, minlength=self._count)
            trunk[gateway] += ROWS
            kept += picks.kept / self._card.layers
            self._send(sent, gateway, picks.hosts)
            layers.append((gateway, picks.hosts))
        self._hand_over(sent, gateways)
        calls, trunk, sent = calls * self._per_row, trunk * self._per_row, sent * self._per_row
        scene = self._stage.scene
        busy = (calls * scene.call_j + trunk * scene.trunk_j) / (self._core_w * self._cores)
        slow = 1.0 + self._wait(busy)
        for gateway, hosts in layers:
            latency_s += self._layer_s(gateway, hosts, delay_s, slow)
        latency_s += sum(delay_s[a, b] for a, b in zip(gateways, (*gateways[1:], gateways[0]), strict=True))
        experts = float(calls.sum() / trunk.sum())
        return Work(calls, trunk, sent, float(kept.mean()), experts, 0.0, float(latency_s.mean()), float(busy.max()))

    def _send(self, sent: Float, gateway: int, hosts: NDArray[np.int16]) -> None:
        """Bytes of a frame to every distinct remote host of a row, and of its answer; added up by sender."""
        same = (hosts[:, :, None] == hosts[:, None, :]) & (hosts[:, :, None] >= 0)
        picks = same.sum(axis=2)
        first = np.tril(same, -1).sum(axis=2) == 0
        remote = first & (hosts >= 0) & (hosts != gateway)
        width = self._card.hidden
        for number in np.unique(picks[remote]).tolist():
            sent[gateway] += int((remote & (picks == number)).sum()) * call_bytes(1, width, number, CODEC)
        sent += np.bincount(hosts[remote], minlength=self._count) * reply_bytes(1, width, CODEC)

    def _hand_over(self, sent: Float, gateways: tuple[int | None, ...]) -> None:
        for a, b in pairwise(gateways):
            if a != b and a is not None and b is not None:
                names = (self._names[a], self._names[b])
                sent[a] += ROWS * handover_bytes(1, self._card.hidden, names, "ground", CODEC)

    def _layer_s(self, gateway: int, hosts: NDArray[np.int16], delay_s: Float, slow: Float) -> Float:
        """[ROWS]: trunk, and the slowest expert with the way there and back."""
        scene = self._stage.scene
        way = delay_s[gateway] + delay_s[:, gateway] + scene.call_j / self._core_w * slow
        slowest = np.where(hosts >= 0, way[hosts], 0.0).max(axis=1)
        return np.asarray(slowest + scene.trunk_j / self._core_w * slow[gateway])

    def _wait(self, busy: Float) -> Float:
        """Mean wait for a core over the time of a piece of work."""
        share = np.minimum(busy, MOST_BUSY)
        power = np.sqrt(2.0 * (self._cores + 1)) - 1.0
        return np.asarray(share**power / (self._cores * (1.0 - share)))
