"""Choosing some positions ahead is choosing one by one."""

from __future__ import annotations

import numpy as np
import pytest

from ground_controller.preparation import prepare
from ground_controller.simulation.choosing import Ahead, Compiled, joined
from ground_controller.simulation.step import SimStep
from ground_controller.simulation.traces import Trace
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.manifest import Routing
from hil_config.wire.plan import LinkRule
from models.serving.gate import select
from models.serving.layer_gate import LayerGate, row_fraction
from models.serving.pick_table import table_of
from models.serving.transmission import Sending

DROPPING = Sending("fp16", {(0, n): LinkRule(0, n, 0, 0.2) for n in range(1, 4)}, (1.0, 0.5), True)


def _gate(seed: int) -> LayerGate:
    """Eight experts with two hosts each, one of them dead; prices that skip some."""
    chance = np.random.default_rng(seed)
    hosts = chance.integers(0, 4, (8, 2)).astype(np.int16)
    hosts[3] = -1
    price = chance.uniform(0.0, 0.4, 8).astype(np.float32)
    cumulative = np.column_stack([chance.uniform(0.2, 0.8, 8), np.ones(8)])
    return LayerGate(1.0, 0.9, 1, 4, 0.0, price, hosts[:, 0] >= 0, np.arange(8, dtype=np.int16), hosts, cumulative)


@pytest.mark.parametrize("normalise", [True, False])
def test_ahead_is_one_by_one(normalise: bool) -> None:
    """Also for several requests at once, in the bytes of evidence and in the values that calls are made from."""
    chance = np.random.default_rng(7)
    routing = Routing(top_k=4, normalise_top_k=normalise)
    traces = {
        request: Trace(
            (1,) * 10, (2,) * 41, (0.0,) * 41, (1.0,) * 41, chance.dirichlet(np.ones(8), (2, 50)).astype(np.float32),
            None,
        )
        for request in (3, 4, 5)
    }  # fmt: skip
    ahead = Ahead(routing, 64)
    plans = [Compiled(_gate(seed), [], 0, {}, rules) for seed, rules in ((1, None), (2, DROPPING))]
    dropped = 0
    for position in range(10, 50):
        # Each goes at a pace of its own; the last one's steps are of three rows.
        steps = [
            SimStep(request, 1, position - request, 3 if request == 5 else 1, 5, ("a",), trace)
            for request, trace in traces.items()
            if position % request
        ]
        for layer in (0, 1):
            plan = plans[position // 13 % 2]  # a new one now and then, in the middle of what was chosen ahead
            parts = ahead.rows(steps, layer, plan)
            table = joined(parts, sum(step.rows for step in steps))
            row = 0
            for step, part in zip(steps, parts, strict=True):
                rows = slice(step.start, step.start + step.rows)
                fraction = row_fraction(step.request, step.start, step.rows, layer)
                alone = select(plan.gate, step.trace.scores[layer, rows], routing, fraction)
                if plan.sending is not None:
                    whole, alone = alone, plan.sending.keep(alone, 0, layer, 64)
                    dropped += int((whole.hosts != alone.hosts).sum())
                chosen, at, count = part
                assert chosen.evidence(at, count) == (alone.experts.tobytes(), alone.hosts.tobytes())
                assert chosen.mean_kept(at, count) == float(alone.kept.mean())
                assert chosen.rerouted[at : at + count] == alone.rerouted.tolist()
                values, here = table_of(alone), slice(4 * row, 4 * (row + count))
                assert part.hosts == table.hosts[here] == values.hosts
                assert (table.experts[here], table.weights[here]) == (values.experts, values.weights)
                assert [table.reserves(row + n) for n in range(count)] == [values.reserves(n) for n in range(count)]
                row += count
    assert dropped


def test_a_span_of_the_schedule_says_what_the_schedule_says() -> None:
    prepared = prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))
    schedule: LinkSchedule = prepared.schedule
    kinds = set()
    for source, target in schedule.header.pairs:
        for t in np.linspace(0.0, schedule.duration_s + 5.0, 97).tolist():
            span, link = schedule.span(source, target, t), schedule.link(source, target, t)
            assert span.begin_s <= t < span.end_s
            assert span.up == link.up
            kinds.add(span.up)
            if span.up and t <= schedule.duration_s:
                assert (span.delay_at(t), span.rate_bit_s, span.loss) == (link.delay_s, link.rate_bit_s, link.loss)
    assert kinds == {True, False}
    assert not schedule.span("nobody", "nowhere", 1.0).up
