"""The rules of `horizon`, and the program behind it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ground_controller.physics.ageing import step_wear
from ground_controller.policies.foresight import Problem, _charge
from ground_controller.policies.horizon import Horizon
from ground_controller.policies.view import Outlook, View
from hil_config.errors import ConfigError

SUN_W = 32.0


def view_of(calm: View, drawn: Outlook, **changes: dict[str, float]) -> View:
    """`calm` with the outlook; calls that cost 5 mJ; and changes by node."""
    nodes = tuple(
        replace(each, power_w=3.0, energy_per_call_j=5e-3, temperature_c=40.0, **changes.get(each.name, {}))  # type: ignore[arg-type]
        for each in calm.nodes
    )
    return replace(calm, nodes=nodes, outlook=drawn, experts_per_row=2.0)


def settle(view: View, policy: Horizon | None = None) -> tuple[dict[str, float], float, str]:
    """Share of the rows of each node, the largest price and the reason, after some ticks."""
    policy = policy or Horizon()
    state = policy.start(len(view.nodes))
    for _ in range(8):
        state, selection = policy.select(state, view)
    total = dict.fromkeys((node.name for node in view.nodes), 0.0)
    for layer in selection.layers:
        for held in layer.hosts:
            for share in held:
                total[view.nodes[share.node].name] += share.weight
    rows = sum(total.values())
    return {n: t / rows for n, t in total.items()}, max(max(x.price) for x in selection.layers), selection.reason


@pytest.fixture
def drawn(calm: View) -> Outlook:
    """Six periods of 600 s, all lit; a die that warms by 15 K/W within a period."""
    shape = (6, 4)
    return Outlook(
        np.full(6, 600.0), np.full(shape, SUN_W), np.full(4, 3.0), 1.0, np.zeros(shape), 15.0 * np.eye(6), 13.0,
        200_000.0, 0.97, 0.97,
    )  # fmt: skip


def test_where_nothing_is_lacking_work_is_even_and_free(calm: View, drawn: Outlook) -> None:
    part, price, reason = settle(view_of(calm, drawn))
    assert part == pytest.approx(dict.fromkeys("abcd", 0.25), abs=1e-6)
    assert price == 0.0
    assert "no node is to be spared" in reason


def test_a_node_is_spared_before_its_eclipse_if_its_battery_will_not_be_full(calm: View, drawn: Outlook) -> None:
    """All in sunlight now. d enters the shadow next with a battery that the rest of the light does not fill."""
    harvest = drawn.harvest_w.copy()
    harvest[1:5, 3] = 0.0
    full = settle(view_of(calm, replace(drawn, harvest_w=harvest), d={"charge": 1.0}))[0]
    low, _, reason = settle(view_of(calm, replace(drawn, harvest_w=harvest), d={"charge": 0.5}))
    assert low["d"] < 0.5 * full["d"]
    assert full["d"] == pytest.approx(0.25, abs=0.01)
    assert "d is spared most now" in reason


def test_in_the_dark_rows_go_to_the_light(calm: View, drawn: Outlook) -> None:
    harvest = drawn.harvest_w.copy()
    harvest[:2, 2] = 0.0
    part = settle(view_of(calm, replace(drawn, harvest_w=harvest)))[0]
    assert part["c"] < 0.1
    blind = settle(view_of(calm, replace(drawn, harvest_w=harvest)), Horizon(wear=0.0))[0]
    assert blind["c"] == pytest.approx(0.25, abs=0.01)


def test_a_node_that_will_be_hot_gives_its_rows_away_and_nothing_is_priced(calm: View, drawn: Outlook) -> None:
    base = np.tile([0.0, 27.0, 0.0, 0.0], (6, 1))  # b: 67 C and more with its own 2.7 W
    part, price, _ = settle(view_of(calm, replace(drawn, base_c=base)))
    assert part["b"] < 0.15
    assert price < 0.005


def test_where_all_will_be_hot_picks_are_priced_up_to_the_cap(calm: View, drawn: Outlook) -> None:
    base = np.full((6, 4), 40.0)
    policy = Horizon(price_cap=0.2)
    part, price, reason = settle(view_of(calm, replace(drawn, base_c=base)), policy)
    assert 0.195 < price <= 0.2
    assert part == pytest.approx(dict.fromkeys("abcd", 0.25), abs=1e-6)
    assert "a pick costs up to 0.20 gate" in reason


def test_without_an_outlook_or_rows_or_on_a_large_bench_lyapunov_answers(calm: View, drawn: Outlook) -> None:
    assert settle(calm)[2].startswith("there is no outlook, so as lyapunov: ")
    idle = tuple(replace(node, calls_per_s=0.0) for node in calm.nodes)
    assert "no rows" in settle(replace(calm, nodes=idle, outlook=drawn))[2]
    assert "so as lyapunov" in settle(view_of(calm, drawn), Horizon(most_nodes=3))[2]


@pytest.mark.parametrize("option", ["band_k", "price_cap", "rounds"])
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"policy horizon: {option} is 0"):
        Horizon(**{option: 0})


def test_the_pull_is_the_gradient_of_wear() -> None:
    """Against differences, on a battery that is discharged, nearly filled, and discharged again."""
    one = np.ones((1, 1))
    p = Problem(
        period_s=np.full(6, 600.0), harvest_w=np.array([[0.0], [0.0], [40.0], [40.0], [0.0], [0.0]]),
        base_c=np.zeros((6, 1)), warming_k_w=np.eye(6), power_w=np.full(1, 3.0), charge=np.array([0.9]),
        hosts=np.zeros((1, 1), np.intp), host=one > 0, group_w=one, relative_j=one[0], base_load_w=13.0,
        battery_j=200_000.0, charge_efficiency=1.0, discharge_efficiency=1.0, target_c=60.0, band_k=4.0,
        least_charge=0.0, band_charge=0.01, heat=0.0, low=0.0, wear=1.0, price_per_k=0.0, price_cap=1.0, give=0.0,
    )  # fmt: skip

    def wear(power: np.ndarray) -> float:
        depth = 1.0 - np.vstack([p.charge, _charge(p, power)[0]])
        return float(step_wear(depth[:-1], depth[1:]).sum())

    power = np.full((6, 1), 3.0)
    pull = _charge(p, power)[1]
    for h in range(6):
        nudge = np.zeros_like(power)
        nudge[h] = 1e-4
        slope = (wear(power + nudge) - wear(power - nudge)) / (2e-4 * 600.0 / p.battery_j)
        assert math.isclose(pull[h, 0], max(slope, 0.0), rel_tol=1e-3, abs_tol=1e-6)


def test_coverage_is_that_of_top_p_and_lowers_the_work_it_expects(calm: View, drawn: Outlook) -> None:
    view = replace(view_of(calm, drawn), experts_per_row=1.6)
    _, plain = Horizon().select(Horizon().start(len(view.nodes)), view)
    _, less = Horizon(coverage=0.8).select(Horizon().start(len(view.nodes)), view)
    assert plain.coverage == 1.0 and less.coverage == 0.8
    _, blind = Horizon(coverage=0.8).select(Horizon().start(len(view.nodes)), replace(view, outlook=None))
    assert blind.coverage == 0.8 and "as lyapunov" in blind.reason
    with pytest.raises(ConfigError, match="coverage"):
        Horizon(coverage=0.0)
