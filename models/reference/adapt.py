"""Train a low-rank delta of the reference experts on a domain it never saw.

    python -m models.reference.adapt --text dict-devil/usr/share/dictd/devil.dict.dz --out satire.npz --seconds 60

The text is The Devil's Dictionary (Ambrose Bierce, 1906-1911; public domain) as the Debian package dict-devil
ships it. Only the factors A and B of each expert's two products move (LoRA, arXiv 2106.09685); the base stays as it
is stored. `--half 0` and `--half 1` train on disjoint halves of the documents, as two nodes would.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.func import functional_call

from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.reference.corpus import is_heldout
from models.reference.torch_model import TorchModel
from models.reference.train import TokenArray, heldout_nll, tokenise, use_one_core
from models.write_checkpoint import write_json

BATCH = 4
PEAK_RATE = 4e-3
HELDOUT_BYTES = 6000
SEED = 11

Factors = dict[str, torch.Tensor]


def entries(path: Path) -> list[str]:
    """The dictionary's entries, one document each; the front matter is left out."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    text = text[text.index("PREFACE") :]
    found = re.split(r"\n(?=[A-Z][A-Z' -]+(?:, | \())", text)
    return [re.sub(r"\n +", "\n", entry).strip() + "\n" for entry in found if len(entry) > 60]


def start(model: TorchModel, rank: int) -> Factors:
    """Per layer `<n>.gate_up.a` [E, H, r], `.b` [E, r, 2I], `<n>.y.a` [E, I, r], `.b` [E, r, H]; b begins at 0."""
    a = model.architecture
    out: Factors = {}
    for layer in range(a.layers):
        for site, inputs, outputs in (("gate_up", a.hidden, 2 * a.expert_width), ("y", a.expert_width, a.hidden)):
            out[f"{layer}.{site}.a"] = torch.randn(a.experts, inputs, rank) * inputs**-0.5
            out[f"{layer}.{site}.b"] = torch.zeros(a.experts, rank, outputs)
    return {name: value.requires_grad_() for name, value in out.items()}


def merged(model: TorchModel, factors: Factors) -> dict[str, torch.Tensor]:
    """The experts' weights with the delta added, by parameter name."""
    out = {}
    for layer, block in enumerate(model.blocks):
        for site, name in (("gate_up", "gate_up"), ("y", "down")):
            delta = torch.bmm(factors[f"{layer}.{site}.a"], factors[f"{layer}.{site}.b"]).transpose(1, 2)
            out[f"blocks.{layer}.{name}"] = getattr(block, name).detach() + delta
    return out


def train(model: TorchModel, stream: TokenArray, rank: int, seconds: float) -> tuple[Factors, int]:
    """Factors after `seconds` of CPU time on random windows of `stream`, and the tokens seen."""
    torch.manual_seed(SEED)
    rng, length = np.random.default_rng(SEED), model.architecture.context
    factors = start(model, rank)
    optimiser = torch.optim.AdamW(factors.values(), lr=PEAK_RATE, weight_decay=0.0)
    begun, seen = time.process_time(), 0
    while (used := (time.process_time() - begun) / seconds) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * (1.0 - used)
        starts = rng.integers(0, len(stream) - length - 1, BATCH)
        batch = torch.from_numpy(np.stack([stream[s : s + length + 1] for s in starts]).astype(np.int64))
        x = functional_call(_Loss(model), {f"model.{k}": v for k, v in merged(model, factors).items()}, (batch,))
        optimiser.zero_grad(set_to_none=True)
        x.backward()
        torch.nn.utils.clip_grad_norm_(factors.values(), 1.0)
        optimiser.step()
        seen += BATCH * length
    return {name: value.detach() for name, value in factors.items()}, seen


class _Loss(torch.nn.Module):
    """Language loss of token windows [B, T + 1], for `functional_call`."""

    def __init__(self, model: TorchModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits, _ = self.model.run(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def arrays(factors: Factors) -> dict[str, npt.NDArray[np.float16]]:
    """The factors expert by expert, under the names `models.adapt.read_factors` knows; float16 halves the file."""
    return {
        f"{layer}.{expert}.{site}.{part}": np.ascontiguousarray(value[expert].numpy(), dtype=np.float16)
        for name, value in factors.items()
        for layer, site, part in [name.split(".")]
        for expert in range(len(value))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a low-rank delta of the reference experts.")
    parser.add_argument("--text", type=Path, required=True, help="devil.dict.dz of the Debian package dict-devil")
    parser.add_argument("--out", type=Path, required=True, help="factors (.npz)")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time budget")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--half", type=int, choices=(0, 1), help="train on one half of the documents only")
    parser.add_argument("--heldout", type=Path, help="write held-out excerpts here")
    arguments = parser.parse_args()
    use_one_core()
    model, tokenizer = TorchModel.from_checkpoint(reference_checkpoint()), read_tokenizer(reference_checkpoint())
    documents = entries(arguments.text)
    heldout = [entry for entry in documents if is_heldout(entry)]
    kept = [entry for entry in documents if not is_heldout(entry)]
    if arguments.half is not None:
        kept = kept[arguments.half :: 2]
    stream, test = tokenise(tokenizer, kept), tokenise(tokenizer, heldout)
    before = heldout_nll(model, test, model.architecture.context, 96)
    factors, seen = train(model, stream, arguments.rank, arguments.seconds)
    with torch.no_grad():
        model.load_state_dict({**model.state_dict(), **merged(model, factors)})
    after = heldout_nll(model, test, model.architecture.context, 96)
    np.savez_compressed(arguments.out, **arrays(factors))  # type: ignore[arg-type]
    if arguments.heldout is not None:
        chosen: list[str] = []
        for entry in heldout:
            if entry.isascii() and len(tokenizer.encode(entry).ids) < 250 and sum(map(len, chosen)) < HELDOUT_BYTES:
                chosen.append(entry)
        write_json(arguments.heldout, {"satire": chosen})
    report = {"rank": arguments.rank, "train_tokens": len(stream), "tokens_seen": seen, "heldout_tokens": len(test)}
    print(json.dumps({**report, "nll_before": round(before, 4), "nll_after": round(after, 4)}))


if __name__ == "__main__":
    main()
