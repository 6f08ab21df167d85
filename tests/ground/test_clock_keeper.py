from __future__ import annotations

import pytest

from ground_controller.clock_keeper import LEAST_DRIFT_NS, drifted


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        ((0, 1_000), (LEAST_DRIFT_NS, 1_000), False),
        ((0, 1_000), (LEAST_DRIFT_NS + 1, 1_000), True),
        ((0, 1_000), (-LEAST_DRIFT_NS - 1, 1_000), True),
        ((0, 400_000), (700_000, 400_000), False),  # both measurements together may be that wrong
        ((10**15, 5_000), (10**15 + 2_000_000, 5_000), True),  # 2 ms: a minute at 33 ppm
    ],
)
def test_only_a_drift_that_is_real_and_matters_is_corrected(
    before: tuple[int, int], now: tuple[int, int], wanted: bool
) -> None:
    assert drifted(before, now) is wanted
