"""Teacher-forced scoring over several nodes gives what one process gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.frames import Cancel
from models.oracle import Oracle
from tests.node.nodes import Bench


def test_log_probabilities_are_those_of_one_process(bench: Bench, reference_shards: Path) -> None:
    oracle = Oracle(reference_shards, "int8")
    tokens = [oracle.card.end_of_text, *range(300, 340), 17, 19, 23]
    got = bench.score(tokens)
    assert len(got) == len(tokens) - 1
    assert -np.mean(got) == pytest.approx(oracle.nll(tokens), abs=2e-3), "partial sums reorder additions only"
    assert not bench.tokens, "scoring generates nothing"


def test_scoring_and_generating_share_the_nodes(bench: Bench) -> None:
    first = bench.score([0, 10, 11, 12], request=1)
    bench.send(Cancel(1, 1), "a")
    assert len(bench.generate([0, 10, 11, 12], 4, request=2)) == 4
    assert bench.score([0, 10, 11, 12], request=3) == first


def test_a_single_token_cannot_be_scored(bench: Bench) -> None:
    assert bench.score([5]) == []
    assert "nothing before it" in bench.refusals[0].reason
