"""What a request is answered does not depend on who shares its batches, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_config.wire.frames import Token
from tests.node.nodes import Bench
from tests.node.test_gateway import begin, prompts

COUNT = 24


@pytest.fixture(params=["fp32", "int8"])
def lone_copies(request: pytest.FixtureRequest, fp32_shards: Path, reference_shards: Path) -> Iterator[Bench]:
    """Experts held once: a hedge or a reroute adds up in another order, and says so in the evidence."""
    shards = fp32_shards if request.param == "fp32" else reference_shards
    made = Bench(shards, precision=request.param, copies=1, timeout_s=20.0)
    yield made
    made.close()


def test_each_request_of_a_crowd_gets_what_it_gets_alone(lone_copies: Bench) -> None:
    bench = lone_copies
    end = bench.manifest.model.end_of_text
    asked = prompts(12, bench.manifest.model.vocabulary)

    def over(tokens: list[Token]) -> bool:
        return len(tokens) == COUNT or bool(tokens and tokens[-1].token == end)

    for request, prompt in enumerate(asked):
        begin(bench, request, prompt, COUNT)
    assert bench.wait(lambda: all(over(bench.of(r, 1)) for r in range(len(asked)))), bench.refusals
    contexts = [bench.nodes[name].context for name in "ab"]
    assert any(c is not None and c.gateway.batched_steps > 2 * c.gateway.batches for c in contexts), (
        "nothing was shared"
    )
    for request, prompt in enumerate(asked):
        alone = len(asked) + request
        begin(bench, alone, prompt, COUNT)
        assert bench.wait(lambda alone=alone: over(bench.of(alone, 1))), bench.refusals
        together, lone = ([(t.token, t.logprob, t.margin) for t in bench.of(r, 1)] for r in (request, alone))
        assert together == lone, f"request {request}, prompt of {len(prompt)}"
