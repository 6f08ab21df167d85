"""Interpolation of states by polynomials, as orbit ephemeris messages ask for it (CCSDS 502.0-B, 5.2.4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def lagrange_polynomial(knots: Float, values: Float, t: Float) -> Float:
    """[K, D] values at K points of the polynomial of degree n - 1 through n values [n, D] at rising knots."""
    table = np.array(values, dtype=np.float64)
    for level in range(1, knots.size):
        table[level:] = (table[level:] - table[level - 1 : -1]) / (knots[level:] - knots[:-level])[:, None]
    result = np.broadcast_to(table[-1], (t.size, table.shape[1])).copy()
    for level in range(knots.size - 2, -1, -1):
        result = result * (t - knots[level])[:, None] + table[level]
    return result


def hermite_polynomial(knots: Float, values: Float, slopes: Float, t: Float) -> tuple[Float, Float]:
    """Values and slopes [K, D] of the polynomial of degree 2 n - 1 that has both at n rising knots.

    Newton's form with every knot twice. Knots are scaled to their span, so that powers of large times do not cancel.
    """
    middle, span = 0.5 * (knots[0] + knots[-1]), max(float(knots[-1] - knots[0]), 1e-9)
    z = np.repeat((knots - middle) / span, 2)
    table = np.repeat(np.asarray(values, dtype=np.float64), 2, axis=0)
    first = np.empty_like(table)
    first[1::2] = slopes * span
    gaps = z[2::2] - z[1:-1:2]
    first[2::2] = (table[2::2] - table[1:-1:2]) / gaps[:, None]
    coefficients = [table[0], first[1]]
    current = first[1:]
    for level in range(2, z.size):
        current = (current[1:] - current[:-1]) / (z[level:] - z[:-level])[:, None]
        coefficients.append(current[0])
    u = ((t - middle) / span)[:, None]
    value = np.broadcast_to(coefficients[-1], (t.size, table.shape[1])).copy()
    slope = np.zeros_like(value)
    for level in range(z.size - 2, -1, -1):
        slope = slope * (u - z[level]) + value
        value = value * (u - z[level]) + coefficients[level]
    return value, slope / span
