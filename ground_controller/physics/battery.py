"""The battery: an open-circuit voltage, a series resistance and one RC element, driven by power.

    V = U(s) - v - I R0        ds/dt = -I / Q        dv/dt = (I R1 - v) / tau      (I > 0 discharges)

Over a part of a step (`PART_S` at most) the current is constant and chosen so that the energy at the terminals is
exactly what was asked for: with E(s) the integral of U dq every term of that energy is a closed form of I, and
Newton's method finds I. Energy therefore closes to rounding, whatever the step:

    stored(before) = stored(after) + energy out + heat       stored = E(s) + v^2 tau / (2 R1)

The array carries the load first. What is left charges through a converter until the battery is full or at its
voltage limit, the rest is unused; what is missing is drawn through a converter until the battery is empty or at its
cut-off voltage (brown-out), the rest is a deficit.

U(s) is the discharge of the BUPT-1 pack at 0.97 A (0.12 C), corrected for the drop over R0 + R1 at that current
(public data of Xing et al., MobiCom 2024, arXiv 2401.03435). R0, R1 and tau are assumed: of the size that
published impulse tests of 18650 cells give for a pack of four in series and three in parallel.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

PART_S = 10.0
"""Longest time over which the current is held constant."""
J_PER_WH = 3_600.0
PACK_AH = 8.14
PACK_WH = 118.8
_ROUNDS = 12
_HALVINGS = 48


@dataclass(frozen=True)
class Battery:
    """A pack of BUPT-1 cells in parallel strings, sized to `capacity_wh` at 0.12 C.

    Args:
        series_ohm, rc_ohm, rc_s: R0, R1 and tau of a pack of 118.8 Wh; a larger one has less resistance in proportion.
        cutoff_v, limit_v: the terminal voltage is kept between them.
        charge_efficiency, discharge_efficiency: of the converters, (0, 1].
    """

    capacity_wh: float
    charge_efficiency: float = 0.97
    discharge_efficiency: float = 0.97
    series_ohm: float = 0.06
    rc_ohm: float = 0.03
    rc_s: float = 60.0
    cutoff_v: float = 11.0
    limit_v: float = 16.8

    @property
    def strings(self) -> float:
        """How many packs of 118.8 Wh it is."""
        return self.capacity_wh / PACK_WH

    @property
    def charge_c(self) -> float:
        """Capacity in coulombs."""
        return PACK_AH * 3_600.0 * self.strings

    @property
    def capacity_j(self) -> float:
        """Chemical energy from full to empty."""
        return float(_energy(np.ones(()), self.series_ohm + self.rc_ohm)) * self.charge_c


class BatteryState(NamedTuple):
    """State of charge [S], 0 to 1, and the voltage of the RC element [S]."""

    charge: Float
    rc_v: Float


@dataclass(frozen=True)
class EnergyStep:
    """What one step did, each [S] in J; `voltage_v` [S] at its end."""

    state: BatteryState
    solar_j: Float
    load_j: Float
    unused_j: Float
    deficit_j: Float
    loss_j: Float
    voltage_v: Float


@cache
def _curve(drop_ohm: float) -> tuple[Float, Float, Float, Float]:
    """Grid of charge (rising), U in V, the integral of U from 0 in V, of the measured discharge, and U's slopes."""
    text = resources.files("ground_controller.physics").joinpath("data/bupt1_discharge.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if float(row["dod_percent"]) < 100.0]
    s = 1.0 - np.array([float(row["dod_percent"]) for row in rows]) / 100.0
    u = np.array([float(row["voltage_v"]) + float(row["current_a"]) * drop_ohm for row in rows])
    s, u = s[::-1], u[::-1]
    # The last percent was taken at a falling current: the slope before it is carried on instead.
    s, u = np.r_[0.0, s], np.r_[u[0] - (u[1] - u[0]), u]
    u = np.maximum.accumulate(u)
    area = np.r_[0.0, np.cumsum(0.5 * (u[1:] + u[:-1]) * np.diff(s))]
    return s, u, area, np.diff(u) / np.diff(s)


def open_circuit_v(charge: Float | float, drop_ohm: float) -> Float:
    """U(s): piecewise linear between the measured points, continued linearly beyond 0 and 1."""
    s, u, _, slope = _curve(drop_ohm)
    inside = np.interp(charge, s, u)
    below, above = np.minimum(charge, 0.0), np.maximum(np.subtract(charge, 1.0), 0.0)
    ends = below * slope[0] + above * slope[-1]
    return np.asarray(inside + ends, dtype=np.float64)


def _energy(charge: Float, drop_ohm: float) -> Float:
    """Integral of U from 0 to `charge` in V (times coulombs: J), exact for the piecewise linear U."""
    return _energy_and_voltage(charge, drop_ohm)[0]


def _energy_and_voltage(charge: Float, drop_ohm: float) -> tuple[Float, Float]:
    """`_energy`, and U at `charge`, its derivative."""
    s, u, area, slope = _curve(drop_ohm)
    at = np.minimum(np.maximum(np.searchsorted(s, charge, side="right") - 1, 0), len(s) - 2)
    over, rise = charge - s[at], slope[at]
    low = u[at]
    return np.asarray(area[at] + over * (low + 0.5 * rise * over)), np.asarray(low + rise * over)


def stored_j(battery: Battery, state: BatteryState) -> Float:
    """Energy held [S]: chemical, and that of the RC element."""
    chemical = _energy(state.charge, battery.series_ohm + battery.rc_ohm) * battery.charge_c
    return chemical + 0.5 * state.rc_v**2 * battery.rc_s / (battery.rc_ohm / battery.strings)


def terminal_v(battery: Battery, state: BatteryState, current_a: float | Float = 0.0) -> Float:
    """Terminal voltage [S] at a current [S], positive when discharging."""
    open_v = open_circuit_v(state.charge, battery.series_ohm + battery.rc_ohm)
    return open_v - state.rc_v - np.multiply(current_a, battery.series_ohm / battery.strings)


def _out_j(battery: Battery, state: BatteryState, current_a: Float, duration_s: float) -> tuple[Float, Float]:
    """Energy delivered at the terminals by a constant current, and its derivative by the current in J/A."""
    drop = battery.series_ohm + battery.rc_ohm
    r0, r1 = battery.series_ohm / battery.strings, battery.rc_ohm / battery.strings
    held, open_v = _energy_and_voltage(state.charge - current_a * duration_s / battery.charge_c, drop)
    chemical = (_energy(state.charge, drop) - held) * battery.charge_c
    relaxed = battery.rc_s * -np.expm1(-duration_s / battery.rc_s)
    rc = current_a * (current_a * r1 * duration_s + (state.rc_v - current_a * r1) * relaxed)
    rc_slope = 2.0 * current_a * r1 * (duration_s - relaxed) + state.rc_v * relaxed
    out = chemical - current_a**2 * r0 * duration_s - rc
    return np.asarray(out), np.asarray(open_v * duration_s - 2.0 * current_a * r0 * duration_s - rc_slope)


def _after(battery: Battery, state: BatteryState, current_a: Float, duration_s: float) -> BatteryState:
    """The state after a constant current."""
    r1, fade = battery.rc_ohm / battery.strings, np.exp(-duration_s / battery.rc_s)
    charge = np.clip(state.charge - current_a * duration_s / battery.charge_c, 0.0, 1.0)
    return BatteryState(charge, current_a * r1 + (state.rc_v - current_a * r1) * fade)


def _current_a(battery: Battery, state: BatteryState, energy_j: Float, duration_s: float) -> Float:
    """The constant current that delivers `energy_j` (< 0 charges), within charge and voltage limits."""
    full = battery.charge_c / duration_s
    most, least = state.charge * full, -(1.0 - state.charge) * full
    current = np.clip(energy_j / duration_s / terminal_v(battery, state), least, most)
    for _ in range(_ROUNDS):
        found, gradient = _out_j(battery, state, current, duration_s)
        better = np.minimum(np.maximum(current + (energy_j - found) / np.maximum(gradient, 1e-9), least), most)
        moved, current = np.abs(better - current), better
        if (moved <= 1e-13 * full).all():
            break
    return _within_volts(battery, state, np.where(energy_j == 0.0, 0.0, current), duration_s)


def _within_volts(battery: Battery, state: BatteryState, current_a: Float, duration_s: float) -> Float:
    """The current, or the largest of its sign with which both ends of the part are within the voltage limits."""
    beyond = np.atleast_1d(_beyond(battery, state, current_a, duration_s))
    if not beyond.any():
        return current_a
    cut = np.atleast_1d(np.array(current_a))
    charge, rc_v = (np.broadcast_to(column, cut.shape)[beyond] for column in state)
    kept, refused = np.zeros(int(beyond.sum())), cut[beyond]
    for _ in range(_HALVINGS):
        middle = 0.5 * (kept + refused)
        over = _beyond(battery, BatteryState(charge, rc_v), middle, duration_s)
        kept, refused = np.where(over, kept, middle), np.where(over, middle, refused)
    cut[beyond] = kept
    return cut.reshape(np.shape(current_a))


def _beyond(battery: Battery, state: BatteryState, current_a: Float, duration_s: float) -> NDArray[np.bool_]:
    """Whether a current takes the terminals under the cut-off voltage (> 0) or over the limit (< 0)."""
    begin = terminal_v(battery, state, current_a)
    end = terminal_v(battery, _after(battery, state, current_a, duration_s), current_a)
    low = (current_a > 0.0) & (np.minimum(begin, end) < battery.cutoff_v)
    return np.asarray(low | (current_a < 0.0) & (np.maximum(begin, end) > battery.limit_v))


def _part(
    battery: Battery, state: BatteryState, energy_j: Float, duration_s: float
) -> tuple[BatteryState, Float, Float]:
    """State after a part, the energy delivered at the terminals and the current."""
    current = _current_a(battery, state, energy_j, duration_s)
    out, _ = _out_j(battery, state, current, duration_s)
    return _after(battery, state, current, duration_s), out, current


def _left(wanted_j: Float, done_j: Float) -> Float:
    """What was not done; 0 where it is rounding."""
    return np.where(wanted_j - done_j > 1e-9 * wanted_j, wanted_j - done_j, 0.0)


def step_energy(
    battery: Battery, state: BatteryState, solar_w: float | Float, load_w: float | Float, duration_s: float
) -> EnergyStep:
    """The battery after `duration_s` of constant array power and load, [S], both >= 0."""
    shape = np.broadcast_shapes(state.charge.shape, np.shape(solar_w), np.shape(load_w))
    solar = np.broadcast_to(np.asarray(solar_w, dtype=np.float64), shape)
    load = np.broadcast_to(np.asarray(load_w, dtype=np.float64), shape)
    state = BatteryState(np.broadcast_to(state.charge, shape), np.broadcast_to(state.rc_v, shape))
    surplus, missing = np.maximum(solar - load, 0.0), np.maximum(load - solar, 0.0)
    wanted_w = missing / battery.discharge_efficiency - surplus * battery.charge_efficiency
    before = stored_j(battery, state)
    parts = max(1, int(np.ceil(duration_s / PART_S)))
    part_s = duration_s / parts
    drawn, taken, current = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for _ in range(parts if duration_s > 0.0 else 0):
        state, out, current = _part(battery, state, wanted_w * part_s, part_s)
        drawn += np.maximum(out, 0.0)
        taken += np.maximum(-out, 0.0)
    given, used = drawn * battery.discharge_efficiency, taken / battery.charge_efficiency
    return EnergyStep(
        state=state, solar_j=solar * duration_s, load_j=load * duration_s,
        unused_j=_left(surplus * duration_s, used), deficit_j=_left(missing * duration_s, given),
        loss_j=before - stored_j(battery, state) - given + used, voltage_v=terminal_v(battery, state, current),
    )  # fmt: skip
