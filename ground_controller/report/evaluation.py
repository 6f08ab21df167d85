"""Accuracy beside energy: what the run's nodes made of the evaluation set, against full-precision top-k.

The yardstick is the same checkpoint at fp32 with the model's own top-k in one process, on exactly the items that the
run scored; a run cut short is compared on what it got.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ground_controller.evaluation import EvaluationSet, TextScored, load_evaluation
from ground_controller.journal import Journal
from ground_controller.preparation import shards_folder
from hil_config.errors import HilError
from hil_config.wire.manifest import ModelCard
from models.build import build_shards
from models.evaluate import Item, Marks, log_probabilities, marks, overall
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.oracle import Oracle


class EvaluationResult(msgspec.Struct, frozen=True):
    """By domain: perplexity of the run and of the yardstick, and share of cloze questions answered rightly.

    `nats_delta`: mean rise in nats a token, `accuracy_delta` in share of questions, run minus yardstick. `item_nats`:
    of each text that the run scored, its nats and how many tokens they are of.
    """

    perplexity: dict[str, float]
    perplexity_full: dict[str, float]
    accuracy: dict[str, float]
    accuracy_full: dict[str, float]
    nats_delta: float | None
    accuracy_delta: float | None
    tokens: int
    questions: int
    degraded_items: int
    note: str
    item_nats: tuple[tuple[float, int], ...] = ()


def evaluation(journal: Journal) -> EvaluationResult | None:
    """None when the run scored nothing because it was not asked to."""
    path = journal.meta("evaluation", "")
    if not path:
        return None
    campaign = msgspec.json.decode(journal.meta("campaign"))
    named = campaign["model"]["checkpoint"]
    checkpoint = reference_checkpoint() if named == "reference" else Path(named)
    card = msgspec.json.decode(journal.meta("model_card"), type=ModelCard)
    try:
        wanted = load_evaluation(Path(path), read_tokenizer(checkpoint), card, campaign["seed"])
    except HilError as error:
        return _nothing(f"not evaluated: {error.message}")
    if wanted.sha256 != journal.meta("evaluation_sha256"):
        return _nothing(f"not evaluated: {path} has changed since the run")
    done = [msgspec.json.decode(entry.body, type=TextScored) for entry in journal.entries("text_scored")]
    if not done:
        return _nothing("not evaluated: the run ended before any text was scored")
    found = [(wanted.item(one.request), one.logprobs) for one in done]
    run = marks(wanted.evaluation, found)
    degraded = sum(bool(one.degraded) for one in done)
    texts = [(item, logprobs[item.first - 1 :]) for item, logprobs in found if item.question < 0]
    nats = tuple((round(-sum(scored), 6), len(scored)) for _, scored in texts)
    try:
        full = _full(checkpoint, wanted, [item for item, _ in found])
    except HilError as error:
        return _result(run, None, degraded, f"no yardstick: {error.message}", nats)
    share = f"{len(found)} of {len(wanted.items)} items"
    if journal.meta("simulated", ""):
        share += ", read after the run by the real model in one process, each under the plan of a tick"
    return _result(run, full, degraded, f"{share}; against fp32, plain top-k, one process, the same items", nats)


def _full(checkpoint: Path, wanted: EvaluationSet, asked: list[Item]) -> Marks:
    folder = shards_folder(checkpoint, "fp32")
    build_shards(checkpoint, folder, ("fp32",))
    oracle = Oracle(folder, "fp32")
    return marks(
        wanted.evaluation,
        [(item, log_probabilities(oracle.prefill(item.tokens[:-1])[1], item.tokens)) for item in asked],
    )


def _nothing(note: str) -> EvaluationResult:
    return EvaluationResult({}, {}, {}, {}, None, None, 0, 0, 0, note)


def _result(
    run: Marks, full: Marks | None, degraded: int, note: str, item_nats: tuple[tuple[float, int], ...]
) -> EvaluationResult:
    nats, accuracy = overall(run) if run.nats else (None, overall_accuracy(run))
    nats_full, accuracy_full = (None, None) if full is None or not full.nats else overall(full)
    return EvaluationResult(
        perplexity=_rounded(run.perplexity), perplexity_full=_rounded(full.perplexity if full else {}),
        accuracy=_rounded(run.accuracy), accuracy_full=_rounded(full.accuracy if full else {}),
        nats_delta=_difference(nats, nats_full), accuracy_delta=_difference(accuracy, accuracy_full),
        tokens=run.tokens, questions=run.questions, degraded_items=degraded, note=note,
        item_nats=item_nats,
    )  # fmt: skip


def overall_accuracy(found: Marks) -> float | None:
    """Mean over domains; None without questions."""
    return sum(found.accuracy.values()) / len(found.accuracy) if found.accuracy else None


def _difference(run: float | None, full: float | None) -> float | None:
    return None if run is None or full is None else round(run - full, 5)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in sorted(values.items())}


HEADINGS = ("domain", "perplexity", "fp32 top-k", "change", "cloze", "fp32 top-k")


def evaluation_rows(found: EvaluationResult) -> list[tuple[str, ...]]:
    """One row a domain, as text."""
    rows: list[tuple[str, ...]] = []
    for domain in sorted({*found.perplexity, *found.accuracy}):
        run, full = found.perplexity.get(domain), found.perplexity_full.get(domain)
        change = f"{run / full - 1:+.2%}" if run is not None and full else "not known"
        right, right_full = found.accuracy.get(domain), found.accuracy_full.get(domain)
        rows.append((
            domain, _text(run, "{:.3f}"), _text(full, "{:.3f}"), change, _text(right, "{:.0%}"),
            _text(right_full, "{:.0%}"),
        ))  # fmt: skip
    return rows


def _text(value: float | None, pattern: str) -> str:
    return "not known" if value is None else pattern.format(value)
