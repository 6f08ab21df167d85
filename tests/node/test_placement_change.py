"""Experts and trunk layers come and go while tokens are generated; nothing unverified is ever served."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hil_config.errors import ArtefactError, EnvironmentFault
from hil_config.wire.frames import Route, Step
from hil_config.wire.manifest import Precision
from hil_config.wire.messages import NodeEvent
from hil_config.wire.orders import DropShards, ExpertHolding, LoadShards
from models.build import build_shards
from models.locate import reference_checkpoint
from node_agent.engine.experts import NotHeld
from node_agent.engine.holdings import Holdings
from node_agent.engine.trunk import open_trunk
from node_agent.shards.store import ShardStore
from tests.node.nodes import Bench, flat_schedule
from tests.node.test_groups import needs_grouping

PROMPT = [0, 10, 11, 12]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "reference"
    build_shards(reference_checkpoint(), out, ("int8", "fp32"))
    return out


@pytest.fixture
def two_copies(both: Path) -> Iterator[Bench]:
    made = Bench(both)
    yield made
    made.close()


def held(bench: Bench, name: str) -> tuple[ExpertHolding, ...]:
    return bench.context(name).order.experts


def test_dropped_experts_are_served_by_their_replicas_and_come_back(two_copies: Bench) -> None:
    before = [t.token for t in two_copies.generate(PROMPT, 10, request=1)]
    everything = tuple((h.layer, h.expert) for h in held(two_copies, "d"))
    two_copies.context("d").change(DropShards(everything))
    assert two_copies.context("d").holdings.bytes < 40 << 20
    after = two_copies.generate(PROMPT, 10, request=2)
    assert [t.token for t in after] == before and not any(t.degraded for t in after)
    calls = two_copies.context("d").expert_calls
    two_copies.context("d").change(LoadShards(held(two_copies, "d")))
    assert [t.token for t in two_copies.generate(PROMPT, 10, request=3)] == before
    assert two_copies.context("d").expert_calls > calls, "it serves again"
    events = [r for r in two_copies.nodes["d"].records if isinstance(r, NodeEvent) and r.name == "ShardsChanged"]
    assert [e.details["order"] for e in events] == ["drop", "load"]
    assert events[1].details["bytes"] == two_copies.context("d").holdings.bytes


def test_precision_is_exchanged_under_load_without_a_lost_token(two_copies: Bench) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def swap() -> None:
        try:
            for turn in range(100):
                if stop.is_set():
                    return
                precision: Precision = "fp32" if turn % 2 == 0 else "int8"
                for name in "abcd":
                    experts = tuple(ExpertHolding(h.layer, h.expert, precision) for h in held(two_copies, name)[:4])
                    two_copies.context(name).change(LoadShards(experts))
        except BaseException as error:  # the test thread raises it
            failures.append(error)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for request in range(4):
            tokens = two_copies.generate(PROMPT, 16, request=request)
            assert tokens and not any(t.degraded for t in tokens)
    finally:
        stop.set()
        swapper.join(30.0)
    assert not failures and not two_copies.refusals


def test_a_damaged_shard_is_refused_and_nothing_changes(both: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(both, folder)
    store = ShardStore(folder)
    holdings = Holdings(store, (ExpertHolding(0, 0, "int8"),), (), 0)
    size = holdings.bytes
    victim = folder / store.manifest.find("expert", "int8", 0, 1).name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ArtefactError, match="sha256"):
        holdings.load(LoadShards((ExpertHolding(1, 1, "int8"), ExpertHolding(0, 1, "int8"))))
    assert holdings.bytes == size
    row = np.ones((1, store.manifest.model.hidden), np.float32)
    weight = np.ones((1, 1), np.float32)
    assert holdings.bank.partial_sum(0, row, np.array([[0]], np.int16), weight).calls == 1
    for layer, expert in ((0, 1), (1, 1)):
        with pytest.raises(NotHeld):
            holdings.bank.partial_sum(layer, row, np.array([[expert]], np.int16), weight)


def test_the_budget_counts_old_and_new_while_they_are_exchanged(both: Path) -> None:
    store = ShardStore(both)
    small, large = (store.manifest.find("expert", p, 0, 0).bytes for p in ("int8", "fp32"))
    holdings = Holdings(store, (ExpertHolding(0, 0, "int8"),), (), small + large - 1)
    exchange = LoadShards((ExpertHolding(0, 0, "fp32"),))
    with pytest.raises(EnvironmentFault, match=f"{small + large} bytes of shards are needed to load, the budget is"):
        holdings.load(exchange)
    assert holdings.bytes == small
    holdings.drop(DropShards(((0, 0),)))
    holdings.load(exchange)
    assert holdings.bytes == large
    with pytest.raises(EnvironmentFault, match="to prepare the run"):
        Holdings(store, (ExpertHolding(0, 0, "fp32"), ExpertHolding(0, 1, "fp32")), (), large)
    with pytest.raises(ArtefactError, match="layer 3 expert 2 is not held here"):
        holdings.drop(DropShards(((3, 2),)))


def test_a_gateway_takes_over_trunk_layers_while_it_runs(two_copies: Bench) -> None:
    before = [t.token for t in two_copies.generate(PROMPT, 8, request=1)]
    layers = tuple(range(two_copies.manifest.model.layers))
    two_copies.context("c").change(DropShards((), layers))
    two_copies.generate(PROMPT, 8, request=2, route=("c", "b"))
    assert two_copies.refusals and "does not hold trunk layers" in two_copies.refusals[0].reason
    two_copies.refusals.clear()
    two_copies.context("c").change(LoadShards((), layers))
    assert [t.token for t in two_copies.generate(PROMPT, 8, request=3, route=("c", "b"))] == before


@pytest.fixture
def far_apart(both: Path) -> Iterator[Bench]:
    """Calls travel for a while."""
    made = Bench(both, schedule=flat_schedule(("a", "b", "c", "d"), delay_s=0.2), timeout_s=10.0)
    yield made
    made.close()


def begin(bench: Bench) -> None:
    """A generation of whose first layer a host has computed its part; its reply is on the way back."""
    bench.send(Step(1, 1, 0, 8, Route(("a", "b"), "client"), 4, np.array(PROMPT, np.int32)), "a")
    until(lambda: any(bench.context(name).expert_calls for name in "bcd"))


def until(done: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 30.0, threading.Event()
    while not done():
        assert time.monotonic() < deadline
        pause.wait(0.001)


@pytest.mark.parametrize("how", ["dropped", "closed"])
def test_a_step_under_way_ends_with_the_trunk_it_began_with(far_apart: Bench, how: str) -> None:
    """What comes back passes the slice's other layers; the next step is refused."""
    begin(far_apart)
    holdings = far_apart.context("a").holdings
    if how == "closed":
        holdings.let_go()  # as a run does that is closed: who reads from peers may still be at work
    else:
        holdings.trunk.replace(open_trunk(far_apart.nodes["a"].store, ()))
    assert far_apart.wait(lambda: far_apart.refusals)
    assert "a: does not hold trunk layers [0, " in far_apart.refusals[0].reason
    assert 1 <= len(far_apart.of(1, 1)) < 8


@needs_grouping
def test_what_served_a_run_is_gone_with_it(two_copies: Bench) -> None:
    context = two_copies.context("d")
    served = two_copies.generate(PROMPT, 2, request=1)
    groups = [weakref.ref(group) for group in context.bank.held.grouped.values()]
    gc.collect()
    gc.disable()
    try:
        context.close()
        assert served and groups and not any(group() for group in groups)
    finally:
        gc.enable()
