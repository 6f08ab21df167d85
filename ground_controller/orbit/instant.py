"""Instants as people write them and as astronomy counts them. UTC throughout."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hil_config.errors import ConfigError

J2000_JULIAN_DATE = 2_451_545.0
TERRESTRIAL_MINUS_UTC_S = 69.184
"""TT - UTC since 2017-01-01: 37 leap seconds and 32.184 s (IERS Bulletin C). The Sun moves 0.0008 degrees
in it."""

_NOON_2000 = datetime(2000, 1, 1, 12, tzinfo=timezone.utc)
_DAY = timedelta(days=1)


def parse_instant(text: str) -> datetime:
    """An ISO 8601 UTC instant such as `2024-10-21T08:20:00Z`, or ConfigError."""
    hint = "write the instant in UTC, like 2024-10-21T08:20:00Z"
    try:
        instant = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as error:
        raise ConfigError(f"epoch_utc: {text!r} is not an ISO 8601 instant", hint) from error
    if instant.utcoffset() != timedelta(0):
        raise ConfigError(f"epoch_utc: {text!r} does not say that it is UTC", hint)
    return instant.astimezone(timezone.utc)


def julian_date(instant: datetime) -> tuple[float, float]:
    """Julian date (UTC) of an aware instant as (day ending in .0, fraction of a day in 0..1)."""
    days, rest = divmod(instant - _NOON_2000, _DAY)
    return J2000_JULIAN_DATE + days, rest / _DAY
