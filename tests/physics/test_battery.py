from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import ground_controller.physics
from ground_controller.physics.battery import (
    PACK_WH,
    Battery,
    BatteryState,
    open_circuit_v,
    step_energy,
    stored_j,
    terminal_v,
)

PACK = Battery(PACK_WH, 0.95, 0.9)
IDEAL = Battery(PACK_WH, 1.0, 1.0)
CURVE = Path(ground_controller.physics.__file__).parent / "data" / "bupt1_discharge.csv"
watts = st.floats(0.0, 60.0)


def at(charge: float, rc_v: float = 0.0) -> BatteryState:
    return BatteryState(np.array([charge]), np.array([rc_v]))


def drop_v(state: BatteryState, current_a: float) -> float:
    return float(terminal_v(IDEAL, state, current_a)[0])


def _heat_j(battery: Battery, state: BatteryState, load_w: float, span_s: float) -> float:
    """Heat in R0 and R1 by a fine Euler integration of the same circuit, power taken at the terminals."""
    r0, r1, dt = battery.series_ohm / battery.strings, battery.rc_ohm / battery.strings, 0.01
    s, v, heat = float(state.charge[0]), float(state.rc_v[0]), 0.0
    for _ in range(round(span_s / dt)):
        u = float(open_circuit_v(s, battery.series_ohm + battery.rc_ohm)) - v
        i = (u - np.sqrt(u * u - 4.0 * r0 * load_w)) / (2.0 * r0)
        heat += (i * i * r0 + v * v / r1) * dt
        s -= i * dt / battery.charge_c
        v += (i * r1 - v) / battery.rc_s * dt
    return heat


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.floats(-0.2, 0.2), watts, watts, st.floats(0.1, 600.0))
def test_energy_closes_and_only_heat_is_lost(start: float, rc_v: float, solar: float, load: float, span: float) -> None:
    before = at(start, rc_v)
    step = step_energy(PACK, before, solar, load, span)
    gained = step.solar_j + step.deficit_j + stored_j(PACK, before) - stored_j(PACK, step.state)
    spent = step.load_j + step.loss_j + step.unused_j
    assert_allclose(gained, spent, rtol=1e-9, atol=1e-6)
    assert 0.0 <= step.state.charge[0] <= 1.0
    assert min(step.unused_j[0], step.deficit_j[0]) >= 0.0
    assert step.loss_j[0] >= -1e-6


def test_the_loss_is_the_heat_of_the_resistances() -> None:
    start = at(0.8, 0.05)
    step = step_energy(IDEAL, start, 0.0, 40.0, 60.0)
    assert step.loss_j[0] == pytest.approx(_heat_j(IDEAL, start, 40.0, 60.0), rel=2e-3)


@settings(deadline=None)
@given(st.floats(0.2, 0.9), watts, watts, st.integers(2, 20))
def test_parts_of_ten_seconds_add_up(start: float, solar: float, load: float, count: int) -> None:
    whole = step_energy(PACK, at(start), solar, load, 10.0 * count)
    state = at(start)
    for _ in range(count):
        state = step_energy(PACK, state, solar, load, 10.0).state
    assert_allclose(state.charge, whole.state.charge, rtol=1e-9)
    assert_allclose(state.rc_v, whole.state.rc_v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("part_s", [1.0, 5.0])
def test_shorter_parts_hardly_change_anything(part_s: float) -> None:
    state = at(0.7)
    for _ in range(int(600 / part_s)):
        state = step_energy(PACK, state, 5.0, 35.0, part_s).state
    whole = step_energy(PACK, at(0.7), 5.0, 35.0, 600.0).state
    assert abs(state.charge[0] - whole.charge[0]) < 1e-6
    assert abs(state.rc_v[0] - whole.rc_v[0]) < 1e-4


def test_the_measured_discharge_comes_back() -> None:
    """BUPT-1's pack at 0.97 A from full: the terminal voltage of its own record, within 5 mV between 95 and 5 %."""
    rows = list(csv.DictReader(CURVE.read_text().splitlines()))
    state = at(1.0)
    for row in rows[:-1]:
        depth, wanted = float(row["dod_percent"]) / 100.0, float(row["voltage_v"])
        while state.charge[0] > 1.0 - depth + 1e-9:
            seconds = min(20.0, (float(state.charge[0]) - (1.0 - depth)) * IDEAL.charge_c / 0.967)
            power = drop_v(state, 0.967) * 0.967
            state = step_energy(IDEAL, state, 0.0, power, seconds).state
        if 0.05 < depth < 0.95:
            assert drop_v(state, 0.967) == pytest.approx(wanted, abs=0.005)


def test_a_full_battery_leaves_sunlight_unused() -> None:
    step = step_energy(PACK, at(1.0), 30.0, 10.0, 60.0)
    assert step.state.charge[0] == 1.0
    assert step.unused_j[0] == pytest.approx(1_200.0)


def test_an_empty_battery_browns_out() -> None:
    step = step_energy(PACK, at(0.002), 0.0, 30.0, 600.0)
    assert step.state.charge[0] < 0.002
    assert step.deficit_j[0] > 17_000.0
    assert step.voltage_v[0] >= PACK.cutoff_v - 1e-6


def test_too_much_power_is_cut_at_the_cut_off_voltage() -> None:
    step = step_energy(PACK, at(0.1), 0.0, 9_000.0, 5.0)
    assert step.deficit_j[0] > 0.0
    assert step.voltage_v[0] == pytest.approx(PACK.cutoff_v, abs=1e-9)


@settings(deadline=None)
@given(
    st.floats(0.5, 240.0),
    st.floats(0.0, 1.0),
    st.floats(-0.1, 0.1),
    st.floats(0.0, 9.0),
    st.floats(0.0, 9.0),
    st.floats(0.1, 60.0),
)
def test_the_terminals_stay_between_cut_off_and_limit(
    size_wh: float, start: float, rc_v: float, solar_c: float, load_c: float, span_s: float
) -> None:
    """Packs of any size, up to nine times their energy in an hour: begin and end of a part of ten seconds."""
    pack, state = Battery(size_wh), at(start, rc_v)
    drawn_w = np.array([(load_c - solar_c) * size_wh])
    for _ in range(5):
        step = step_energy(pack, state, np.maximum(-drawn_w, 0.0), np.maximum(drawn_w, 0.0), span_s / 6.0)
        if step.state.charge[0] != state.charge[0]:
            assert pack.cutoff_v - 1e-9 <= step.voltage_v[0] <= pack.limit_v + 1e-9
        state = step.state


def test_satellites_side_by_side() -> None:
    state = BatteryState(np.array([0.5, 0.9]), np.array([0.01, -0.02]))
    both = step_energy(PACK, state, np.array([0.0, 45.0]), np.array([20.0, 10.0]), 95.0)
    for index, (solar, load) in enumerate(((0.0, 20.0), (45.0, 10.0))):
        alone = step_energy(PACK, at(*(float(x[index]) for x in state)), solar, load, 95.0)
        assert both.state.charge[index] == pytest.approx(float(alone.state.charge[0]), rel=1e-12)
        assert both.loss_j[index] == pytest.approx(float(alone.loss_j[0]), abs=1e-6)


def _pybamm_orbit(load_w: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """Terminal voltage at the end of each step by PyBaMM's Thevenin model with our circuit, discharged by power."""
    pybamm = pytest.importorskip("pybamm", reason="PyBaMM is not installed: pip install pybamm")
    model = pybamm.equivalent_circuit.Thevenin(options={"operating mode": "power"})
    grid = np.linspace(0.0, 1.0, 401)
    open_v = open_circuit_v(grid, IDEAL.series_ohm + IDEAL.rc_ohm)
    values = model.default_parameter_values
    times = np.arange(len(load_w)) * step_s
    values.update(
        {
            "Cell capacity [A.h]": IDEAL.charge_c / 3_600.0, "Nominal cell capacity [A.h]": IDEAL.charge_c / 3_600.0,
            "Initial SoC": 0.9, "Element-1 initial overpotential [V]": 0.0, "R0 [Ohm]": IDEAL.series_ohm,
            "R1 [Ohm]": IDEAL.rc_ohm, "C1 [F]": IDEAL.rc_s / IDEAL.rc_ohm, "Entropic change [V/K]": 0.0,
            "Lower voltage cut-off [V]": 10.0, "Upper voltage cut-off [V]": 20.0,
            "Open-circuit voltage [V]": lambda soc: pybamm.Interpolant(grid, open_v, soc, "OCV"),
            "Power function [W]": pybamm.Interpolant(
                np.r_[times, times[-1] + step_s] + 1e-3 * np.r_[0.0, np.ones(len(times))],
                np.r_[load_w, load_w[-1]], pybamm.t, "load",
            ),
        },
        check_already_exists=False,
    )  # fmt: skip
    solution = pybamm.Simulation(model, parameter_values=values).solve(
        np.r_[0.0, times + step_s], t_interp=times + step_s
    )
    return np.asarray(solution["Voltage [V]"](times + step_s))


@pytest.mark.filterwarnings("ignore")
def test_pybamm_agrees_over_an_orbit() -> None:
    """Charge in the sun, discharge in the shadow, slow ramps between: within 10 mV of PyBaMM 10 s by 10 s."""
    seconds = np.arange(0.0, 5_740.0, 10.0)
    load = 6.0 + 14.0 * np.sin(2 * np.pi * seconds / 5_740.0) + 3.0 * np.sin(2 * np.pi * seconds / 900.0)
    wanted = _pybamm_orbit(load, 10.0)
    state, found = at(0.9), []
    for now, following in zip(load, [*load[1:], load[-1]], strict=True):
        mean = (now + following) / 2
        step = step_energy(IDEAL, state, max(-mean, 0.0), max(mean, 0.0), 10.0)
        state = step.state
        found.append(float(step.voltage_v[0]))
    worst_mv = 1e3 * np.abs(np.array(found) - wanted).max()
    assert worst_mv < 10.0
