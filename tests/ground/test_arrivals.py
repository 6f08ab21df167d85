"""Arrivals and lengths of a workload: what is drawn, what a trace may hold, how prompts are cut and joined."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ground_controller.arrival_times import Due, poisson, read_trace
from ground_controller.feed import ClosedLoop
from ground_controller.workload import Workload, read_prompts
from hil_config.errors import ConfigError, DataFileError
from hil_config.schema.load import default_path, load_campaign
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint


def test_poisson_has_its_rate_and_no_memory() -> None:
    """4,000 gaps of rate 5: mean 0.2 and standard deviation 0.2, both within 5 standard errors; seeded."""
    at_s = np.array([one.at_s for one in itertools.islice(poisson(5.0, 1), 4_000)])
    gaps = np.diff(at_s, prepend=0.0)
    assert abs(gaps.mean() - 0.2) < 5 * 0.2 / np.sqrt(4_000)
    assert abs(gaps.std() - 0.2) < 5 * 0.2 * np.sqrt(2 / 4_000)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 5 / np.sqrt(4_000)
    assert [one.at_s for one in itertools.islice(poisson(5.0, 1), 4_000)] == at_s.tolist()
    assert next(poisson(5.0, 2)).at_s != at_s[0]


def test_a_trace_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("at_s,prompt_tokens,output_tokens\n0,8,4\n0.5,,\n0.5,9,\n")
    assert read_trace(path) == (Due(0.0, 8, 4), Due(0.5, None, None), Due(0.5, 9, None))


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("at_s\n1\nsoon\n", ":3", "could not convert"),
        ("at_s\n1\n0.5\n", "", "at_s 0.5 comes after 1"),
        ("at_s,prompt_tokens\n1,0\n", ":2", "lengths of 1 or more"),
        ("at_s\n-1\n", ":2", "at_s of 0 or more"),
        ("at_s\nnan\n", ":2", "at_s of 0 or more"),
        ("when\n1\n", ":1", "columns when"),
        ("at_s,tokens\n1,2\n", ":1", "columns at_s, tokens"),
        ("at_s\n", "", "no arrivals"),
        ("", ":1", "columns missing"),
    ],
)
def test_what_is_wrong_with_a_trace(tmp_path: Path, text: str, where: str, words: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(DataFileError) as caught:
        read_trace(path)
    assert caught.value.message.startswith(f"{path}{where}:")
    assert words in caught.value.message


def _workload(room: int, prompt_tokens: int | None, limit: int | None = None) -> Workload:
    folder = reference_checkpoint()
    return Workload(read_prompts(folder / "prompts.json"), read_tokenizer(folder), 0, 1, limit, room, prompt_tokens)


@pytest.mark.parametrize("length", [2, 7, 200])
def test_prompts_of_one_length(length: int) -> None:
    found = _workload(240, length)
    for _ in range(5):
        ready = found.next()
        assert ready is not None
        assert (len(ready.tokens), ready.tokens[0]) == (length, 0)
    asked = found.next(31)
    assert asked is not None
    assert len(asked.tokens) == 31
    fitted = found.next(5_000)
    assert fitted is not None
    assert len(fitted.tokens) == 240


def test_a_closed_loop_asks_in_batches() -> None:
    """Three at a time of eight places: begun only where three are free."""
    loop = ClosedLoop(_workload(240, None, 7), 8, 4, 3)
    under_way = 0
    while loop.take(0.0, under_way) is not None:
        under_way += 1
    assert under_way == 6
    assert loop.take(0.0, under_way) is None
    assert loop.take(0.0, 5) is not None  # the seventh and last; two of its batch are not there
    assert loop.take(0.0, 1) is None
    assert loop.exhausted


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ("{arrivals: poisson}", "workload.rate_per_s: found null with arrivals: poisson"),
        ("{rate_per_s: 2}", "workload.rate_per_s: found 2.0 with arrivals: closed"),
        ("{arrivals: trace}", "workload.trace: found 'none' with arrivals: trace"),
        ("{arrivals: closed, batch: 7}", "workload.batch: found 7, wanted at most concurrency (6)"),
        ("{arrivals: often}", "workload.arrivals: found 'often', wanted one of closed, poisson, trace, requests"),
    ],
)
def test_place_and_words(tmp_path: Path, workload: str, words: str) -> None:
    text = default_path("campaign").read_text()
    head, _, rest = text.partition("workload:")
    after = "\n".join(line for line in rest.splitlines()[1:] if not line.startswith("  "))
    path = tmp_path / "campaign.yaml"
    path.write_text(f"{head}workload: {workload}\n{after}\n")
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    assert words in caught.value.message
