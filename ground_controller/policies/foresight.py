"""The program behind `horizon`: where the rows of an orbit ahead best go, found by mirror descent.

For periods h, nodes n, groups g of experts with the same hosts, x the shares of a group's rows over its hosts:

    min_x   sum wear + low charge + heat   + sum_{h,g} KL(x_hg || even)
    power   P_hn = P0_n + e_n sum_g d_g q_g x_hgn
    heat    T_hn = base_hn + sum_j warming_hj P_jn        counts (T - start)^2 / 2 from `band_k` below the target
    charge  s_hn = full(s_{h-1,n} + eta (harvest - base load - P) dt / E)
    wear    sum_h [f(1 - s_h) - f(1 - s_{h-1})]+          f(D) = D 10^{A (D - 1)}, as the twin counts it

The entropy makes it strictly convex in the shares where wear is convex, and its solution is x_hgn ~ exp(-u_hn): one
potential u for each node and period, the gradient of the objective by the node's watts. So potentials are iterated,
u <- u + step (gradient - u), with a step from the loop's gain. `full` is min(s, 1) rounded over `ROUND`, so that the
worth of a joule fades where the battery will be full anyway instead of dropping to 0. The gradient of each period's
heat is a mean over the time in which it is felt. A fixed number of rounds, no clock, nothing random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground_controller.physics.ageing import DEPTH_EXPONENT, depth_wear

Float = NDArray[np.float64]

ROUND = 0.02
MOST_POTENTIAL = 30.0
SLOW = 4
"""Rounds between two looks at the batteries, which answer to a change of shares more slowly than heat does."""


@dataclass(frozen=True)
class Problem:
    """Nodes in an order of the caller's; H periods, N nodes, G groups of at most R hosts.

    Args:
        period_s [H]. harvest_w, base_c [H, N]. warming_k_w [H, H]. power_w [N]: without experts. charge [N]: now.
        hosts [G, R] node indices, `host` [G, R] whether there is one. group_w [G, R]: power there if all rows of the
        group went to that host. relative_j [N]: energy of a call over the mean.
        base_load_w, battery_j, charge_efficiency, discharge_efficiency: of the satellites.
        target_c, band_k, least_charge, band_charge: where the penalties are full, and how far before they begin.
        heat, low, wear: potentials at the full penalty, and for a unit of wear by charge.
        price_per_k, price_cap: gate units charged for a kelvin over target; give: share of rows given up at the cap.
    """

    period_s: Float
    harvest_w: Float
    base_c: Float
    warming_k_w: Float
    power_w: Float
    charge: Float
    hosts: NDArray[np.intp]
    host: NDArray[np.bool_]
    group_w: Float
    relative_j: Float
    base_load_w: float
    battery_j: float
    charge_efficiency: float
    discharge_efficiency: float
    target_c: float
    band_k: float
    least_charge: float
    band_charge: float
    heat: float
    low: float
    wear: float
    price_per_k: float
    price_cap: float
    give: float


@dataclass(frozen=True)
class Plan:
    """potential, price, temperature_c, charge: [H, N]; charge at the end of each period."""

    potential: Float
    price: Float
    temperature_c: Float
    charge: Float
    power_w: Float


def descend(p: Problem, start: Float, rounds: int) -> Plan:
    """The plan after `rounds` rounds from the potentials `start` [H, N]."""
    felt = p.warming_k_w * p.period_s[:, None]
    felt = (felt / np.maximum(felt.sum(axis=0), 1e-300)).T  # [period of the watt, period in which it is felt]
    gather = np.zeros((p.hosts.size, len(p.power_w)))
    gather[np.arange(p.hosts.size), p.hosts.ravel()] = 1.0
    step = _step(p)
    u, price = start, np.zeros_like(start)
    for number in range(rounds):
        power = p.power_w + (_shares(p, u) * _kept(p, price) * p.group_w).reshape(len(u), -1) @ gather
        temperature = p.base_c + p.warming_k_w @ power
        over = (temperature - p.target_c) / p.band_k
        if number % SLOW == 0 or number == rounds - 1:
            charge, pull = _charge(p, power)
        wanted = (p.heat * (felt @ np.maximum(over + 1.0, 0.0)) + pull) * p.relative_j
        u = np.minimum(np.maximum(u + step * (wanted - u), 0.0), MOST_POTENTIAL)
        asked = np.minimum(p.price_per_k * p.band_k * (felt @ np.maximum(over, 0.0)), p.price_cap)
        price = price + step * (asked - price)
    return Plan(u, price, temperature, charge, power)


def _step(p: Problem) -> float:
    """Damping from the loop's gain: a potential moves at most a quarter of a node's rows, they warm it by R."""
    watts = float((p.group_w * p.host).max(axis=1).sum()) / max(len(p.power_w), 1)
    gain = 0.5 * watts * float(p.warming_k_w.sum(axis=1).max()) * p.heat / max(p.band_k, 1e-9)
    return 1.0 / (1.5 + gain)


def _shares(p: Problem, u: Float) -> Float:
    """[H, G, R]"""
    at = np.where(p.host, u[:, p.hosts], np.inf)
    weight = np.exp(at.min(axis=2, keepdims=True) - at)
    return np.asarray(weight / weight.sum(axis=2, keepdims=True))


def _kept(p: Problem, price: Float) -> Float:
    """[H, G, 1]: share of the rows that still pass their price, which is that of the cheapest host."""
    least = np.where(p.host, price[:, p.hosts], np.inf).min(axis=2, keepdims=True)
    return np.asarray(1.0 - p.give * least / p.price_cap)


def _charge(p: Problem, power: Float) -> tuple[Float, Float]:
    """Charge [H, N], and the gradient of wear and low charge by the energy drawn in each period, in charge [H, N]."""
    net = p.harvest_w - p.base_load_w - power
    moved = np.where(net > 0.0, net * p.charge_efficiency, net / p.discharge_efficiency)
    moved = moved * (p.period_s[:, None] / p.battery_j)
    charge, passes = np.empty_like(moved), np.empty_like(moved)
    now = p.charge
    for h in range(len(moved)):
        raw = now + moved[h]
        into = np.minimum(np.maximum(raw - (1.0 - ROUND), 0.0), 2.0 * ROUND)
        passes[h] = 1.0 - into / (2.0 * ROUND)
        now = np.maximum(np.minimum(raw, 1.0 + ROUND) - into * into / (4.0 * ROUND), 0.0)
        charge[h] = now
    depth = 1.0 - np.vstack([p.charge, charge])
    slope = 10.0 ** (DEPTH_EXPONENT * (depth - 1.0)) * (1.0 + DEPTH_EXPONENT * np.log(10.0) * depth)
    deeper = np.diff(depth_wear(depth), axis=0) > 0.0
    # Wear by the charge at the end of each period: this one's descent ends there, the next one's begins there.
    by_charge = np.where(deeper, slope[1:], 0.0)
    by_charge[:-1] -= np.where(deeper[1:], slope[1:-1], 0.0)
    by_charge *= p.wear
    lowest = charge.argmin(axis=0)
    nodes = np.arange(charge.shape[1])
    lack = (p.least_charge + p.band_charge - charge[lowest, nodes]) / p.band_charge
    by_charge[lowest, nodes] += p.low * np.maximum(lack, 0.0)
    pull = np.empty_like(charge)
    later = np.zeros(charge.shape[1])
    for h in range(len(charge) - 1, -1, -1):
        later = (later + by_charge[h]) * passes[h]
        pull[h] = later
    return charge, np.maximum(pull, 0.0)
