"""Whatever the ground says in messages of the right types, a node obeys or refuses it by name, serves, and lives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hil_config.errors import HilError
from hil_config.wire.frames import Route, Step
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.messages import ClockAnchor
from hil_config.wire.orders import DropShards, InjectFault, LoadShards, Prepare, SetDuty
from hil_config.wire.plan import LinkLoad, LinkRule, SelectionPlan, Transmission
from node_agent.run_context import RunContext
from tests.disturbed import disturb
from tests.node.nodes import Bench

ORDERS = 500
PROMPT = [0, 10, 11, 12]


@pytest.fixture
def impatient(reference_shards: Path) -> Bench:
    """Links with every feature in use, and hosts that are soon given up."""
    made = Bench(reference_shards, relay=True)
    be_patient(made, 0.05)
    return made


def be_patient(bench: Bench, floor_s: float) -> None:
    for name in bench.nodes:
        bench.context(name).hosts.floor_s = floor_s


def sources(bench: Bench) -> list[Callable[[], msgspec.Struct]]:
    order = bench.context("d").order
    rich = msgspec.structs.replace(
        bench.plan, routes=((0, 1, 2),), loads=(LinkLoad(0, 1, 0.0, 5.0, 0.5),),
        transmission=Transmission("fp32", (LinkRule(0, 1, 100, 0.5),), (), drop=True),
    )  # fmt: skip
    return [
        lambda: rich, lambda: rich, lambda: bench.plan, lambda: ClockAnchor(1, "b", 1, 1.0, 1.0),
        lambda: LoadShards(order.experts[:3], (0, 1)), lambda: DropShards(((0, 0), (1, 3)), (1,)),
        lambda: SetDuty(True, "x"), lambda: InjectFault(LinkFault("a", "b", 0.0, 5.0, True, 0.5, 0.001)),
        lambda: order,
    ]  # fmt: skip


def give(context: RunContext, message: msgspec.Struct, bench: Bench) -> None:
    """As the agent's service passes it on."""
    if isinstance(message, SelectionPlan):
        context.accept_plan(message)
    elif isinstance(message, ClockAnchor):
        context.anchor(message)
    elif isinstance(message, (LoadShards, DropShards)):
        context.change(message)
    elif isinstance(message, SetDuty):
        context.set_duty(message)
    elif isinstance(message, InjectFault):
        context.inject(message)
    elif isinstance(message, Prepare):
        other = RunContext("d", "boot-d", message, bench.nodes["d"].store, lambda record: None)
        other.start()
        other.close()


def mend(bench: Bench, version: int) -> None:
    """Everything as it was ordered at first."""
    for name in bench.nodes:
        context = bench.context(name)
        context.plans.epoch = 1
        context.peers._faults = ()
        give(context, SetDuty(True, ""), bench)
        give(context, LoadShards(context.order.experts, context.order.trunk_layers), bench)
        give(context, msgspec.structs.replace(bench.plan, version=version), bench)
        give(context, ClockAnchor(1, "b", 1, 1.0, 1.0), bench)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_order_of_the_right_type_ends_a_node(impatient: Bench, seed: int) -> None:
    bench, draw = impatient, random.Random(seed)
    made, told, obeyed, refused = sources(bench), 0, 0, 0
    before = [token.token for token in bench.generate(PROMPT, 4, request=1)]
    try:
        for number in range(ORDERS):
            message = disturb(draw, draw.choice(made)())
            try:
                give(bench.context(draw.choice("abcd")), message, bench)
                obeyed += 1
            except HilError:
                refused += 1
            bench.send(
                Step(100 + number, 1, 0, 3, Route(("a", "b"), "client"), len(PROMPT), np.array(PROMPT, np.int32)), "a"
            )
            if number % 25 == 24:
                told += 1
                mend(bench, 10**6 + number)
                be_patient(bench, 10.0)
                bench.refusals.clear()
                request = 10_000 + number
                step = Step(request, 1, 0, 4, Route(("a", "b"), "client"), len(PROMPT), np.array(PROMPT, np.int32))
                bench.send(step, "a")
                assert bench.wait(lambda request=request: len(bench.of(request, 1)) == 4), bench.refusals[-3:]
                tokens = bench.of(request, 1)
                if not any(token.degraded for token in tokens):  # a host may still count as slow
                    assert [token.token for token in tokens] == before
                be_patient(bench, 0.05)
        assert told and obeyed > ORDERS // 4 and refused > ORDERS // 10
    finally:
        bench.close()
