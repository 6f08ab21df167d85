"""Batching at the gateway: many requests at once give what each gives alone, and there is an end to the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hil_config.wire.frames import Cancel, Route, Step
from hil_config.wire.plan import GatewaySlice
from models.oracle import Oracle
from models.serving.batching import CHUNK_ROWS
from node_agent.engine import gateway
from node_agent.engine.kv_cache import pasts
from node_agent.engine.lines import LineTable
from tests.node.nodes import Bench

MARGIN = 1e-3
"""fp32 partial sums and batched rows reorder additions: a token whose logit leads by less may differ, and what
follows it then rightly does too."""


@pytest.fixture
def fp32_bench(fp32_shards: Path) -> Iterator[Bench]:
    made = Bench(fp32_shards, precision="fp32", timeout_s=20.0)
    yield made
    made.close()


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(1, vocabulary, rng.integers(1, 30)).tolist() for _ in range(count)]


def begin(bench: Bench, request: int, prompt: list[int], count: int) -> None:
    bench.send(Step(request, 1, 0, count, Route(("a", "b"), "client"), len(prompt), np.array(prompt, np.int32)), "a")


def same_until_a_margin(got: list[int], wanted: list[int], margins: list[float]) -> int:
    """How many tokens were compared before a margin too small to demand equality."""
    for i, (token, want, margin) in enumerate(zip(got, wanted, margins, strict=False)):
        if margin <= MARGIN:
            return i
        assert token == want, f"token {i}, margin {margin}"
    return min(len(got), len(wanted))


def test_concurrent_requests_give_the_tokens_of_one_process_at_fp32(fp32_bench: Bench, fp32_shards: Path) -> None:
    oracle = Oracle(fp32_shards, "fp32")
    asked = prompts(8, oracle.card.vocabulary)
    for request, prompt in enumerate(asked):
        begin(fp32_bench, request, prompt, 16)

    def over(request: int) -> bool:
        mine = fp32_bench.of(request, 1)
        return len(mine) == 16 or bool(mine and mine[-1].token == oracle.card.end_of_text)

    assert fp32_bench.wait(lambda: all(over(r) for r in range(len(asked)))), fp32_bench.refusals
    compared = 0
    for request, prompt in enumerate(asked):
        wanted, margins = oracle.generate_greedy(prompt, 16)
        compared += same_until_a_margin([t.token for t in fp32_bench.of(request, 1)], wanted, margins)
    assert compared > 60, "the margins must leave something to compare"
    contexts = [fp32_bench.nodes[name].context for name in "ab"]
    assert any(c is not None and c.gateway.batched_steps > c.gateway.batches for c in contexts), "nothing was shared"


def test_a_long_prompt_goes_in_chunks_and_gives_the_same_tokens(fp32_bench: Bench, fp32_shards: Path) -> None:
    oracle = Oracle(fp32_shards, "fp32")
    prompt = np.random.default_rng(5).integers(1, oracle.card.vocabulary, 2 * CHUNK_ROWS + 7).tolist()
    wanted, margins = oracle.generate_greedy(prompt, 8)
    got = [t.token for t in fp32_bench.generate(prompt, 8)]
    assert same_until_a_margin(got, wanted, margins) >= 4
    prefill = [e for e in fp32_bench.evidence(tokens=len(got)) if e.start < len(prompt)]
    assert max(e.rows for e in prefill) == CHUNK_ROWS and len(prefill) == 2 * 3, "three chunks through two gateways"
    assert sum(e.token >= 0 for e in prefill) == 1, "only the last chunk asks the head"


def test_a_full_gateway_refuses_by_name_and_serves_what_it_took(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "STEPS", 3)
    context = 250
    for request in range(12):
        begin(bench, request, list(range(1, context)), 2)  # four chunks each: more than the gateway takes at once
    assert bench.wait(lambda: len(bench.refusals) + sum(bool(bench.of(r, 1)) for r in range(12)) >= 12)
    assert bench.refusals and all("steps are waiting already" in r.reason for r in bench.refusals)
    served = next(r for r in range(12) if bench.of(r, 1))
    assert bench.wait(lambda: len(bench.of(served, 1)) == 2 or bool(bench.refusals))


def test_a_full_gateway_goes_on_with_what_was_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next token's step of a generation was refused like a new request, and all of it had to be computed again."""
    begin(bench, 100, [5, 6, 7, 8], 60)
    assert bench.wait(lambda: len(bench.of(100, 1)) > 2)
    monkeypatch.setattr(gateway, "STEPS", 1)
    for request in range(20):
        begin(bench, request, list(range(1, 200)), 1)
    assert bench.wait(lambda: len(bench.of(100, 1)) == 60 or any(r.request == 100 for r in bench.refusals))
    assert len(bench.of(100, 1)) == 60 and {r.request for r in bench.refusals} <= set(range(20))


def test_a_prompt_fills_no_gateway_by_its_length(reference_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 256 steps at once: a prompt of more than 256 chunks was never served, whoever else was there."""
    monkeypatch.setattr(gateway, "STEPS", 3)
    made = Bench(reference_shards)
    try:
        whole = (GatewaySlice(0, made.manifest.model.layers - 1, ("a",)),)
        made.context("a").accept_plan(msgspec.structs.replace(made.plan, version=2, gateways=whole))
        for start, rows, count in ((0, 4 * CHUNK_ROWS - 10, 0), (4 * CHUNK_ROWS - 10, 5, 2)):  # four chunks, and one
            tokens = np.arange(1 + start, 1 + start + rows, dtype=np.int32)
            made.send(Step(1, 1, start, count, Route(("a",), "client"), rows, tokens), "a")
        assert made.wait(lambda: len(made.of(1, 1)) == 2 or made.refusals) and not made.refusals
    finally:
        made.close()


def test_cancelled_and_restarted_requests_leave_nothing_behind(bench: Bench) -> None:
    wanted = [t.token for t in bench.generate([5, 6, 7, 8], 10, request=1)]
    for attempt in range(1, 30):
        step = Step(2, attempt, 0, 10, Route(("a", "b"), "client"), 4, np.array([5, 6, 7, 8], np.int32))
        bench.send(step, "a")
        if attempt % 3 == 0:
            bench.send(Cancel(2, attempt), "a")
    assert [t.token for t in bench.generate([5, 6, 7, 8], 10, request=2, attempt=30)] == wanted
    context = bench.nodes["a"].context
    assert context is not None
    assert bench.wait(lambda: context.gateway.steps == 0), "steps of old attempts are still counted"


def test_a_node_may_be_a_request_s_gateway_twice(bench: Bench) -> None:
    """Where boards are few, or most of them lost, one node serves several slices of the trunk."""
    wanted = [t.token for t in bench.generate([0, 10, 11, 12], 8, request=1)]
    assert [t.token for t in bench.generate([0, 10, 11, 12], 8, request=2, route=("a", "a"))] == wanted
    bench.send(Cancel(2, 1), "a")
    bench.send(Step(2, 1, 0, 8, Route(("a", "a"), "client"), 4, np.array([0, 10, 11, 12], np.int32)), "a")
    assert bench.wait(lambda: len(bench.of(2, 1)) == 16 or bench.refusals) and not bench.refusals, "it kept a cache"
    assert [t.token for t in bench.of(2, 1)[8:]] == wanted


def test_a_node_that_is_a_gateway_twice_has_room_for_as_many_requests(
    reference_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two requests' four lines each step pushed another one out, and all began again for ever."""
    monkeypatch.setattr(gateway, "REQUESTS", 2)
    made = Bench(reference_shards)
    try:
        for request in (1, 2):
            tokens = np.array([0, 10, 11, 10 + request], np.int32)
            made.send(Step(request, 1, 0, 12, Route(("a", "a"), "client"), 4, tokens), "a")
        assert made.wait(lambda: made.refusals or all(len(made.of(request, 1)) == 12 for request in (1, 2)))
        assert not made.refusals
    finally:
        made.close()


def test_a_request_has_no_more_lines_than_the_model_has_layers() -> None:
    lines = LineTable(lambda layer: (1, 1, 1), 2, 3)
    first = [lines.get(1, stage) for stage in (0, 1, 99)]
    assert None not in first and lines.get(1, 2) is None, "whatever stages a frame names"
    assert [lines.get(1, stage) for stage in (0, 1, 99)] == first


def test_a_spoilt_cache_ends_its_own_request_only(fp32_bench: Bench, fp32_shards: Path) -> None:
    """Memory that flips a bit: its request is refused by name, one that shares its batches goes on as if alone."""
    oracle = Oracle(fp32_shards, "fp32")
    wanted, margins = oracle.generate_greedy([5, 6, 7], 40)
    first = fp32_bench.generate([1, 2, 3], 1, request=1)
    context = fp32_bench.nodes["a"].context
    assert context is not None
    line = context.gateway._lines.get(1, 0)
    assert line is not None and line.idle
    keys, _ = pasts(0, [line.cache])
    keys[1] = np.nan
    begin(fp32_bench, 2, [5, 6, 7], 40)
    for _ in range(20):  # each of them may meet the other request at a layer
        fp32_bench.refusals.clear()
        fp32_bench.send(Step(1, 1, 3, 1, Route(("a", "b"), "client"), 1, np.array([first[0].token], np.int32)), "a")
        assert fp32_bench.wait(lambda: fp32_bench.refusals)
        assert "a: layer 0 has a value that is not finite" in fp32_bench.refusals[0].reason
        assert fp32_bench.refusals[0].request == 1

    def over() -> bool:
        mine = fp32_bench.of(2, 1)
        return len(mine) == 40 or bool(mine and mine[-1].token == oracle.card.end_of_text)

    assert fp32_bench.wait(over)
    assert same_until_a_margin([t.token for t in fp32_bench.of(2, 1)], wanted, margins) > 10
    assert fp32_bench.wait(lambda: context.gateway.steps == 0), (
        "the gateway counts a step a moment after its answer left"
    )


def test_a_prompt_in_two_steps_gives_what_one_gives(fp32_bench: Bench) -> None:
    prompt = prompts(40, 2000)[7] * 6
    cut = len(prompt) // 2
    whole = [token.token for token in fp32_bench.generate(prompt, 6, request=1)]
    for start, part, count in ((0, prompt[:cut], 0), (cut, prompt[cut:], 6)):
        route = Route(("a", "b"), "client")
        fp32_bench.send(Step(2, 1, start, count, route, len(part), np.array(part, np.int32)), "a")
    assert fp32_bench.wait(lambda: len(fp32_bench.of(2, 1)) == 6)
    assert [token.token for token in fp32_bench.of(2, 1)] == whole
