"""What losing one expert costs: python -m models.reference.ablation --shards DIR

Leaves out each expert in turn and measures the rise in held-out nats a token on heldout.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.heldout import heldout_perplexity
from models.locate import reference_checkpoint
from models.oracle import Oracle

FloatTable = npt.NDArray[np.float64]


def ablate(oracle: Oracle, checkpoint: Path) -> FloatTable:
    """Rise in nats a token, mean over domains, without each expert: [layers, experts]."""
    card = oracle.card

    def mean_nll() -> float:
        values = heldout_perplexity(oracle, checkpoint).values()
        return sum(math.log(value) for value in values) / len(values)

    whole, rise = mean_nll(), np.zeros((card.layers, card.experts))
    for layer in range(card.layers):
        for expert in range(card.experts):
            oracle.lost = frozenset({(layer, expert)})
            rise[layer, expert] = mean_nll() - whole
    oracle.lost = frozenset()
    return rise


def rank_correlation(a: FloatTable, b: FloatTable) -> float:
    """Spearman's coefficient of two tables; ties rank by position."""
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (a, b)]
    return float(np.asarray(np.corrcoef(np.stack(ranks)))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the loss of each expert of the reference model.")
    parser.add_argument("--shards", type=Path, required=True, help="folder built with --precision fp32")
    arguments = parser.parse_args()
    oracle = Oracle(arguments.shards, "fp32")
    rise = ablate(oracle, reference_checkpoint())
    report = {
        "layers": [
            {
                "least": round(row.min(), 4),
                "median": round(float(np.median(row)), 4),
                "most": round(row.max(), 4),
            }
            for row in rise
        ],
        "rank_correlation_importance": round(rank_correlation(rise, np.array(oracle.card.importance)), 3),
        "rank_correlation_activation": round(rank_correlation(rise, np.array(oracle.card.activation)), 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
