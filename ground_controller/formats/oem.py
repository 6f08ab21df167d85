"""Orbit ephemeris messages (CCSDS 502.0-B), key-value notation or XML: states to interpolate between.

Positions are km and velocities km/s by the standard. Frames TEME, EME2000 (J2000), GCRF and ICRF are understood and
given in TEME of date; time systems UTC, and since 2017 TAI, TT, TDB and GPS. Everything else is refused by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground_controller.formats.instants import LEAP_SECONDS_KNOWN_FROM, SCALES_MINUS_UTC_S, ccsds_instant
from ground_controller.formats.interpolate import hermite_polynomial, lagrange_polynomial
from ground_controller.formats.oem_xml import OemPart, oem_xml_parts
from ground_controller.formats.text import number, read_text, refuse
from ground_controller.orbit.frames import j2000_to_teme
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date
from ground_controller.orbit.propagate import Ephemeris
from hil_config.errors import DataFileError

Float = NDArray[np.float64]
Method = Literal["HERMITE", "LAGRANGE", "LINEAR"]

_HINT = "see CCSDS 502.0-B, chapter 5"
TURNED_FRAMES = frozenset({"EME2000", "J2000", "GCRF", "ICRF"})
FRAMES = ("TEME", *sorted(TURNED_FRAMES))
DEFAULT_METHOD: tuple[Method, int] = ("HERMITE", 7)
MAX_DEGREE = 20
LOWEST_KM, HIGHEST_KM = 6_300.0, 2_000_000.0
_REQUIRED = ("OBJECT_NAME", "CENTER_NAME", "REF_FRAME", "TIME_SYSTEM")
_KNOWN = {*_REQUIRED, "OBJECT_ID", "REF_FRAME_EPOCH", "START_TIME", "STOP_TIME", "USEABLE_START_TIME",
          "USEABLE_STOP_TIME", "INTERPOLATION", "INTERPOLATION_DEGREE"}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """States of one object. time_s: [N] after `epoch`; position_km, velocity_km_s: [N, 3] in TEME; `first_s` and
    `last_s`: what may be used of it; `lines`: where its first and last state stand."""

    epoch: datetime
    time_s: Float
    position_km: Float
    velocity_km_s: Float
    first_s: float
    last_s: float
    method: Method
    degree: int
    lines: tuple[int, int] = (0, 0)

    def states(self, t: Float) -> tuple[Float, Float]:
        """Position and velocity [K, 3] at K seconds after `epoch`, all within `first_s`..`last_s`."""
        count = self.degree + 1 if self.method != "HERMITE" else (self.degree + 1) // 2
        count = min(max(2, count), self.time_s.size)
        at = np.searchsorted(self.time_s, t, side="right") - 1
        first = np.clip(at - (count - 1) // 2, 0, self.time_s.size - count)
        position, velocity = np.empty((t.size, 3)), np.empty((t.size, 3))
        for start in np.unique(first):
            here, part = first == start, slice(start, start + count)
            knots, p, v = self.time_s[part], self.position_km[part], self.velocity_km_s[part]
            if self.method == "HERMITE":
                position[here], velocity[here] = hermite_polynomial(knots, p, v, t[here])
            else:
                position[here] = lagrange_polynomial(knots, p, t[here])
                velocity[here] = lagrange_polynomial(knots, v, t[here])
        return position, velocity


@dataclass(frozen=True)
class OemTrack:
    """One object's ephemeris: a name and segments in the order of time."""

    name: str
    source: str
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def states(self, epoch: datetime, offset_s: Float) -> Ephemeris:
        """Positions and velocities [N, 1, 3] in TEME at N offsets from an instant.

        Raises:
            DataFileError: an instant lies outside of what the file covers.
        """
        position, velocity = np.full((offset_s.size, 3), np.nan), np.full((offset_s.size, 3), np.nan)
        for segment in self.segments:
            t = (epoch - segment.epoch).total_seconds() + np.asarray(offset_s, dtype=np.float64)
            inside = (t >= segment.first_s) & (t <= segment.last_s) & np.isnan(position[:, 0])
            if inside.any():
                position[inside], velocity[inside] = segment.states(t[inside])
        missing = np.flatnonzero(np.isnan(position[:, 0]))
        if missing.size:
            instant = epoch + timedelta(seconds=float(offset_s[missing[0]]))
            first, last = self.segments[0], self.segments[-1]
            line = first.lines[0] if instant < first.epoch else last.lines[1]
            raise DataFileError(
                f"{self.source}:{line}: the ephemeris of {self.name!r} says nothing of {instant:%Y-%m-%dT%H:%M:%SZ};"
                f" it goes from {first.epoch + timedelta(seconds=first.first_s):%Y-%m-%dT%H:%M:%SZ}"
                f" to {last.epoch + timedelta(seconds=last.last_s):%Y-%m-%dT%H:%M:%SZ}",
                "choose an epoch and duration within it",
            )
        return Ephemeris(position[:, None, :], velocity[:, None, :])


def read_oem(path: Path) -> tuple[OemTrack, ...]:
    """The objects of an OEM file. Raises DataFileError with file and line."""
    return parse_oem(read_text(path, _HINT), str(path))


def parse_oem(text: str, source: str) -> tuple[OemTrack, ...]:
    """The objects of an OEM text, in the order in which they appear. Covariances are skipped. XML begins with <."""
    warnings: list[str] = []
    found: dict[str, list[Segment]] = {}
    for one in oem_xml_parts(text, source, _KNOWN) if text.lstrip().startswith("<") else _parts(text, source):
        _add(one.meta, one.rows, found, warnings, source)
    if not found:
        refuse(source, 0, "the file holds no states", _HINT)
    return tuple(OemTrack(name, source, tuple(segments), tuple(warnings)) for name, segments in found.items())


def _parts(text: str, source: str) -> list[OemPart]:
    """Segments of key-value notation."""
    lines = [(number, raw.strip()) for number, raw in enumerate(text.splitlines(), start=1)]
    lines = [(line, raw) for line, raw in lines if raw and not raw.startswith("COMMENT")]
    if not lines or not lines[0][1].replace(" ", "").startswith("CCSDS_OEM_VERS="):
        refuse(source, lines[0][0] if lines else 1, "an OEM begins with CCSDS_OEM_VERS =", _HINT)
    meta: dict[str, tuple[str, int]] = {}
    rows: list[tuple[int, list[str]]] = []
    found: list[OemPart] = []
    where = "header"
    for line, raw in [*lines, (0, "META_START")]:
        if raw == "META_START":
            if where not in {"header", "data"}:
                refuse(source, line, f"META_START inside {where}", _HINT)
            if rows or meta:
                found.append(OemPart(meta, rows))
            meta, rows, where = {}, [], "meta"
        elif raw == "META_STOP" and where == "meta":
            where = "data"
        elif raw == "COVARIANCE_START" and where == "data":
            where = "covariance"
        elif raw == "COVARIANCE_STOP" and where == "covariance":
            where = "data"
        elif where == "meta":
            key, sign, value = (part.strip() for part in raw.partition("="))
            if not sign or key not in _KNOWN or key in meta or not value:
                refuse(source, line, f"wanted one KEY = value of the metadata; found {raw[:60]!r}", _HINT)
            meta[key] = (value, line)
        elif where == "data":
            rows.append((line, raw.split()))
    return found


def _add(
    meta: dict[str, tuple[str, int]], rows: list[tuple[int, list[str]]], found: dict[str, list[Segment]],
    warnings: list[str], source: str,
) -> None:  # fmt: skip
    line = next(iter(meta.values()))[1] if meta else rows[0][0]
    for key in _REQUIRED:
        if key not in meta:
            refuse(source, line, f"the metadata say no {key}", _HINT)
    if meta["CENTER_NAME"][0].upper() != "EARTH":  # EARTH BARYCENTER is that of Earth and Moon: 4,700 km away
        refuse(
            source, meta["CENTER_NAME"][1], f"CENTER_NAME is {meta['CENTER_NAME'][0][:40]!r}, supported: EARTH", _HINT
        )
    frame, scale = meta["REF_FRAME"][0].upper(), meta["TIME_SYSTEM"][0].upper()
    if frame not in FRAMES:
        refuse(source, meta["REF_FRAME"][1], f"REF_FRAME is {meta['REF_FRAME'][0][:40]!r}, supported:"
               f" {', '.join(FRAMES)}", "convert the file to one of them")  # fmt: skip
    if scale not in SCALES_MINUS_UTC_S:
        refuse(source, meta["TIME_SYSTEM"][1], f"TIME_SYSTEM is {meta['TIME_SYSTEM'][0][:40]!r}, supported:"
               f" {', '.join(SCALES_MINUS_UTC_S)}", "convert the file to UTC")  # fmt: skip
    method, degree = _method(meta, source, line, warnings)
    instants, states = _states(rows, source, line)
    if scale != "UTC":
        if instants[0] < LEAP_SECONDS_KNOWN_FROM:
            refuse(source, rows[0][0], f"{scale} before 2017: leap seconds of that time are not known here",
                   "convert the file to UTC")  # fmt: skip
        instants = [one - timedelta(seconds=SCALES_MINUS_UTC_S[scale]) for one in instants]
    epoch = instants[0]
    time_s = np.array([(one - epoch).total_seconds() for one in instants])
    position, velocity = states[:, :3], states[:, 3:]
    if frame in TURNED_FRAMES or "REF_FRAME_EPOCH" in meta:
        turn = _turn(epoch, time_s)
        if frame not in TURNED_FRAMES:  # TEME of one instant, not of date
            fixed, at = meta["REF_FRAME_EPOCH"]
            instant = ccsds_instant(fixed)
            if instant is None:
                refuse(source, at, f"REF_FRAME_EPOCH is no instant; found {fixed[:40]!r}", _HINT)
            turn = turn @ _turn(instant, np.zeros(1))[0].T
        position, velocity = (np.einsum("nij,nj->ni", turn, one) for one in (position, velocity))
    limits = [time_s[0], time_s[-1]]
    for index, key in enumerate(("USEABLE_START_TIME", "USEABLE_STOP_TIME")):
        if key in meta:
            instant = ccsds_instant(meta[key][0])
            if instant is None:
                refuse(source, meta[key][1], f"{key} is no instant; found {meta[key][0][:40]!r}", _HINT)
            moved = instant - timedelta(seconds=SCALES_MINUS_UTC_S[scale])
            limits[index] = float(np.clip((moved - epoch).total_seconds(), time_s[0], time_s[-1]))
    lines = rows[0][0], rows[-1][0]
    segment = Segment(epoch, time_s, position, velocity, limits[0], limits[1], method, degree, lines)
    segments = found.setdefault(meta["OBJECT_NAME"][0], [])
    if segments and segments[-1].epoch + timedelta(seconds=segments[-1].last_s) > epoch + timedelta(seconds=limits[0]):
        refuse(source, line, f"this segment of {meta['OBJECT_NAME'][0][:40]!r} overlaps the one before", _HINT)
    segments.append(segment)


def _turn(epoch: datetime, time_s: Float) -> Float:
    """[N, 3, 3] rotations from J2000 to TEME at N seconds after an instant."""
    day, fraction = julian_date(epoch)
    return j2000_to_teme(day + fraction + (time_s + TERRESTRIAL_MINUS_UTC_S) / 86_400.0)


def _method(meta: dict[str, tuple[str, int]], source: str, line: int, warnings: list[str]) -> tuple[Method, int]:
    if "INTERPOLATION" not in meta:
        warnings.append(f"{source}:{line}: says no INTERPOLATION: {DEFAULT_METHOD[0]} of degree {DEFAULT_METHOD[1]}")
        return DEFAULT_METHOD
    name, at = meta["INTERPOLATION"]
    text, _ = meta.get("INTERPOLATION_DEGREE", ("", 0))
    methods: dict[str, Method] = {"HERMITE": "HERMITE", "LAGRANGE": "LAGRANGE", "LINEAR": "LINEAR"}
    if name.upper() not in methods:
        refuse(source, at, f"INTERPOLATION is {name[:40]!r}, supported: {', '.join(methods)}", _HINT)
    if name.upper() == "LINEAR":
        return "LINEAR", 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= MAX_DEGREE):
        refuse(source, at, f"INTERPOLATION_DEGREE is {text[:20]!r}, wanted 1 to {MAX_DEGREE}", _HINT)
    return methods[name.upper()], int(text)


def _states(rows: list[tuple[int, list[str]]], source: str, line: int) -> tuple[list[datetime], Float]:
    if len(rows) < 2:
        refuse(source, line, f"a segment needs at least two states; it has {len(rows)}", _HINT)
    instants: list[datetime] = []
    states: list[list[float]] = []
    for at, words in rows:
        if len(words) not in {7, 10}:  # accelerations may follow and are not used
            refuse(source, at, f"wanted an instant, a position and a velocity; found {' '.join(words)[:60]!r}", _HINT)
        instant = ccsds_instant(words[0])
        if instant is None:
            refuse(source, at, f"no instant: {words[0][:40]!r}", _HINT)
        if instants and instant <= instants[-1]:
            refuse(source, at, f"the instant {words[0][:40]} is not after the one before", _HINT)
        state = [number(word, "a coordinate", source, at, _HINT) for word in words[1:7]]
        radius = float(np.linalg.norm(state[:3]))
        if not LOWEST_KM <= radius <= HIGHEST_KM:
            refuse(source, at, f"{radius:g} km from the Earth's centre: below the ground or beyond its reach",
                   "positions are km and velocities km/s; a file in metres must be converted")  # fmt: skip
        instants.append(instant)
        states.append(state)
    return instants, np.array(states)
