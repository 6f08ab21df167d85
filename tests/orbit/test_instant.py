from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ground_controller.orbit.instant import julian_date, parse_instant
from hil_config.errors import ConfigError


def test_julian_date_of_known_instants() -> None:
    assert julian_date(datetime(2000, 1, 1, 12, tzinfo=timezone.utc)) == (2_451_545.0, 0.0)
    day, fraction = julian_date(datetime(1957, 10, 4, 19, 26, 24, tzinfo=timezone.utc))
    assert day + fraction == pytest.approx(2_436_116.31, abs=1e-6)  # Meeus, example 7.a


def test_instants_are_utc() -> None:
    wanted = datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc)
    assert parse_instant("2024-10-21T08:20:00Z") == wanted
    assert parse_instant("2024-10-21T08:20:00+00:00").utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["", "Z", "tomorrow", "2024-10-21T08:20:00", "2024-10-21T08:20:00+02:00"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="epoch_utc"):
        parse_instant(text)
