"""Worlds for policy tests: a calm one to change, and drawn ones with outages, heat and dead nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ground_controller.policies.view import Limits, NodeView, Outlook, PlacementProblem, View
from hil_config.wire.manifest import ModelCard, Routing
from hil_config.wire.plan import GatewaySlice

LIMITS = Limits(70.0, 80.0, 0.3, 0.2, 3.0, 0.05)
WORST: tuple[dict[str, float], ...] = ({"charge": 0.0}, {"charge": 1.0}, {"temperature_c": 95.0}, {"alive": False})


def card(layers: int, experts: int, activation: tuple[tuple[float, ...], ...] | None = None) -> ModelCard:
    even = ((2.0 / experts,) * experts,) * layers
    return ModelCard("tiny", layers, experts, 64, 64, 256, 2, 32, 128, 0, Routing(2, True), activation or even, even)


def node(name: str) -> NodeView:
    return NodeView(
        name=name,
        satellite=f"SAT {name}",
        alive=True,
        in_service=True,
        temperature_c=50.0,
        charge=0.8,
        sunlit=1.0,
        power_w=3.0,
        idle_power_w=2.6,
        energy_per_call_j=1e-3,
        heating_per_call_k=8e-5,
        calls_per_s=100.0,
        harvest_w=0.0,
    )


@pytest.fixture(scope="session")
def calm() -> View:
    """Four cool nodes a to d, 2 layers of 4 experts, each expert on two neighbours, one slice on a then b."""
    delay = np.full((4, 4), 0.01)
    np.fill_diagonal(delay, 0.0)
    holders = tuple(tuple((expert % 4, (expert + 1) % 4) for expert in range(4)) for _ in range(2))
    gateways = (GatewaySlice(0, 1, ("a", "b")),)
    return View(0.0, 1.0, tuple(map(node, "abcd")), delay, holders, gateways, card(2, 4), LIMITS)


def drawn_outlook(rng: np.random.Generator, count: int) -> Outlook:
    """Dark, lit or mixed; dies from cold to far over every limit."""
    periods = rng.uniform(5.0, 600.0, size=int(rng.integers(1, 9)))
    h = len(periods)
    harvest = rng.uniform(0.0, 40.0, size=(h, count)) * (rng.random((h, count)) < rng.random())
    base = rng.uniform(-20.0, 60.0) + rng.uniform(0.0, 40.0, size=(h, count))
    warming = np.tril(rng.uniform(0.0, 15.0, size=(h, h)))
    power = rng.uniform(0.0, 7.0, size=count)
    rate = float(rng.choice([1.0, 60.0]))
    return Outlook(periods, harvest, power, rate, base, warming, 13.0, 10.0 ** rng.uniform(4, 6), 0.97, 0.97)


@pytest.fixture(scope="session")
def drawn_view() -> Callable[[int], View]:
    def draw(seed: int) -> View:
        rng = np.random.default_rng(seed)
        count, layers, experts = int(rng.integers(2, 7)), int(rng.integers(1, 5)), int(rng.integers(2, 9))
        nodes = tuple(
            replace(
                node(f"node-{index}"),
                alive=bool(rng.random() > 0.15),
                in_service=bool(rng.random() > 0.2),
                temperature_c=float(rng.uniform(20.0, 90.0)),
                charge=float(rng.uniform(0.0, 1.0)),
                power_w=float(rng.uniform(2.0, 7.0)),
                energy_per_call_j=float(10.0 ** rng.uniform(-4, -2)) * float(rng.random() > 0.1),
                heating_per_call_k=float(10.0 ** rng.uniform(-5, -3)),
                harvest_w=float(rng.uniform(0.0, 40.0)),
            )
            for index in range(count)
        )
        delay = rng.uniform(0.001, 0.02, size=(count, count))
        delay[rng.random((count, count)) < 0.2] = np.inf
        np.fill_diagonal(delay, 0.0)
        holders = tuple(
            tuple(
                tuple(int(held) for held in rng.permutation(count)[: rng.integers(0, min(count, 3) + 1)])
                for _ in range(experts)
            )
            for _ in range(layers)
        )
        names = [str(name) for name in rng.permutation([each.name for each in nodes])]
        cut = int(rng.integers(1, layers + 1))
        gateways: tuple[GatewaySlice, ...] = (GatewaySlice(0, cut - 1, tuple(names[:2])),)
        if cut < layers:
            gateways += (GatewaySlice(cut, layers - 1, tuple(names[-2:])),)
        if seed % 8 == 7:  # all empty, full, over temperature, or dead
            worst = WORST[seed // 8 % 4]
            nodes = tuple(replace(each, **worst) for each in nodes)  # type: ignore[arg-type]
        outlook = drawn_outlook(rng, count) if seed % 4 else None
        return View(60.0, 1.0, nodes, delay, holders, gateways, card(layers, experts), LIMITS, outlook=outlook)

    return draw


@pytest.fixture(scope="session")
def drawn_problem() -> Callable[[int], PlacementProblem]:
    def draw(seed: int) -> PlacementProblem:
        rng = np.random.default_rng(seed)
        count, layers, experts = int(rng.integers(1, 7)), int(rng.integers(1, 5)), int(rng.integers(1, 9))
        delay = rng.uniform(0.001, 0.02, size=(count, count))
        np.fill_diagonal(delay, 0.0)
        need = layers * experts
        slots = rng.multinomial(need, np.full(count, 1.0 / count)) + rng.integers(0, need, size=count)
        activation = rng.dirichlet(np.full(experts, 0.7), size=layers) * 2.0
        model = card(layers, experts, tuple(tuple(map(float, row)) for row in activation))
        return PlacementProblem(
            nodes=tuple(f"node-{index}" for index in range(count)),
            expected_delay_s=delay,
            slots=tuple(int(slot) for slot in slots),
            replicas=int(rng.integers(0, 3)),
            trunk_slices=int(rng.integers(1, layers + 1)),
            model=model,
            seed=seed,
        )

    return draw
