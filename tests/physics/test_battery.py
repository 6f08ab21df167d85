from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground_controller.physics.battery import Battery, charge, step_energy

BATTERY = Battery(10.0, 0.95, 0.9)
watts = st.floats(0.0, 200.0)


@given(st.floats(0.0, 1.0), watts, watts, st.floats(0.0, 1e5))
def test_energy_closes(start: float, solar: float, load: float, span: float) -> None:
    before = start * 36_000.0
    step = step_energy(BATTERY, before, solar, load, span)
    given_in = step.solar_j + step.deficit_j + (before - step.stored_j)
    taken_out = step.load_j + step.loss_j + step.unused_j
    scale = max(solar * span, load * span, before, 1.0)
    assert abs(float(given_in - taken_out)) <= 1e-9 * scale
    assert 0.0 <= float(step.stored_j) <= 36_000.0
    assert min(float(step.unused_j), float(step.deficit_j), float(step.loss_j)) >= 0.0


@given(st.floats(0.0, 1.0), watts, watts, st.floats(1.0, 1e4), st.integers(2, 20))
def test_steps_may_be_cut_anywhere(start: float, solar: float, load: float, span: float, cuts: int) -> None:
    whole = step_energy(BATTERY, start * 36_000.0, solar, load, span)
    stored = np.asarray(start * 36_000.0)
    unused = deficit = loss = np.zeros(())
    for _ in range(cuts):
        part = step_energy(BATTERY, stored, solar, load, span / cuts)
        stored = part.stored_j
        unused, deficit, loss = unused + part.unused_j, deficit + part.deficit_j, loss + part.loss_j
    for found, wanted in (
        (stored, whole.stored_j), (unused, whole.unused_j), (deficit, whole.deficit_j), (loss, whole.loss_j)
    ):  # fmt: skip
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-6)


def test_charging_by_hand() -> None:
    step = step_energy(BATTERY, 18_000.0, 20.0, 10.0, 100.0)
    assert (step.stored_j, step.loss_j, step.unused_j, step.deficit_j) == pytest.approx((18_950.0, 50.0, 0.0, 0.0))


def test_discharging_by_hand() -> None:
    step = step_energy(BATTERY, 18_000.0, 1.0, 10.0, 100.0)
    assert (step.stored_j, step.loss_j) == pytest.approx((17_000.0, 100.0))


def test_a_full_battery_leaves_sunlight_unused() -> None:
    step = step_energy(BATTERY, 36_000.0, 30.0, 10.0, 60.0)
    assert step.stored_j == 36_000.0
    assert step.unused_j == 1_200.0


def test_an_empty_battery_browns_out() -> None:
    step = step_energy(BATTERY, 900.0, 0.0, 10.0, 100.0)
    assert (step.stored_j, step.deficit_j) == pytest.approx((0.0, 1_000.0 - 810.0))


def test_satellites_side_by_side() -> None:
    pack = Battery(np.array([10.0, 20.0]), 0.95, np.array([0.9, 1.0]))
    step = step_energy(pack, np.array([18_000.0, 36_000.0]), np.array([0.0, 5.0]), 10.0, 100.0)
    assert step.stored_j.shape == step.load_j.shape == step.solar_j.shape == (2,)
    assert step.stored_j[0] == step_energy(BATTERY, 18_000.0, 0.0, 10.0, 100.0).stored_j
    assert charge(pack, step.stored_j) == pytest.approx(step.stored_j / np.array([36_000.0, 72_000.0]))
