"""What each selection policy is for, seen through the gate that boards run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ground_controller.policies.battery_life import wear_slope
from ground_controller.policies.registry import selection_policy
from ground_controller.policies.view import NodeView, Selection, View
from hil_config.errors import ConfigError
from hil_config.wire.plan import SelectionPlan
from models.serving.gate import select
from models.serving.layer_gate import Picks, compile_layer, row_fraction

SCORES = np.array([[0.5, 0.3, 0.15, 0.05], [0.9, 0.05, 0.03, 0.02]], np.float32)


def decide(name: str, view: View, state: Any = None, **options: object) -> Selection:
    policy = selection_policy(name, options)
    return policy.select(policy.start(len(view.nodes)) if state is None else state, view)[1]


def picks(selection: Selection, view: View, layer: int = 0) -> Picks:
    """What the gate does with SCORES under a selection."""
    plan = SelectionPlan(
        version=1, epoch=1, issued_s=0.0, ttl_s=5.0, policy="", reason="", scale=selection.scale,
        coverage=selection.coverage, k_min=selection.k_min, k_max=selection.k_max, threshold=selection.threshold,
        nodes=tuple(n.name for n in view.nodes), gateways=view.gateways, layers=selection.layers,
    )  # fmt: skip
    gate = compile_layer(plan, layer, np.ones(len(view.nodes), bool))
    return select(gate, SCORES, view.model.routing, row_fraction(1, 0, len(SCORES), layer))


def weight_of(selection: Selection, node: int) -> float:
    return math.fsum(s.weight for layer in selection.layers for held in layer.hosts for s in held if s.node == node)


def change(view: View, **of: dict[str, Any]) -> View:
    return replace(view, nodes=tuple(replace(node, **of.get(node.name, {})) for node in view.nodes))


def used(found: Picks) -> list[int]:
    return [int(n) for n in (found.experts >= 0).sum(axis=1)]


def test_top_p_uses_fewer_experts_where_the_router_is_sure(calm: View) -> None:
    assert used(picks(decide("top_p", calm, p=0.9), calm)) == [2, 1]
    assert used(picks(decide("top_p", calm, p=1.0), calm)) == [2, 2]


def test_dtop_p_falls_while_rows_use_too_many_and_rises_again(calm: View) -> None:
    policy = selection_policy("dtop_p", {"target_experts": 1.2})
    state, p = policy.start(4), []
    for experts in [2.0] * 60 + [1.0] * 60:
        state, selection = policy.select(state, replace(calm, experts_per_row=experts))
        p.append(selection.coverage)
    assert p[59] < p[0] < 0.8
    assert p[119] > p[60] > p[59]


def test_dtop_p_can_steer_by_power(calm: View) -> None:
    hot = change(calm, **{name: {"power_w": 6.6} for name in "abcd"})
    assert decide("dtop_p", hot, target_experts=0.0).coverage < decide("dtop_p", calm, target_experts=0.0).coverage


def test_des_takes_least_energy_that_covers_and_asks_less_of_later_layers(calm: View) -> None:
    dear = change(calm, a={"energy_per_call_j": 5e-3})
    view = replace(dear, holders=(((0,), (1,), (2,), (3,)),) * 2)
    selection = decide("des", view, z=0.3, gamma=0.5)
    assert picks(selection, view).experts[:, 0].tolist() == [1, 0]  # 0.5 on a costs more a gate than 0.3 on b
    assert [layer.coverage for layer in selection.layers] == [0.3, 0.15]
    everything = picks(decide("des", view, z=1.0, gamma=1.0), view)
    assert used(everything) == [2, 2]


def test_wlr_ranks_by_gate_over_latency(calm: View) -> None:
    delay = calm.delay_s.copy()
    delay[0, 1] = delay[1, 0] = 0.001
    view = replace(calm, delay_s=delay, holders=(((2,), (1,), (2,), (3,)),) * 2)
    assert picks(decide("wlr", view, theta=0.0), view).experts[0].tolist() == [1, 0]
    assert used(picks(decide("wlr", view, theta=0.3), view)) == [2, 1]


def test_battery_life_prices_the_emptier_battery_higher(calm: View) -> None:
    view = change(calm, a={"charge": 0.3})
    selection = decide("battery_life", view)
    assert weight_of(selection, 0) < weight_of(selection, 2)
    alone = replace(view, holders=(((0,), (1,), (2,), (3,)),) * 2)
    price = decide("battery_life", alone, weight=0.05).layers[0].price
    assert price[0] / price[1] == pytest.approx(wear_slope(0.7) / wear_slope(0.2))


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("sunlit_first", {"sunlit": 0.0}),
        ("reactive_soc", {"charge": 0.35}),
        ("thermal_balance", {"temperature_c": 69.0}),
    ],
)
def test_a_spared_host_serves_only_what_nobody_else_can(name: str, spared: dict[str, float], calm: View) -> None:
    view = change(calm, a=spared)
    assert weight_of(decide(name, view), 0) == 0.0
    alone = replace(view, holders=(((0,), (1,), (2,), (3,)),) * 2)
    assert weight_of(decide(name, alone), 0) == 2.0
    assert weight_of(decide(name, calm), 0) > 0.0


def test_myopic_solar_follows_the_array(calm: View) -> None:
    view = change(calm, a={"harvest_w": 0.0}, b={"harvest_w": 30.0}, c={"harvest_w": 30.0}, d={"harvest_w": 30.0})
    selection = decide("myopic_solar", view)
    assert weight_of(selection, 0) < 0.1 * weight_of(selection, 1)
    assert max(price for layer in selection.layers for price in layer.price) == 0.0
    dark = decide("myopic_solar", calm)
    assert dark.layers[0].price[0] == pytest.approx(0.1)


def test_thermal_balance_shares_by_headroom_and_lets_a_host_cool_before_it_returns(calm: View) -> None:
    def at(temperature_c: float) -> View:
        return change(calm, a={"temperature_c": temperature_c})

    policy = selection_policy("thermal_balance")
    state, selection = policy.select(policy.start(4), at(60.0))
    shares = {share.node: share.weight for share in selection.layers[0].hosts[0]}
    assert shares[0] / shares[1] == pytest.approx((68.0 - 60.0) / (68.0 - 50.0))
    state, _ = policy.select(state, at(68.5))
    state, warm = policy.select(state, at(66.0))
    assert weight_of(warm, 0) == 0.0
    assert "evacuated: a" in warm.reason
    _, cooled = policy.select(state, at(64.0))
    assert weight_of(cooled, 0) > 0.0


def test_sift_replaces_a_costly_expert_by_a_near_one_and_not_by_a_far_one(calm: View) -> None:
    view = replace(
        change(calm, a={"temperature_c": 80.0}), holders=(((0,), (1,), (2,), (3,)),) * 2,
        substitute=((1, 0, 3, 2), (1, 0, 3, 2)), substitute_error=((0.2,) * 4, (0.95,) * 4),
    )  # fmt: skip
    selection = decide("sift", view)
    assert selection.layers[0].substitute == (1, -1, -1, -1)
    assert selection.layers[1].substitute == (-1, -1, -1, -1)
    assert picks(selection, view).experts[0].tolist() == [1, 1]
    assert "no similarity was calibrated" in decide("sift", calm).reason


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("top_p", "p", 0.0), ("dtop_p", "ki", -1.0), ("des", "z", 1.5), ("wlr", "theta", -0.1), ("sift", "weight", -1.0),
     ("battery_life", "softness", 0.0), ("thermal_balance", "margin_c", -1.0), ("reactive_soc", "margin", 2.0)],
)  # fmt: skip
def test_options_out_of_range_are_named(name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"policy {name}: {option} is"):
        selection_policy(name, {option: value})


def test_a_node_that_costs_nothing_is_no_division_by_zero(calm: View) -> None:
    free: tuple[NodeView, ...] = tuple(replace(n, energy_per_call_j=0.0, heating_per_call_k=0.0) for n in calm.nodes)
    for name in ("des", "battery_life", "sift", "lyapunov"):
        assert decide(name, replace(calm, nodes=free)).layers
