"""Train the reference model: python -m models.reference.train --corpus DIR --out DIR --minutes N

Runs on one CPU core, resumes from its last checkpoint, and writes the learning curve to `curve.jsonl`.
The learning rate follows the share of the time budget used, so a resumed or shortened run still decays to 0.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from models.architecture import Architecture
from models.reference.corpus import DOMAINS, load_domain
from models.reference.torch_model import TorchModel

END_OF_TEXT = "<|endoftext|>"
SEED = 7
PEAK_RATE = 3e-3
WARMUP = 0.02
BALANCE = 0.02
CHECKPOINT_S = 120.0
EVALUATE_S = 240.0

TokenArray = npt.NDArray[np.uint16]


def train_tokenizer(documents: dict[str, list[str]], vocabulary: int) -> Tokenizer:
    """Byte-level BPE over equal shares of the domains; digits stay single so that numbers share tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = [text for texts in documents.values() for text in texts[: max(1, len(texts) // 2)]]
    tokenizer.train_from_iterator(sample, trainer)
    return tokenizer


def tokenise(tokenizer: Tokenizer, documents: list[str]) -> TokenArray:
    """All documents as one stream [tokens], an end-of-text token after each."""
    end = int(tokenizer.token_to_id(END_OF_TEXT) or 0)
    stream: list[int] = []
    for encoding in tokenizer.encode_batch(documents):
        stream.extend(encoding.ids)
        stream.append(end)
    return np.array(stream, dtype=np.uint16)


def prepare(corpus: Path, out: Path, vocabulary: int) -> None:
    """Write tokenizer.json, tokens.npz (train and held-out stream per domain) and heldout_text.json once."""
    if (out / "tokens.npz").exists():
        return
    train, heldout = {}, {}
    for domain in DOMAINS:
        train[domain], heldout[domain] = load_domain(domain, corpus)
    tokenizer = train_tokenizer(train, vocabulary)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "heldout_text.json").write_text(json.dumps(heldout))
    streams = {f"train_{domain}": tokenise(tokenizer, train[domain]) for domain in DOMAINS}
    streams |= {f"heldout_{domain}": tokenise(tokenizer, heldout[domain]) for domain in DOMAINS}
    with open(out / "tokens.part", "wb") as handle:
        np.savez(handle, **streams)  # type: ignore[arg-type]
    os.replace(out / "tokens.part", out / "tokens.npz")


def sample_batch(streams: dict[str, TokenArray], length: int, rng: np.random.Generator) -> torch.Tensor:
    """One random window a domain: [domains, length + 1] int64. A sequence never mixes domains."""
    rows = []
    for domain in DOMAINS:
        stream = streams[f"train_{domain}"]
        start = int(rng.integers(0, len(stream) - length - 1))
        rows.append(stream[start : start + length + 1].astype(np.int64))
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def heldout_nll(model: TorchModel, stream: TokenArray, length: int, windows: int) -> float:
    """Mean negative log-likelihood in nats a token over the first `windows` windows of a held-out stream."""
    count = min(windows, (len(stream) - 1) // length)
    total = 0.0
    for index in range(count):
        window = torch.from_numpy(stream[index * length : (index + 1) * length + 1].astype(np.int64))
        total += float(F.cross_entropy(model(window[:-1]), window[1:]))
    return total / count


def learning_rate(progress: float) -> float:
    """Linear warm-up over WARMUP of the budget, then a cosine to zero. `progress` in 0..1."""
    if progress < WARMUP:
        return PEAK_RATE * (progress / WARMUP + 1e-3)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


class Run:
    """Model, optimiser and counters of one training run, with its checkpoint file."""

    def __init__(self, architecture: Architecture, out: Path) -> None:
        self.out, self.step, self.elapsed = out, 0, 0.0
        torch.manual_seed(SEED)
        self.rng = np.random.default_rng(SEED)
        self.model = TorchModel(architecture)
        matrices = [value for value in self.model.parameters() if value.ndim > 1]
        vectors = [value for value in self.model.parameters() if value.ndim == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
            lr=PEAK_RATE, betas=(0.9, 0.98), eps=1e-9,
        )  # fmt: skip

    def save(self) -> None:
        """Write `last.pt` so that a reader sees the old or the new one, never half of one."""
        part = self.out / "last.pt.part"
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "architecture": asdict(self.model.architecture),
                "step": self.step,
                "elapsed": self.elapsed,
                "rng": json.dumps(self.rng.bit_generator.state),
            },
            part,
        )
        os.replace(part, self.out / "last.pt")

    def resume(self) -> None:
        path = self.out / "last.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.rng.bit_generator.state = json.loads(state["rng"])

    def train_step(self, batch: torch.Tensor, rate: float) -> tuple[float, float]:
        """One AdamW step; returns the language loss (nats a token) and the mean balance loss of a layer."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        logits, balance = self.model.run(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        self.optimiser.zero_grad(set_to_none=True)
        (loss + BALANCE * balance).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach()), float(balance.detach()) / self.model.architecture.layers


def train(run: Run, streams: dict[str, TokenArray], minutes: float) -> None:
    """Train until the time budget is used; budget and elapsed time count wall time over all resumptions."""
    length = run.model.architecture.context
    budget, before, started = minutes * 60, run.elapsed, time.monotonic()
    saved = evaluated = started
    while True:
        now = time.monotonic()
        run.elapsed = before + now - started
        if run.elapsed >= budget:
            break
        loss, balance = run.train_step(sample_batch(streams, length, run.rng), learning_rate(run.elapsed / budget))
        if run.step % 100 == 0:
            print(f"step {run.step} {run.elapsed:.0f} s loss {loss:.3f} balance {balance:.3f}", flush=True)
        if now - evaluated > EVALUATE_S:
            evaluated = now
            _record(run, streams, length)
        if now - saved > CHECKPOINT_S:
            saved = now
            run.save()
    _record(run, streams, length)
    run.save()


def _record(run: Run, streams: dict[str, TokenArray], length: int) -> None:
    nll = {domain: round(heldout_nll(run.model, streams[f"heldout_{domain}"], length, 16), 4) for domain in DOMAINS}
    line = {
        "step": run.step,
        "seconds": round(run.elapsed),
        "cpu_seconds": round(time.process_time()),
        "nll": nll,
    }
    with open(run.out / "curve.jsonl", "a") as handle:
        handle.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def load_run(run: Path) -> tuple[TorchModel, dict[str, Any]]:
    """The trained model and the counters of its run."""
    state = torch.load(run / "last.pt", weights_only=True)
    model = TorchModel(Architecture(**state["architecture"]))
    model.load_state_dict(state["model"])
    batch = len(DOMAINS) * model.architecture.context
    counters = {
        "steps": state["step"],
        "tokens_seen": state["step"] * batch,
        "minutes": round(state["elapsed"] / 60, 1),
        "parameters": sum(value.numel() for value in model.parameters()),
        "curve": [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()],
    }
    return model.eval(), counters


def use_one_core() -> None:
    """Torch would otherwise take all cores, and a model this small gains nothing from a second one."""
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the reference mixture-of-experts model on one core.")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokens, checkpoints and the curve")
    parser.add_argument("--minutes", type=float, default=35.0, help="wall time budget")
    arguments = parser.parse_args()
    use_one_core()
    arguments.out.mkdir(parents=True, exist_ok=True)
    architecture = Architecture()
    prepare(arguments.corpus, arguments.out, architecture.vocabulary)
    with np.load(arguments.out / "tokens.npz") as archive:
        streams = {name: archive[name] for name in archive.files}
    run = Run(architecture, arguments.out)
    run.resume()
    train(run, streams, arguments.minutes)


if __name__ == "__main__":
    main()
