"""What a directed link is at an instant, over a span, and at many instants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class LinkState(NamedTuple):
    """One directed link at one instant: seconds, bit/s, probability, and whether it exists."""

    delay_s: float
    rate_bit_s: float
    loss: float
    up: bool


DOWN = LinkState(0.0, 0.0, 1.0, False)


class LinkSpan(NamedTuple):
    """What holds for one directed link from `begin_s` until `end_s`: `delay_s` is that at `begin_s`, and drifts."""

    begin_s: float
    end_s: float
    delay_s: float
    delay_drift: float
    rate_bit_s: float
    loss: float
    up: bool

    def delay_at(self, t: float) -> float:
        """At scenario second t of the span, while the link is up."""
        return max(0.0, self.delay_s + (t - self.begin_s) * self.delay_drift)


class LinkSamples(NamedTuple):
    """All pairs at N instants, each [N, P]: float64, float64, float64, bool, int64. A pair that is down has
    delay 0, rate 0, loss 1, hops 0."""

    delay_s: Float
    rate_bit_s: Float
    loss: Float
    up: NDArray[np.bool_]
    hops: NDArray[np.int64]
