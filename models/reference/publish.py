"""Turn a training run into the shipped checkpoint: python -m models.reference.publish --run DIR --out DIR

Quantises the weights, measures what training.json and README.md state, and chooses the held-out excerpts.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from models.architecture import Architecture
from models.build import build_shards
from models.checkpoint import TRAINING_NAME
from models.heldout import HELDOUT_NAME, TOKENIZER_NAME, heldout_perplexity
from models.importance import Counter, ExpertStatistics
from models.oracle import Oracle
from models.reference.corpus import DOMAINS
from models.reference.excerpts import choose_heldout, choose_prompts
from models.reference.torch_model import TorchModel
from models.reference.train import SEED, TokenArray, heldout_nll, load_run, use_one_core
from models.write_checkpoint import write_json

NAME = "spacemoe-reference-3.6m"
EVALUATION_WINDOWS = 96
CALIBRATION_WINDOWS = 32
PROMPTS_NAME = "prompts.json"

Streams = dict[str, TokenArray]


def evaluate(model: TorchModel, streams: Streams) -> dict[str, float]:
    """Held-out nats a token by domain, over up to EVALUATION_WINDOWS windows of a context each."""
    length = model.architecture.context
    return {d: heldout_nll(model, streams[f"heldout_{d}"], length, EVALUATION_WINDOWS) for d in DOMAINS}


def unigram(streams: Streams, vocabulary: int) -> dict[str, float]:
    """Held-out nats a token of a model that knows the domain and its token frequencies (add-one smoothed)."""
    out = {}
    for domain in DOMAINS:
        counts = np.bincount(streams[f"train_{domain}"], minlength=vocabulary) + 1.0
        log_share = np.log(counts / counts.sum())
        out[domain] = float(-log_share[streams[f"heldout_{domain}"]].mean())
    return out


def bytes_per_token(streams: Streams, documents: dict[str, list[str]]) -> dict[str, float]:
    """Held-out text bytes by token, end-of-text tokens included."""
    return {d: sum(len(t.encode()) for t in documents[d]) / len(streams[f"heldout_{d}"]) for d in DOMAINS}


def calibrate(shards: Path, streams: Streams, a: Architecture) -> ExpertStatistics:
    """Expert statistics over random training windows, equally many from each domain."""
    counter, rng = Counter(a.layers, a.experts), np.random.default_rng(SEED)
    oracle = Oracle(shards, "fp32", counter.observe)
    for domain in DOMAINS:
        stream = streams[f"train_{domain}"]
        for start in rng.integers(0, len(stream) - a.context, CALIBRATION_WINDOWS):
            oracle.prefill(stream[start : start + a.context].tolist())
    return counter.statistics()


def routing_by_domain(shards: Path, streams: Streams, a: Architecture) -> dict[str, list[float]]:
    """Per layer on held-out text: MI(domain; expert) in bits and the load of the busiest and idlest."""
    picked = []
    for domain in DOMAINS:
        counter = Counter(a.layers, a.experts)
        oracle, stream = Oracle(shards, "fp32", counter.observe), streams[f"heldout_{domain}"]
        for index in range(CALIBRATION_WINDOWS):
            oracle.prefill(stream[index * a.context : (index + 1) * a.context].tolist())
        picked.append(counter.picked)
    joint = np.stack(picked, axis=1).astype(np.float64)  # [layers, domains, experts]
    load = joint.sum(axis=1)
    return {
        "mutual_information_bits": [round(mutual_information(layer), 4) for layer in joint],
        "load_max_over_mean": [round(float(row.max() / row.mean()), 3) for row in load],
        "load_min_over_mean": [round(float(row.min() / row.mean()), 3) for row in load],
    }


def mutual_information(counts: npt.NDArray[np.float64]) -> float:
    """Bits shared by the row and the column of a table of counts."""
    joint = counts / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum())


def publish(run: Path, out: Path) -> dict[str, Any]:
    """Write the whole checkpoint folder and return the contents of training.json."""
    model, counters = load_run(run)
    a = model.architecture
    with np.load(run / "tokens.npz") as archive:
        streams: Streams = {name: archive[name] for name in archive.files}
    documents: dict[str, list[str]] = json.loads((run / "heldout_text.json").read_text())
    tokenizer = Tokenizer.from_file(str(run / TOKENIZER_NAME))
    model.save(out, NAME, quantised=True)
    tokenizer.save(str(out / TOKENIZER_NAME), pretty=False)
    write_json(out / HELDOUT_NAME, choose_heldout(tokenizer, documents))
    write_json(out / PROMPTS_NAME, choose_prompts(tokenizer, documents, SEED))
    (out / TRAINING_NAME).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as work:
        shards = Path(work) / "shards"
        build_shards(out, shards, ("fp32", "int8"))
        statistics = calibrate(shards, streams, a)
        routing = routing_by_domain(shards, streams, a)
        excerpts = {
            f"heldout_json_{precision}": _rounded(heldout_perplexity(Oracle(shards, precision), out))
            for precision in ("fp32", "int8")
        }
    original, stored = evaluate(model, streams), evaluate(TorchModel.from_checkpoint(out), streams)
    training = {
        **counters,
        "train_tokens": {d: len(streams[f"train_{d}"]) for d in DOMAINS},
        "bytes_per_token": _rounded(bytes_per_token(streams, documents)),
        "perplexity": _perplexity(stored),
        "perplexity_fp32_original": _perplexity(original),
        "perplexity_unigram": _perplexity(unigram(streams, a.vocabulary)),
        "perplexity_uniform": a.vocabulary,
        "perplexity_excerpts": excerpts,
        "nll": _rounded(stored),
        "nll_fp32_original": _rounded(original),
        **routing,
        "activation": statistics.activation,
        "importance": statistics.importance,
    }
    write_json(out / TRAINING_NAME, training)
    return training


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def _perplexity(nll: dict[str, float]) -> dict[str, float]:
    return {key: round(math.exp(value), 3) for key, value in nll.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the shipped checkpoint from a training run.")
    parser.add_argument("--run", type=Path, required=True, help="the --out folder of models.reference.train")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    arguments = parser.parse_args()
    use_one_core()
    training = publish(arguments.run, arguments.out)
    print(json.dumps({key: training[key] for key in ("perplexity", "perplexity_fp32_original")}, indent=1))


if __name__ == "__main__":
    main()
