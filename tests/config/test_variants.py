"""A matrix's variants: whole campaigns, and mistakes told where they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_config.errors import ConfigError
from hil_config.schema.load import default_path
from hil_config.schema.variants import variants_of
from hil_config.schema.yaml_text import read_yaml

MATRIX = """\
matrix:
  axes:
    policy:
      ours: {policies.selection: {name: lyapunov}}
      plain: {policies.selection: {name: topk}}
    start:
      high: {}
      low: {twin.start.1.charge: 0.45, workload.concurrency: 3}
  seeds: [4, 5]
"""


def _written(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in MATRIX
    path = folder / "campaign.yaml"
    path.write_text(default_path("campaign").read_text() + MATRIX.replace(old, new, 1))
    return path


def test_every_combination_is_a_campaign(tmp_path: Path) -> None:
    found = {one.name: one for one in variants_of(read_yaml(_written(tmp_path)))}
    assert list(found) == ["ours-high", "ours-low", "plain-high", "plain-low"]
    low = found["plain-low"]
    assert low.labels == {"policy": "plain", "start": "low"}
    assert low.campaign.policies.selection.name == "topk"
    assert low.campaign.twin.start[1].charge == 0.45
    assert low.campaign.workload.concurrency == 3
    assert low.campaign.twin.start[0] == found["ours-high"].campaign.twin.start[0]
    assert {one.campaign.matrix for one in found.values()} == {None}


def test_without_axes_it_is_the_one_campaign(tmp_path: Path) -> None:
    (one,) = variants_of(read_yaml(default_path("campaign")))
    assert (one.name, one.labels) == ("all", {})


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("charge: 0.45", "charge: 4.5", (7, 34), "twin.start[1].charge: found 4.5, wanted a number from 0 to 1"),
        ("twin.start.1.charge", "twin.start.9.charge", (7, 13), "there is nothing at 9 to change"),
        ("workload.concurrency", "workload.concurency", (7, 40), "workload.concurency: unknown key; did you mean"),
        ("{name: topk}", "{nam: topk}", (4, 35), "policies.selection.nam: unknown key; did you mean name?"),
        ("twin.start.1.charge: 0.45", "seed: 3", (7, 19), "is not for a variant to change"),
        ("seeds: [4, 5]", "seeds: [4, 4]", (8, 10), "matrix.seeds: found [4, 4], wanted each seed once"),
        ("seeds: [4, 5]", "stop: {metric: tpot_ms, within_percent: 1, most_seeds: 3}", (8, 9),
         "matrix.stop.statistic: found 'value', wanted p50 or p95"),
    ],
)  # fmt: skip
def test_place_and_words(tmp_path: Path, old: str, new: str, at: tuple[int, int], words: str) -> None:
    path = _written(tmp_path, old, new)
    before = len(default_path("campaign").read_text().splitlines())
    with pytest.raises(ConfigError) as caught:
        variants_of(read_yaml(path))
    assert caught.value.message.startswith(f"{path}:{before + at[0] + 1}:")
    assert words in caught.value.message
