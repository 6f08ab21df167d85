"""Power modes in profiles and campaigns: what is refused, with what words, and what stays as it was without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ground_controller.policies.view import Limits
from ground_controller.power_modes import ModeControl, Modes, modes_of, order_of
from ground_controller.preparation import profiles_hash
from hil_config.errors import ConfigError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import config_hash, default_path, load_bench, load_campaign
from hil_config.schema.power import Power, PowerMode
from hil_config.schema.profiles import BoardProfile, load_profile

PROFILE = """
name: own
idle_w: 2.0
per_core_w: 1.0
cores: 2
cpu_scale: 1.0
memory_mb: 512
expert_slots: 48
source: made up for a test
"""


def own(path: Path, modes: str) -> BoardProfile:
    path.write_text(PROFILE + modes)
    return load_profile(str(path))


@pytest.mark.parametrize(
    ("modes", "found"),
    [
        ("modes: [{name: a}, {name: a, duty: 0.5}]", "'a' twice"),
        ("modes: [{name: a, cpu_khz: 1000}, {name: b}]", "cpu_khz is set by mode"),
        ("modes: [{name: a}, {name: b, nvp_mode: 1}]", "nvp_mode is set by mode"),
        ("modes: [{name: a, duty: 0}]", "duty"),
    ],
)
def test_a_profile_whose_modes_cannot_be_is_refused(modes: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=found):
        own(tmp_path / f"{abs(hash(modes))}.yaml", modes)


def written(tmp_path: Path, power: str) -> Campaign:
    path = tmp_path / "campaign.yaml"
    path.write_text(default_path("campaign").read_text() + power)
    return load_campaign(path)


@pytest.mark.parametrize(
    ("power", "found"),
    [
        ("power: {}", "neither a mode nor limits"),
        ("power: {mode: half, ease_above_c: 50}", "both a mode and limits"),
        ("power: {ease_above_c: 59}", r"less than temperature_soft_c \(59\)"),
        ("power: {ease_below_charge: 0.35}", r"more than charge_soft \(0.35\)"),
    ],
)
def test_a_campaign_whose_modes_cannot_be_is_refused(power: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=found):
        written(tmp_path, power)


def test_a_mode_that_no_board_offers_is_named_with_those_there_are(tmp_path: Path) -> None:
    bench = load_bench(default_path("bench"))
    local, jetson = load_profile("local-process"), load_profile("jetson-orin-nano")
    with pytest.raises(ConfigError, match="'7W', which no board") as refused:
        modes_of(Power(mode="7W"), bench, (local,) * 4)
    assert refused.value.hint == "one of full, half, quarter"
    with pytest.raises(ConfigError, match="no board of bench demo offers a second"):
        modes_of(Power(ease_above_c=50.0), bench, (jetson,) * 4)
    found = modes_of(Power(mode="half"), bench, (jetson, local, local, local))
    assert found is not None and found.start(0) is None
    assert [order.mode for order in map(found.start, (1, 2, 3)) if order] == ["half"] * 3


def test_modes_count_where_they_are_ordered_only() -> None:
    """Recorded runs are derived again against these hashes; a profile that lists modes later is the same for them."""
    bench, plain = load_bench(default_path("bench")), load_campaign(default_path("campaign"))
    assert config_hash(bench, plain) != config_hash(bench, plain.model_copy(update={"power": Power(mode="half")}))
    profile = load_profile("local-process")
    bare = profile.model_copy(update={"modes": ()})
    assert profiles_hash((profile,), modes=False) == profiles_hash((bare,), modes=False)
    assert profiles_hash((profile,), modes=True) != profiles_hash((bare,), modes=True)


# --- which mode when --------------------------------------------------------------------------------------------

LIMITS = Limits(60.0, 75.0, 0.3, 0.2, 2.0, 0.05)
ORDERS = tuple(order_of(PowerMode(name=name, duty=duty)) for name, duty in (("a", 1.0), ("b", 0.5), ("c", 0.25)))


def control(**limits: Any) -> ModeControl:
    return ModeControl(Modes((ORDERS, ()), (0, 0), **limits), LIMITS)


def told(one: ModeControl, temperature_c: float, charge: float = 0.9) -> list[str]:
    return [order.mode for _, order in one.step(np.full(2, temperature_c), np.full(2, charge))]


def test_steps_down_with_heat_and_back_after_the_hysteresis() -> None:
    one = control(ease_above_c=50.0)
    assert told(one, 50.0) == []
    assert told(one, 50.1) == ["b"]
    assert told(one, 55.1) == ["c"], "the second step is half way to the soft limit"
    assert told(one, 53.5) == [], "within the hysteresis"
    assert told(one, 52.9) == ["b"]
    assert told(one, 48.1) == []
    assert told(one, 47.9) == ["a"]
    assert told(one, 70.0) == ["c"], "several steps at once"
    assert one.current()[0].mode == "c" and 1 not in one.current()


def test_the_lower_of_heat_and_charge_counts() -> None:
    one = control(ease_above_c=50.0, ease_below_charge=0.5)
    assert told(one, 51.0, 0.39) == ["c"]
    assert told(one, 51.0, 0.46) == ["b"]
    assert told(one, 40.0, 0.46) == [], "the charge still asks for it"
    assert told(one, 40.0, 0.56) == ["a"]


def test_a_restarted_node_is_told_again() -> None:
    one = control(ease_above_c=50.0)
    assert told(one, 51.0) == ["b"]
    one.restarted(0)
    assert told(one, 51.0) == ["b"]
    assert told(one, 51.0) == []
