"""What a plan says beside picks and hosts, between real nodes: precisions, codecs, ways, and weights on the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hil_config.wire.manifest import Manifest
from hil_config.wire.orders import LoadShards
from hil_config.wire.plan import LinkLoad, LinkRule, SelectionPlan, Transmission
from models.build import build_shards
from models.locate import reference_checkpoint
from models.serving.transmission import compile_sending
from node_agent.engine.experts import NotHeld
from node_agent.shards.store import ShardStore
from tests.node.nodes import Bench, flat_schedule, plain_plan

NAMES = ("a", "b", "c", "d")
PROMPT = [0, 10, 11, 12]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "reference"
    build_shards(reference_checkpoint(), out, ("int8", "int4"))
    return out


@pytest.fixture
def made(both: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(both, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def manifest(both: Path) -> Manifest:
    return ShardStore(both).manifest


def tokens(bench: Bench) -> list[tuple[int, float]]:
    found = [(t.token, t.logprob) for t in bench.generate(PROMPT, 10)]
    assert not bench.refusals
    return found


def at(plan: SelectionPlan, precision: str) -> SelectionPlan:
    layers = tuple(
        msgspec.structs.replace(layer, precision=tuple((precision,) * len(hosts) for hosts in layer.hosts))
        for layer in plan.layers
    )
    return msgspec.structs.replace(plan, layers=layers)


def test_hosts_serve_the_precision_the_plan_names(made: Callable[..., Bench], manifest: Manifest) -> None:
    plan = plain_plan(manifest, NAMES)
    usual, coarse = tokens(made()), tokens(made(precision="int4"))
    named = made(plan=at(plan, "int4"))
    for name in NAMES:
        held = tuple(msgspec.structs.replace(one, precision="int4") for one in named.context(name).order.experts)
        named.context(name).change(LoadShards(held, beside=True))
    assert tokens(named) == coarse != usual


def test_a_precision_that_is_not_held_is_refused_not_replaced(made: Callable[..., Bench]) -> None:
    bench = made()
    held = bench.context("a").order.experts[0]
    row, weight = np.ones((1, bench.manifest.model.hidden), np.float32), np.ones((1, 1), np.float32)
    picks = np.array([[held.expert]], np.int16)
    bank = bench.context("a").bank
    usual = bank.partial_sum(held.layer, row, picks, weight)
    assert (bank.partial_sum(held.layer, row, picks, weight, "", ((held.expert, "int8"),)).total == usual.total).all()
    with pytest.raises(NotHeld, match="int4"):
        bank.partial_sum(held.layer, row, picks, weight, "", ((held.expert, "int4"),))


def test_frames_go_in_the_codecs_of_the_rules_and_evidence_says_so(
    made: Callable[..., Bench], manifest: Manifest
) -> None:
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    rules = Transmission("fp32", tuple(LinkRule(i, j, 0, 1e-4 if j == 2 else 0.0) for i, j in pairs))
    bench = made(plan=plain_plan(manifest, NAMES, transmission=rules), codec="fp32")
    assert tokens(bench)
    sending = compile_sending(rules)
    assert sending is not None
    seen = set()
    for name, node in bench.nodes.items():
        own = NAMES.index(name)
        for record in bench.evidence(10):
            if record not in node.records:
                continue
            for layer in record.layers:
                for one in layer.sent:
                    size = one.rows, manifest.model.hidden, one.importance
                    assert one.codec == sending.codec(own, one.host, layer.layer, *size)
                    assert one.answer == sending.codec(one.host, own, layer.layer, *size)
                    seen.add((one.host, one.codec))
    assert {codec for host, codec in seen if host == 3} == {"fp32"}
    assert {codec for host, codec in seen if host == 2} - {"fp32"}


def test_frames_go_the_ways_of_the_plan(made: Callable[..., Bench], manifest: Manifest) -> None:
    apart = flat_schedule(NAMES, 0.001, frozenset({("a", "b"), ("b", "a")}))
    plan = plain_plan(manifest, NAMES, routes=((0, 3, 1), (1, 3, 0)))
    bench = made(plan=plan, schedule=apart)
    assert tokens(bench) == tokens(made(schedule=flat_schedule(NAMES, 0.001)))
    assert bench.context("d").inbound.relayed > 0 and bench.context("c").inbound.relayed == 0
    assert bench.context("a").peers.round_trip_s("b") == pytest.approx(0.004)
    bench.context("a").accept_plan(msgspec.structs.replace(plan, version=2, routes=()))
    assert not bench.context("a").peers.reachable("b")


def test_weights_on_their_way_leave_frames_the_rest_of_the_line(made: Callable[..., Bench], manifest: Manifest) -> None:
    plan = plain_plan(manifest, NAMES, loads=(LinkLoad(0, 1, 0.0, 1e9, 0.75),))
    peers = made(plan=plan, schedule=flat_schedule(NAMES, 0.001)).context("a").peers
    assert peers.state("b").rate_bit_s == pytest.approx(peers.state("c").rate_bit_s / 4)
