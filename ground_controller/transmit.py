"""What sending costs the satellites: every byte that a node's link reports name is energy, and heat, in the twin.

Reports come every few seconds. What they name is spent in an exponential of `SPREAD_S` host seconds instead of in the
tick that hears of it: nothing is lost or spent twice, and no tick sees a burst that was none. Energy per bit is the
platform's, and modelled.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SPREAD_S = 5.0
Float = NDArray[np.float64]


class TransmitLoad:
    """Bits that wait to be accounted for, [N] over nodes. `sent_bits`: accounted for so far."""

    def __init__(self, nodes: int, joules_per_bit: float) -> None:
        self._waiting_bits: Float = np.zeros(nodes)
        self._joules_per_bit = joules_per_bit
        self.sent_bits: Float = np.zeros(nodes)
        self.rate_bit_s: Float = np.zeros(nodes)

    @property
    def joules(self) -> Float:
        """Spent so far on the bits that went, [N]."""
        return self.sent_bits * self._joules_per_bit

    def take(self, node: int, bits: float) -> None:
        """A node has sent so much."""
        self._waiting_bits[node] += bits

    def release_w(self, host_s: float) -> Float:
        """Mean power [N] over the next `host_s` seconds of host time."""
        out = self._waiting_bits * -math.expm1(-host_s / SPREAD_S)
        self._waiting_bits = self._waiting_bits - out
        self.sent_bits = self.sent_bits + out
        self.rate_bit_s = out / host_s
        return self.rate_bit_s * self._joules_per_bit
