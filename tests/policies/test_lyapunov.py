from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ground_controller.policies.lyapunov import QUEUE_CAP, Lyapunov, Queues
from ground_controller.policies.topk import Stateless, TopK
from ground_controller.policies.view import Selection, View
from hil_config.errors import ConfigError


def heated(view: View, **degrees: float) -> View:
    nodes = tuple(replace(n, temperature_c=degrees.get(n.name, n.temperature_c)) for n in view.nodes)
    return replace(view, nodes=nodes)


def work_of(selection: Selection, node: int) -> float:
    """Rows node gets when every expert is called once."""
    return math.fsum(s.weight for layer in selection.layers for held in layer.hosts for s in held if s.node == node)


def test_a_cool_world_is_plain_top_k(calm: View) -> None:
    policy = Lyapunov()
    queues, selection = policy.select(policy.start(4), calm)
    _, plain = TopK().select(Stateless(), calm)
    assert queues == Queues((0.0,) * 4, (0.0,) * 4)
    assert selection.layers == plain.layers
    assert (selection.k_min, selection.k_max, selection.threshold) == (1, 2, 0.0)
    assert "top-k as the model wants it" in selection.reason


def test_a_hot_node_gets_less_work_than_with_top_k(calm: View) -> None:
    view = heated(calm, b=68.0)
    policy = Lyapunov()
    _, selection = policy.select(policy.start(4), view)
    _, plain = TopK().select(Stateless(), view)
    assert work_of(selection, 1) < 0.05 * work_of(plain, 1)
    assert work_of(selection, 0) > work_of(plain, 0)
    assert selection.reason.startswith("b is hottest at 68.0 C, 3.0 C above its target")
    assert selection.reason.endswith("b keeps 0% of the rows it could serve")


def test_prices_reach_the_gates_when_a_sole_host_is_hot(calm: View) -> None:
    """3 degrees over the target for half a minute prices between a strong and a weak pick."""
    alone = replace(calm, holders=tuple(tuple((e,) for e in range(4)) for _ in range(2)))
    view, policy = heated(alone, b=68.0), Lyapunov(price_cap=2.0)
    state = policy.start(4)
    for _ in range(30):
        state, selection = policy.select(state, view)
    assert 0.4 < selection.layers[0].price[1] < 1.0
    assert selection.layers[0].price[0] == 0.0
    assert "prices up to" in selection.reason


def test_a_larger_v_keeps_more_of_the_models_choice(calm: View) -> None:
    view = heated(replace(calm, holders=(((1,),) * 4,) * 2), b=68.0)
    policies = [Lyapunov(v=v, price_cap=2.0) for v in (0.5, 1.0, 4.0)]
    prices = [policy.select(policy.start(4), view)[1].layers[0].price[0] for policy in policies]
    assert prices[0] == pytest.approx(2 * prices[1]) == pytest.approx(8 * prices[2])


def test_queues_do_not_depend_on_the_tick(calm: View) -> None:
    view = heated(calm, b=68.0, c=60.0)
    view = replace(view, nodes=(replace(view.nodes[0], power_w=6.0), *view.nodes[1:]))
    answers = []
    for step_s, ticks in ((1.0, 40), (0.25, 160), (8.0, 5)):
        policy, state = Lyapunov(), Lyapunov().start(4)
        for _ in range(ticks):
            state, _ = policy.select(state, replace(view, step_s=step_s))
        answers.append(state)
    assert answers[0].heat_k_s[1] == pytest.approx(120.0)
    assert answers[0].energy_j[0] == pytest.approx(40.0 * 2.4)
    for other in answers[1:]:
        assert other.energy_j == pytest.approx(answers[0].energy_j)
        assert other.heat_k_s == pytest.approx(answers[0].heat_k_s)


def test_queues_fall_when_cool_and_in_the_sun(calm: View) -> None:
    policy, full = Lyapunov(), Queues((100.0,) * 4, (100.0,) * 4)
    dark, _ = policy.select(full, calm)
    lit, _ = policy.select(full, replace(calm, nodes=tuple(replace(n, harvest_w=30.0) for n in calm.nodes)))
    assert max(dark.heat_k_s) < 100.0
    assert max(dark.energy_j) < 100.0
    assert max(lit.energy_j) < max(dark.energy_j)
    state = full
    for _ in range(60):
        state, _ = policy.select(state, calm)
    assert state.heat_k_s == (0.0,) * 4


def test_queues_are_bounded(calm: View) -> None:
    policy = Lyapunov()
    state, view = policy.start(4), heated(calm, a=99.0)
    for _ in range(1_000):
        state, _ = policy.select(state, view)
    assert state.heat_k_s[0] == QUEUE_CAP * policy.heat_scale_k_s


def test_costly_nodes_are_priced_higher_whatever_the_unit(calm: View) -> None:
    """The same world with every call a hundred times cheaper gives the same plan."""
    costly = tuple(replace(n, energy_per_call_j=1e-3 * (i + 1)) for i, n in enumerate(calm.nodes))
    cheap = tuple(replace(n, energy_per_call_j=1e-5 * (i + 1)) for i, n in enumerate(calm.nodes))
    state = Queues((50.0,) * 4, (0.0,) * 4)
    a = Lyapunov().select(state, replace(calm, nodes=costly))[1].layers[0]
    b = Lyapunov().select(state, replace(calm, nodes=cheap))[1].layers[0]
    assert a.price == pytest.approx(b.price)
    assert a.hosts[0][0].weight > a.hosts[0][1].weight


def test_closed_loop_holds_the_target_without_ringing(calm: View) -> None:
    """Four boards, one with a bad radiator: it stays under the soft limit, with top-k it does not."""
    resistance_k_w, capacity_j_k, sink_c = np.array([16.0, 16.0, 22.0, 16.0]), 12.5, 6.0
    fade = np.exp(-1.0 / (resistance_k_w * capacity_j_k))  # of one second

    def run(policy: Lyapunov | TopK) -> NDArray[np.float64]:
        state: object = policy.start(4)
        temperature, trace = np.full(4, 45.0), []
        for _ in range(1_800):
            nodes = tuple(replace(n, temperature_c=float(t)) for n, t in zip(calm.nodes, temperature, strict=True))
            state, selection = policy.select(state, replace(calm, nodes=nodes))  # type: ignore[arg-type]
            work = np.array([work_of(selection, n) for n in range(4)]) / 8.0
            settled = sink_c + resistance_k_w * (2.6 + 1.6 * work)
            temperature = settled + (temperature - settled) * fade
            trace.append(temperature)
        return np.array(trace)

    plain, kept = run(TopK()), run(Lyapunov())
    assert plain[-1, 2] > 70.0
    assert kept[:, 2].max() < 66.5
    assert kept[:, [0, 1, 3]].max() < 65.0
    assert np.ptp(kept[-300:, 2]) < 0.3


@pytest.mark.parametrize("options", [{"v": 0.0}, {"softness": -1.0}, {"margin_c": float("nan")}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Lyapunov(**options)


def test_the_price_cap_bounds_what_a_pick_may_cost(calm: View) -> None:
    view = heated(replace(calm, holders=(((1,),) * 4,) * 2), b=74.0)
    policy = Lyapunov(price_cap=0.15)
    state = policy.start(4)
    for _ in range(60):
        state, selection = policy.select(state, view)
    assert {price for layer in selection.layers for price in layer.price} == {0.15}


def test_a_hot_gateway_goes_behind_its_cooler_standby_and_stays_there_until_it_is_clearly_cheaper(calm: View) -> None:
    policy = Lyapunov()
    piece = calm.gateways[0]
    first, second = piece.nodes[:2]
    _, selection = policy.select(policy.start(4), heated(calm, **{first: 68.0}))
    assert selection.gateways is not None
    assert selection.gateways[0].nodes[:2] == (second, first)
    assert selection.gateways[0].first == piece.first
    turned = replace(calm, gateways=selection.gateways)
    _, again = policy.select(policy.start(4), turned)
    assert again.gateways == selection.gateways, "equal costs change nothing"
    _, plain = policy.select(policy.start(4), calm)
    assert plain.gateways == calm.gateways
