"""Four agents, fp32: mutual TLS, seals, the shaper and a relay change the time of the tokens and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hil_config.wire.messages import LinkReport
from models.architecture import Architecture
from models.build import build_shards
from tests.node.nodes import Bench, flat_schedule

NAMES = ("a", "b", "c", "d")
MARGIN = 1e-3
"""Partial sums reorder additions: a token whose logit leads by less than this may differ."""
PROMPT, COUNT = [5, 9, 2, 40, 41], 24
DELAY_S, RATE_BIT_S = 0.01205, 50e6
GATEWAYS_APART = frozenset({("a", "b"), ("b", "a")})


class Tiny(NamedTuple):
    """Shards of a small random model, and what one process generates with it."""

    shards: Path
    tokens: list[int]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    pytest.importorskip("torch", reason="the yardstick is the torch model")
    from models.reference.torch_model import TorchModel

    home = tmp_path_factory.mktemp("tiny")
    model = TorchModel.random(
        Architecture(
            vocabulary=97, hidden=32, layers=4, heads=4, kv_heads=2, head_dim=8, experts=8, expert_width=32, top_k=2,
            context=128,
        ),
        seed=5,
    )  # fmt: skip
    model.save(home / "checkpoint", "tiny")
    build_shards(home / "checkpoint", home / "shards", ("fp32",))
    wanted, margins = model.generate_greedy(PROMPT, COUNT)
    clear = next((i for i, margin in enumerate(margins) if margin <= MARGIN), len(margins))
    assert clear >= 16, "the margins must leave something to compare"
    return Tiny(home / "shards", wanted[:clear])


def _generate(tiny: Tiny, **options: Any) -> tuple[list[int], list[LinkReport]]:
    bench = Bench(tiny.shards, precision="fp32", timeout_s=10.0, **options)
    try:
        got = [t.token for t in bench.generate(PROMPT, len(tiny.tokens))]
        contexts = [node.context for node in bench.nodes.values()]
        return got, [report for context in contexts if context for report in context.peers.reports()]
    finally:
        bench.close()


def test_mutual_tls(tiny: Tiny, identities: Path) -> None:
    assert _generate(tiny, identities=identities)[0] == tiny.tokens


def test_mutual_tls_and_seals(tiny: Tiny, identities: Path) -> None:
    assert _generate(tiny, identities=identities, sealed=True)[0] == tiny.tokens


def test_through_the_shaper(tiny: Tiny, identities: Path) -> None:
    schedule = flat_schedule(NAMES, DELAY_S, rate_bit_s=RATE_BIT_S)
    got, reports = _generate(tiny, identities=identities, sealed=True, schedule=schedule)
    assert got == tiny.tokens
    shaped = [report for report in reports if report.peer in NAMES]
    assert shaped and all(sum(report.histogram) == report.frames for report in shaped)
    for report in shaped:
        assert report.scheduled_us >= DELAY_S * 1e6 - 1.0, "no frame was scheduled sooner than the delay"
        assert report.error_us[0] >= 0.0, "and none handed over before it was due"


def test_with_a_relay_hop(tiny: Tiny, identities: Path) -> None:
    schedule = flat_schedule(NAMES, DELAY_S, GATEWAYS_APART, RATE_BIT_S)
    got, _ = _generate(tiny, identities=identities, sealed=True, relay=True, schedule=schedule)
    assert got == tiny.tokens
