"""Instants as CCSDS messages write them (301.0-B, ASCII A and B), and the time scales that they are in."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_CALENDAR = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?Z?", re.ASCII)
_DAY_OF_YEAR = re.compile(r"(\d{4})-(\d{3})T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?Z?", re.ASCII)

TAI_MINUS_UTC_S = 37
LEAP_SECONDS_KNOWN_FROM = datetime(2017, 1, 1, tzinfo=timezone.utc)
"""IERS Bulletin C: no leap second since."""

SCALES_MINUS_UTC_S = {
    "UTC": 0.0, "TAI": TAI_MINUS_UTC_S, "TT": TAI_MINUS_UTC_S + 32.184, "TDB": TAI_MINUS_UTC_S + 32.184,
    "GPS": TAI_MINUS_UTC_S - 19.0,
}  # fmt: skip
"""Seconds that a time scale is ahead of UTC since 2017. TDB differs from TT by less than 2 ms."""


def ccsds_instant(text: str) -> datetime | None:
    """The instant that `text` writes, read as UTC and to the microsecond; None if it is none."""
    calendar, by_day = _CALENDAR.fullmatch(text), _DAY_OF_YEAR.fullmatch(text)
    try:
        if calendar:
            year, month, day, hour, minute, second = (int(part) for part in calendar.groups()[:6])
            found = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
            digits = calendar[7]
        elif by_day:
            year, day, hour, minute, second = (int(part) for part in by_day.groups()[:5])
            found = datetime(year, 1, 1, hour, minute, second, tzinfo=timezone.utc) + timedelta(days=day - 1)
            if day < 1 or found.year != year:
                return None
            digits = by_day[6]
        else:
            return None
        return found + timedelta(microseconds=round(int(digits) * 10 ** (6 - len(digits)))) if digits else found
    except (ValueError, OverflowError):
        return None
