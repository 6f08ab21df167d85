"""OEM files: interpolation against SGP4, frames against Skyfield, refusals by name."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from ground_controller.formats.instants import ccsds_instant
from ground_controller.formats.interpolate import hermite_polynomial, lagrange_polynomial
from ground_controller.formats.oem import parse_oem
from ground_controller.formats.omm import parse_omm_xml
from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements, read_elements
from ground_controller.orbit.frames import j2000_to_teme
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date
from ground_controller.orbit.propagate import Ephemeris, positions
from hil_config.errors import DataFileError

EPOCH = datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc)
ELEMENTS = read_elements(DEMO_ELEMENTS)[:1]


def truth(offset_s: np.ndarray, elements: tuple[Elements, ...] = ELEMENTS) -> Ephemeris:
    return positions(elements, EPOCH, offset_s)


def message(
    step_s: float = 60.0, count: int = 31, method: str | None = "HERMITE", degree: int = 7, frame: str = "TEME",
    scale: str = "UTC", ahead_s: float = 0.0, extra: str = "", turn: bool = False, name: str = "SAT",
    begin_s: float = 0.0, elements: tuple[Elements, ...] = ELEMENTS,
) -> str:  # fmt: skip
    """An OEM made of SGP4's states; with `turn` they are given in J2000."""
    t = begin_s + np.arange(count, dtype=np.float64) * step_s
    found = truth(t, elements)
    position, velocity = found.position_km[:, 0], found.velocity_km_s[:, 0]
    if turn:
        day, fraction = julian_date(EPOCH)
        back = j2000_to_teme(day + fraction + (t + TERRESTRIAL_MINUS_UTC_S) / 86_400.0)
        position, velocity = (np.einsum("nji,nj->ni", back, one) for one in (position, velocity))
    lines = ["CCSDS_OEM_VERS = 2.0", "CREATION_DATE = 2024-10-21T00:00:00", "ORIGINATOR = test", "META_START",
             f"OBJECT_NAME = {name}", "OBJECT_ID = 2024-001A", "CENTER_NAME = EARTH", f"REF_FRAME = {frame}",
             f"TIME_SYSTEM = {scale}", *([extra] if extra else [])]  # fmt: skip
    if method:
        lines += [f"INTERPOLATION = {method}", f"INTERPOLATION_DEGREE = {degree}"]
    lines += ["META_STOP", "COMMENT states"]
    for seconds, p, v in zip(t, position, velocity, strict=True):
        instant = EPOCH + timedelta(seconds=float(seconds) + ahead_s)
        numbers = " ".join(f"{value:.9f}" for value in (*p, *v))
        lines.append(f"{instant:%Y-%m-%dT%H:%M:%S.%f} {numbers}")
    return "\n".join(lines) + "\n"


def error_m(text: str, until_s: float = 1_800.0) -> tuple[float, float]:
    """Largest errors of position (m) and velocity (mm/s) between the states."""
    t = np.arange(0.0, until_s, 7.0)
    (track,) = parse_oem(text, "x")
    found, wanted = track.states(EPOCH, t), truth(t)
    apart = np.linalg.norm(found.position_km - wanted.position_km, axis=-1).max() * 1e3
    speed = np.linalg.norm(found.velocity_km_s - wanted.velocity_km_s, axis=-1).max() * 1e6
    return float(apart), float(speed)


@pytest.mark.parametrize(
    ("method", "degree", "position_m", "velocity_mm_s"),
    [("HERMITE", 7, 1.0, 100.0), ("HERMITE", 3, 1.0, 100.0), ("LAGRANGE", 7, 5.0, 5.0), ("LAGRANGE", 9, 0.5, 1.0)],
)  # fmt: skip
def test_between_states_of_a_minute(method: str, degree: int, position_m: float, velocity_mm_s: float) -> None:
    """SGP4's velocity is not quite the slope of its position: Hermite pays 0.6 m for it, at any degree."""
    apart, speed = error_m(message(method=method, degree=degree))
    assert apart < position_m and speed < velocity_mm_s


def test_linear_and_the_default() -> None:
    assert 1_000.0 < error_m(message(method="LINEAR", degree=1))[0] < 5_000.0
    text = message(method=None)
    assert error_m(text)[0] < 1.0
    assert "says no INTERPOLATION: HERMITE of degree 7" in parse_oem(text, "x")[0].warnings[0]


def test_polynomials_are_exact_for_polynomials() -> None:
    rng = np.random.default_rng(1)
    t = np.linspace(-1.0, 6.0, 40)
    for knots_count in (2, 3, 5):
        knots = np.sort(rng.uniform(0.0, 5.0, knots_count)) + np.arange(knots_count)
        lagrange, hermite = (np.polynomial.Polynomial(rng.normal(size=n)) for n in (knots_count, 2 * knots_count))
        assert lagrange_polynomial(knots, lagrange(knots)[:, None], t)[:, 0] == pytest.approx(lagrange(t), abs=1e-8)
        value, slope = hermite_polynomial(knots, hermite(knots)[:, None], hermite.deriv()(knots)[:, None], t)
        scale = np.abs(hermite(t)).max()
        assert value[:, 0] == pytest.approx(hermite(t), abs=1e-9 * scale)
        assert slope[:, 0] == pytest.approx(hermite.deriv()(t), abs=1e-8 * scale)


@pytest.mark.parametrize("frame", ["EME2000", "GCRF", "ICRF", "J2000"])
def test_other_inertial_frames_are_turned(frame: str) -> None:
    assert error_m(message(frame=frame, turn=True))[0] < 1.0
    assert error_m(message(frame=frame))[0] > 10_000.0  # 0.34 degrees of precession


def test_teme_of_an_epoch_is_not_teme_of_date() -> None:
    own = "REF_FRAME_EPOCH = 2024-10-21T08:20:00"
    assert error_m(message(extra=own))[0] < 1.0
    # in 2000 TEME and J2000 were a nutation of some seconds of arc apart, and precession was nothing
    assert error_m(message(extra="REF_FRAME_EPOCH = 2000-01-01T12:00:00", turn=True))[0] < 500.0
    with pytest.raises(DataFileError, match="x:10: REF_FRAME_EPOCH is no instant"):
        parse_oem(message(extra="REF_FRAME_EPOCH = then"), "x")
    assert error_m(message(frame="EME2000", extra=own, turn=True))[0] < 1.0  # says nothing of a frame that has one


def test_frames_against_skyfield() -> None:
    """GCRF to TEME of an independent library, over 30 years: below 0.1 arc seconds."""
    load = pytest.importorskip("skyfield.api", reason="skyfield is not installed").load
    sgp4lib = pytest.importorskip("skyfield.sgp4lib", reason="skyfield is not installed")
    scale = load.timescale(builtin=True)
    for date in (2_451_545.0, 2_455_555.5, 2_460_604.8, 2_462_502.5):
        wanted = sgp4lib.TEME.rotation_at(scale.tt_jd(date))
        ours = j2000_to_teme(np.array([date]))[0]
        assert ours @ ours.T == pytest.approx(np.eye(3), abs=1e-14)
        assert np.degrees(np.abs(ours - wanted).max()) * 3_600.0 < 0.1


@pytest.mark.parametrize(("scale", "ahead_s"), [("TAI", 37.0), ("TT", 69.184), ("TDB", 69.184), ("GPS", 18.0)])
def test_time_scales(scale: str, ahead_s: float) -> None:
    assert error_m(message(scale=scale, ahead_s=ahead_s))[0] < 1.0  # a millisecond is 7.5 m


def test_instants() -> None:
    assert ccsds_instant("2024-10-21T08:20:00.25Z") == EPOCH + timedelta(seconds=0.25)
    assert ccsds_instant("2024-295T08:20:00") == EPOCH
    for text in (
        "2024-366T24:00:00",
        "2023-366T00:00:00",
        "2024-000T00:00:00",
        "2024-13-01T00:00:00",
        "21.10.2024",
        "",
    ):
        assert ccsds_instant(text) is None


def test_what_the_file_does_not_cover_is_refused() -> None:
    (track,) = parse_oem(message(extra="USEABLE_STOP_TIME = 2024-10-21T08:40:00"), "x.oem")
    track.states(EPOCH, np.array([0.0, 1_200.0]))
    for offset in (-1.0, 1_201.0):
        with pytest.raises(DataFileError, match=r"x\.oem:\d+: the ephemeris of 'SAT' says nothing of"):
            track.states(EPOCH, np.array([offset]))


def test_segments_and_objects() -> None:
    first, second = message(count=11), message(count=11, begin_s=600.0)
    body = second[second.index("META_START") :]
    (track,) = parse_oem(first + body, "x")
    assert len(track.segments) == 2
    t = np.array([599.0, 600.0, 601.0, 1_200.0])
    assert track.states(EPOCH, t).position_km == pytest.approx(truth(t).position_km, abs=1e-4)
    with pytest.raises(DataFileError, match="overlaps the one before"):
        parse_oem(first + first[first.index("META_START") :], "x")
    other = message(name="OTHER")
    assert [one.name for one in parse_oem(first + other[other.index("META_START") :], "x")] == ["SAT", "OTHER"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("REF_FRAME = TEME", "REF_FRAME = ITRF-97", "x:8: REF_FRAME is 'ITRF-97', supported: TEME, EME2000"),
        ("CENTER_NAME = EARTH", "CENTER_NAME = MARS", "x:7: CENTER_NAME is 'MARS'"),
        ("CENTER_NAME = EARTH", "CENTER_NAME = EARTH BARYCENTER", "x:7: CENTER_NAME is 'EARTH BARYCENTER'"),
        ("TIME_SYSTEM = UTC", "TIME_SYSTEM = UT1", "x:9: TIME_SYSTEM is 'UT1'"),
        ("INTERPOLATION = HERMITE", "INTERPOLATION = SPLINE", "x:10: INTERPOLATION is 'SPLINE'"),
        ("_DEGREE = 7", "_DEGREE = 99", "INTERPOLATION_DEGREE is '99'"),
        ("CCSDS_OEM_VERS", "CCSDS_OPM_VERS", "x:1: an OEM begins with"),
        ("OBJECT_NAME = SAT\n", "", "say no OBJECT_NAME"),
        ("META_STOP", "META", "wanted one KEY = value"),
    ],
)
def test_refused_by_name(old: str, new: str, words: str) -> None:
    with pytest.raises(DataFileError, match=words):
        parse_oem(message().replace(old, new, 1), "x")


def test_refused_states() -> None:
    lines = message(count=3).splitlines()
    metres = lines[-1].split()
    metres[1:4] = [str(float(value) * 1e3) for value in metres[1:4]]
    for changed, words in (
        ([*lines[:-1], " ".join(metres)], "a file in metres must be converted"),
        ([*lines, lines[-1]], "is not after the one before"),
        ([*lines[:-1], lines[-1][:60]], "wanted an instant, a position and a velocity"),
        (lines[:-2], "at least two states"),
    ):
        with pytest.raises(DataFileError) as refused:
            parse_oem("\n".join(changed), "x")
        assert words in str(refused.value)
    old = message(scale="TAI").replace("2024-10-21", "2010-10-21")
    with pytest.raises(DataFileError, match="TAI before 2017"):
        parse_oem(old, "x")


def as_xml(text: str, units: bool = True) -> str:
    """The same message in XML, its segments in an `ndm`."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<ndm><oem id="CCSDS_OEM_VERS" version="2.0">',
           "<header><CREATION_DATE>2024-10-21T00:00:00</CREATION_DATE></header><body>"]  # fmt: skip
    keys, opened = ("X", "Y", "Z", "X_DOT", "Y_DOT", "Z_DOT"), False
    for line in text.splitlines()[3:]:
        key, sign, value = (part.strip() for part in line.partition("="))
        if key == "META_START":
            out.append(("</data></segment>" if opened else "") + "<segment><metadata>")
            opened = True
        elif key == "META_STOP":
            out.append("</metadata><data><COMMENT>states</COMMENT>")
        elif sign:
            out.append(f"<{key}>{value}</{key}>")
        elif not key.startswith("COMMENT"):
            instant, *numbers = line.split()
            said = [f' units="km{"/s" * (n > 2)}"' if units else "" for n in range(6)]
            leaves = (f"<{k}{u}>{v}</{k}>" for k, u, v in zip(keys, said, numbers, strict=True))
            out.append(f"<stateVector><EPOCH>{instant}</EPOCH>{''.join(leaves)}</stateVector>")
    cov = "<covarianceMatrix><EPOCH>2024-10-21T00:00:00</EPOCH><CX_X>1</CX_X></covarianceMatrix>"
    return "\n".join([*out, f"{cov}</data></segment></body></oem></ndm>"])


def test_xml_says_what_key_value_notation_says() -> None:
    two = message(count=5) + "\n".join(message(count=6, begin_s=240.0).splitlines()[3:])
    for text in (message(method="LAGRANGE"), message(frame="EME2000", turn=True, scale="TAI"), two):
        wanted = parse_oem(text, "x")
        for units in (True, False):
            found = parse_oem(as_xml(text, units), "x")
            assert [one.name for one in found] == [one.name for one in wanted]
            for ours, its in zip(found, wanted, strict=True):
                assert len(ours.segments) == len(its.segments) and ours.warnings == its.warnings
                for a, b in zip(ours.segments, its.segments, strict=True):
                    assert (a.epoch, a.method, a.degree, a.first_s, a.last_s) == (
                        b.epoch, b.method, b.degree, b.first_s, b.last_s)  # fmt: skip
                    assert (a.position_km == b.position_km).all() and (a.velocity_km_s == b.velocity_km_s).all()


def test_xml_is_refused_by_line() -> None:
    good = as_xml(message(count=3))
    for old, new, words in (
        ("<oem ", "<omm ", "x:"),
        ('<X units="km">', '<X units="m">', "X is in 'm', wanted km"),
        ("<OBJECT_NAME>", "<OBJECT_NAME>A</OBJECT_NAME><OBJECT_NAME>", "x:5: wanted each key .* found .OBJECT_NAME"),
        ("<CENTER_NAME>EARTH", "<CENTER_NAME>MARS", "x:7: CENTER_NAME is 'MARS'"),
        ("</X>", "</X><X>1</X>", "'X' cannot stand here"),
        ("TEME", "ITRF", "REF_FRAME is 'ITRF'"),
    ):
        with pytest.raises(DataFileError, match=words):
            parse_oem(good.replace(old, new, 1), "x")
    assert len(parse_oem(good.replace('units="km"', 'units="KM"').replace('units="km/s"', 'units="KM/S"'), "x")) == 1
    z = good[good.index("<Z ") : good.index("</Z>") + 4]
    with pytest.raises(DataFileError, match=r"x:13: this stateVector has no Z"):
        parse_oem(good.replace(z, "", 1), "x")
    with pytest.raises(DataFileError, match="holds no states"):
        parse_oem('<oem id="x"><body></body></oem>', "x")
    with pytest.raises(DataFileError, match="wanted an element oem"):
        parse_oem("<html>hello</html>", "x")
    with pytest.raises(DataFileError, match=r"x:3: this is an OEM .*"):
        parse_omm_xml(good, "x")
