"""Generation over several nodes gives what one process gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.frames import Cancel, Route, Step
from hil_config.wire.messages import NodeEvent, TokenEvidence
from hil_config.wire.orders import SetDuty
from models.architecture import Architecture
from models.build import build_shards
from models.oracle import Oracle
from node_agent.shards.store import ShardStore
from tests.node.nodes import Bench, flat_schedule, plain_plan

MARGIN = 1e-3
"""Partial sums reorder additions: a token whose logit leads by less than this may differ."""


def test_fp32_shards_over_four_nodes_give_the_tokens_of_torch_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the yardstick is the torch model")
    from models.reference.torch_model import TorchModel

    a = Architecture(
        vocabulary=97, hidden=32, layers=4, heads=4, kv_heads=2, head_dim=8, experts=8, expert_width=32, top_k=2,
        context=128,
    )  # fmt: skip
    model = TorchModel.random(a, seed=5)
    model.save(tmp_path / "checkpoint", "tiny")
    build_shards(tmp_path / "checkpoint", tmp_path / "shards", ("fp32",))
    bench = Bench(tmp_path / "shards", precision="fp32")
    try:
        for request, prompt in enumerate(([5, 9, 2, 40, 41], [1], list(range(20, 60))), start=1):
            wanted, margins = model.generate_greedy(prompt, 40)
            got = [t.token for t in bench.generate(prompt, 40, request=request)]
            for position, (want, margin) in enumerate(zip(wanted, margins, strict=True)):
                if position >= len(got):
                    assert wanted[position - 1] == a.end_of_text
                    break
                if margin <= MARGIN:
                    break  # from here on the histories may differ rightly
                assert got[position] == want, f"request {request}, token {position}, margin {margin}"
            else:
                assert len(got) == 40
        assert sum(len(bench.of(r, 1)) for r in (1, 2, 3)) > 60, "the margins must leave something to compare"
    finally:
        bench.close()


def test_int8_shards_give_the_tokens_of_the_single_process_oracle(bench: Bench, reference_shards: Path) -> None:
    oracle = Oracle(reference_shards, "int8")
    prompt = [oracle.card.end_of_text, 300, 301, 302, 500, 700]
    wanted, margins = oracle.generate_greedy(prompt, 32)
    got = [t.token for t in bench.generate(prompt, 32)]
    clear = next((i for i, margin in enumerate(margins) if margin < 0.05), len(margins))
    assert clear >= 3 and got[:clear] == wanted[:clear][: len(got)]


def test_evidence_tells_where_every_row_went(bench: Bench) -> None:
    bench.generate([0, 10, 11, 12], 6)
    evidence = bench.evidence(tokens=6)
    card = bench.manifest.model
    assert {layer.layer for e in evidence for layer in e.layers} == set(range(card.layers))
    for e in evidence:
        for layer in e.layers:
            assert len(layer.scores) == 4 * e.rows * card.experts
            picks = np.frombuffer(layer.picks, "<i2").reshape(e.rows, -1)
            hosts = np.frombuffer(layer.hosts, "<i2").reshape(e.rows, -1)
            for pick, host in zip(picks.ravel(), hosts.ravel(), strict=True):
                assert host in {share.node for share in bench.plan.layers[layer.layer].hosts[pick]}
    assert sum(e.token >= 0 for e in evidence) == 6
    assert len({(e.request, e.start, layer.layer) for e in evidence for layer in e.layers}) == 6 * card.layers


def test_a_killed_host_is_replaced_by_replicas_and_no_token_is_lost(bench: Bench) -> None:
    before = [t.token for t in bench.generate([0, 10, 11, 12], 12, request=1)]
    bench.nodes["d"].close()  # holds experts, is on no route
    after = bench.generate([0, 10, 11, 12], 12, request=2)
    assert [t.token for t in after] == before, "a replica computes the same"
    lost = [r for node in "abc" for r in bench.nodes[node].records if isinstance(r, NodeEvent)]
    assert any(event.name == "PeerLost" and event.details["peer"] == "d" for event in lost)


def test_without_replicas_tokens_go_on_and_are_marked(reference_shards: Path) -> None:
    bench = Bench(reference_shards, copies=1)
    try:
        bench.nodes["d"].close()
        tokens = bench.generate([0, 10, 11, 12, 13, 14, 15], 12)
        assert tokens and all(set(t.degraded) <= {"rerouted", "lost"} for t in tokens)
        assert any("rerouted" in t.degraded for t in tokens)
        assert not any("lost" in t.degraded for t in tokens), "another live expert takes the place"
    finally:
        bench.close()


def test_mass_that_was_not_served_is_not_counted(reference_shards: Path) -> None:
    """What a host refused, and others served with less weight or nobody at all, was in the mixing mass served."""
    bench = Bench(reference_shards, copies=1)
    try:
        bench.context("d").set_duty(SetDuty(False, "too hot"))  # it can be reached, so the gate goes on picking it
        got = bench.generate([0, 10, 11, 12], 8)
        evidence = bench.evidence(tokens=len(got))
        missed = [sum(layer.rerouted + layer.lost for layer in step.layers) for step in evidence]
        assert any(missed)
        for step, count in zip(evidence, missed, strict=True):
            assert step.kept_mass < 0.999 if count else step.kept_mass == pytest.approx(1.0, abs=1e-6)
    finally:
        bench.close()


def test_outage_in_the_schedule_keeps_experts_away_without_any_loss_event(reference_shards: Path) -> None:
    down = frozenset({("a", "d"), ("d", "a"), ("b", "d"), ("d", "b")})
    bench = Bench(reference_shards, schedule=flat_schedule(("a", "b", "c", "d"), 0.001, down))
    try:
        assert len(bench.generate([0, 10, 11, 12], 8)) == 8
        for name in "ab":
            for record in bench.nodes[name].records:
                assert not (isinstance(record, NodeEvent) and record.details.get("peer") == "d")
                if isinstance(record, TokenEvidence):
                    for layer in record.layers:
                        assert 3 not in np.frombuffer(layer.hosts, "<i2")
    finally:
        bench.close()


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
def test_coarser_hidden_states_still_generate(reference_shards: Path, codec: str) -> None:
    bench = Bench(reference_shards, codec=codec)
    try:
        assert len(bench.generate([0, 10, 11, 12], 8)) == 8
    finally:
        bench.close()


def test_refusals_name_the_cause(bench: Bench) -> None:
    card = bench.manifest.model
    route = Route(("a", "b"), "client")

    def refused(step: Step, to: str = "a") -> str:
        bench.refusals.clear()
        bench.send(step, to)
        assert bench.wait(lambda: bool(bench.refusals))
        return str(bench.refusals[0].reason)

    one = np.zeros(1, np.int32)
    assert "outside the vocabulary" in refused(Step(1, 1, 0, 1, route, 1, one + card.vocabulary))
    assert "outside the vocabulary" in refused(Step(1, 1, 0, 1, route, 1, one - 1))
    assert "has 0 positions" in refused(Step(2, 1, 5, 1, route, 1, one))
    assert "beyond the model's context" in refused(
        Step(3, 1, 0, 1, route, card.context + 1, np.zeros(card.context + 1, np.int32))
    )
    assert "plan has 2" in refused(Step(4, 1, 0, 1, Route(("a",), "client"), 1, one))


def test_cancel_frees_the_cache_and_a_new_attempt_starts_over(bench: Bench) -> None:
    first = [t.token for t in bench.generate([0, 10, 11], 6, request=9, attempt=1)]
    bench.send(Cancel(9, 1), "a")
    assert [t.token for t in bench.generate([0, 10, 11], 6, request=9, attempt=2)] == first


def test_plan_with_high_prices_uses_fewer_experts(reference_shards: Path) -> None:
    names = ("a", "b", "c", "d")
    manifest = ShardStore(reference_shards).manifest
    base = plain_plan(manifest, names)
    layers = tuple(type(x)((0.35,) * manifest.model.experts, x.hosts, x.substitute) for x in base.layers)
    plan = plain_plan(manifest, names, k_min=1, threshold=0.0, layers=layers)
    bench = Bench(reference_shards, plan=plan)
    try:
        tokens = bench.generate([0, 10, 11, 12], 8)
        rows = used = 0
        for e in bench.evidence(len(tokens)):
            for layer in e.layers:
                rows += e.rows
                used += int((np.frombuffer(layer.picks, "<i2") >= 0).sum())
        assert rows <= used < 2 * rows
    finally:
        bench.close()
