"""The evaluation set and what is made of log-probabilities; on the reference model it tells good from chance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hil_config.errors import DataFileError
from models.evaluate import Evaluation, Item, Question, items, log_probabilities, marks, overall, read_evaluation
from models.heldout import read_heldout, read_tokenizer
from models.locate import reference_checkpoint
from models.probe import Probe, Setting

CHECKPOINT = reference_checkpoint()


def test_marks_by_hand() -> None:
    question = Question("a", "x", ("y", "z"), 1)
    evaluation = Evaluation({"a": ("t",)}, (question, question))
    done = [
        (Item(0, "a", (0, 1, 2), 1, -1, 0), [-1.0, -2.0]),
        (Item(1, "a", (0, 1, 2), 2, 0, 0), [-9.0, -3.0]),
        (Item(2, "a", (0, 1, 2, 3), 2, 0, 1), [-9.0, -1.0, -2.0]),
        (Item(3, "a", (0, 1, 2), 2, 1, 0), [-9.0, -3.0]),  # its other choice never came: the question does not count
    ]
    found = marks(evaluation, done)
    assert found.nats == {"a": 1.5} and found.perplexity == {"a": math.exp(1.5)}
    assert found.accuracy == {"a": 1.0} and (found.tokens, found.questions) == (2, 1)
    assert overall(found) == (1.5, 1.0)


def test_items_fit_the_context_and_end_with_the_choice() -> None:
    evaluation, tokenizer = read_evaluation(CHECKPOINT / "evaluation.json"), read_tokenizer(CHECKPOINT)
    for item in items(evaluation, tokenizer, 0, 48):
        assert len(item.tokens) <= 48 and item.tokens[0] == 0
        if item.question >= 0:
            choice = evaluation.cloze[item.question].choices[item.choice]
            assert tokenizer.decode(list(item.tokens[item.first :])) == choice


def test_calibration_and_evaluation_share_no_text() -> None:
    calibration = json.loads((CHECKPOINT / "calibration.json").read_text())
    evaluation = read_evaluation(CHECKPOINT / "evaluation.json")
    seen = {line for texts in calibration.values() for text in texts for line in text.splitlines() if len(line) > 60}
    asked = {line for texts in evaluation.texts.values() for text in texts for line in text.splitlines()}
    asked |= {line for texts in read_heldout(CHECKPOINT).values() for text in texts for line in text.splitlines()}
    assert len(seen) > 100 and not seen & asked


def test_the_reference_model_is_far_above_chance_and_losing_experts_costs(reference_shards: Path) -> None:
    probe = Probe(reference_shards, "int8")
    evaluation = read_evaluation(CHECKPOINT / "evaluation.json")
    chosen = items(evaluation, read_tokenizer(CHECKPOINT), probe.card.end_of_text, probe.card.context)
    asked = [item for item in chosen if item.question >= 0]
    full = marks(
        evaluation, [(item, log_probabilities(probe.prefill(item.tokens[:-1])[1], item.tokens)) for item in asked]
    )
    assert full.questions == len(evaluation.cloze) >= 60
    accuracy = np.mean(list(full.accuracy.values()))
    assert accuracy > 0.6, "chance is 0.25"
    probe.setting = Setting(lost=frozenset((0, e) for e in range(16)))
    less = marks(
        evaluation, [(item, log_probabilities(probe.prefill(item.tokens[:-1])[1], item.tokens)) for item in asked]
    )
    assert np.mean(list(less.accuracy.values())) < accuracy


@pytest.mark.parametrize(
    "value",
    [
        "{", "[]", '{"texts": {}}', '{"texts": {"a": []}}', '{"texts": {"a": [""]}}',
        '{"texts": {"a": ["t"]}, "cloze": [{"domain": "a", "context": "c", "choices": ["x"], "answer": 0}]}',
        '{"texts": {"a": ["t"]}, "cloze": [{"domain": "a", "context": "c", "choices": ["x", "y"], "answer": 2}]}',
    ],
)  # fmt: skip
def test_malformed_sets_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(value)
    with pytest.raises(DataFileError, match=r"e\.json"):
        read_evaluation(path)
