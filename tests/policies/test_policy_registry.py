from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from ground_controller.policies.lyapunov import Lyapunov
from ground_controller.policies.rank_match import RankMatch
from ground_controller.policies.registry import (
    PLACEMENT,
    PRECISION,
    REPLACEMENT,
    SELECTION,
    TRANSMISSION,
    from_options,
    placement_policy,
    selection_policy,
)
from ground_controller.policies.topk import TopK
from hil_config.errors import ConfigError

OWN = """
from dataclasses import dataclass
from ground_controller.policies.topk import TopK

@dataclass(frozen=True)
class Mine(TopK):
    weight: float
    rounds: int = 3
    label: str = "x"
    quick: bool = False

class Loose(TopK):
    pass

@dataclass
class Thawed:
    name = "thawed"

@dataclass(frozen=True)
class Mute:
    name = "mute"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "policy_of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "policy_of_a_user"


def test_names_in_the_tables_are_the_policies_own() -> None:
    for table in (SELECTION, PLACEMENT, PRECISION, TRANSMISSION, REPLACEMENT):
        assert all(policy.name == name for name, policy in table.items())


def test_policies_by_name() -> None:
    assert isinstance(selection_policy("topk"), TopK)
    assert isinstance(placement_policy("rank_match", {}), RankMatch)
    weighed = selection_policy("lyapunov", {"v": 2})
    assert isinstance(weighed, Lyapunov)
    assert weighed == Lyapunov(v=2.0)
    assert isinstance(weighed.v, float)


@pytest.mark.parametrize("name", ["top-k", "", ":", "os:", ":TopK", "rank_match"])
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selection_policy(name)
    assert "des, dtop_p, horizon, lyapunov" in caught.value.hint


def test_a_users_own_policy(own: str) -> None:
    policy = selection_policy(f"{own}:Mine", {"weight": 1, "rounds": 4, "label": "y", "quick": True})
    assert (policy.weight, policy.rounds, policy.label, policy.quick) == (1.0, 4, "y", True)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="option weight is missing"):
        selection_policy(f"{own}:Mine")
    with pytest.raises(ConfigError, match="No module named"):
        selection_policy("no_such_module_here:Mine")
    with pytest.raises(ConfigError, match="Absent"):
        selection_policy(f"{own}:Absent")
    with pytest.raises(ConfigError, match="not a frozen dataclass"):
        selection_policy(f"{own}:Thawed")
    with pytest.raises(ConfigError, match="lacks start, select"):
        selection_policy(f"{own}:Mute")


@pytest.mark.parametrize("value", ["2", True, None, float("nan"), float("inf"), [1.0]])
def test_a_value_of_the_wrong_kind(value: object) -> None:
    with pytest.raises(ConfigError, match=r"option v is .*, wanted a number"):
        selection_policy("lyapunov", {"v": value})


@pytest.mark.parametrize(("option", "value"), [("rounds", 2.0), ("rounds", True), ("label", 1), ("quick", 1)])
def test_whole_numbers_texts_and_truths_are_not_mixed(own: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"option {option} is"):
        selection_policy(f"{own}:Mine", {"weight": 1.0, option: value})


def test_unknown_options_list_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown option volume") as caught:
        selection_policy("lyapunov", {"volume": 1.0})
    assert "energy_budget_w" in caught.value.hint
    with pytest.raises(ConfigError, match="unknown option v"):
        selection_policy("topk", {"v": 1.0})


@dataclass(frozen=True)
class Other:
    size: tuple[int, ...] = ()
    name: ClassVar[str] = "other"


def test_options_of_other_kinds_pass_through() -> None:
    assert from_options("other", {"size": (1, 2)}, {"other": Other}, "selection", ()) == Other((1, 2))
