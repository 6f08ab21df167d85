"""OMMs give the element sets that TLEs give: whatever sgp4's own exporter makes of a TLE comes back as that TLE."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from sgp4.api import Satrec
from sgp4.exporter import export_omm

from ground_controller.formats.omm import parse_omm_csv, parse_omm_json, parse_omm_xml
from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements, checksum, parse_elements, read_elements
from hil_config.errors import DataFileError

ISS = parse_elements(
    "ISS (ZARYA)\n1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n"
    "2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n", "iss",
)  # fmt: skip
SETS = (*read_elements(DEMO_ELEMENTS), *ISS)


def fields(one: Elements) -> dict[str, Any]:
    return dict(export_omm(Satrec.twoline2rv(one.line1, one.line2), one.name))


def as_csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_xml(rows: list[dict[str, Any]]) -> str:
    head = ("OBJECT_NAME", "OBJECT_ID", "CENTER_NAME", "REF_FRAME", "TIME_SYSTEM", "MEAN_ELEMENT_THEORY")
    out = ['<?xml version="1.0" encoding="UTF-8"?>', '<ndm xmlns:x="urn:x">']
    for row in rows:
        out.append(
            '<omm id="CCSDS_OMM_VERS" version="2.0"><header><CREATION_DATE/><ORIGINATOR/></header><body><segment>'
        )
        out.append("<metadata>" + "".join(f"<{k}>{row[k]}</{k}>" for k in head if k in row) + "</metadata><data>")
        out += [f"<{k}>{v}</{k}>" for k, v in row.items() if k not in head]
        out.append("</data></segment></body></omm>")
    return "\n".join([*out, "</ndm>"])


def same(found: Elements, wanted: Elements) -> None:
    """All that SGP4 and people read; the form of a zero drag term and blanks do not matter."""
    assert found.name == wanted.name
    assert found.line2 == wanted.line2
    assert found.epoch == wanted.epoch
    for first, last in ((3, 17), (34, 43), (65, 68)):
        assert found.line1[first - 1 : last] == wanted.line1[first - 1 : last]
    a, b = (Satrec.twoline2rv(one.line1, one.line2) for one in (found, wanted))
    assert (a.bstar, a.ndot, a.nddot, a.jdsatepoch, a.jdsatepochF) == (
        b.bstar, b.ndot, b.nddot, b.jdsatepoch, b.jdsatepochF)  # fmt: skip


def test_every_form_gives_the_same_sets() -> None:
    rows = [fields(one) for one in SETS]
    for found in (
        parse_omm_csv(as_csv(rows), "x"), parse_omm_json(json.dumps(rows), "x"), parse_omm_xml(as_xml(rows), "x"),
    ):  # fmt: skip
        assert not found.warnings
        assert len(found.elements) == len(SETS)
        for one, wanted in zip(found.elements, SETS, strict=True):
            same(one, wanted)


def test_one_object_alone() -> None:
    same(parse_omm_json(json.dumps(fields(SETS[0])), "x").elements[0], SETS[0])


def one(**changes: Any) -> dict[str, Any]:
    return {**fields(SETS[0]), **changes}


def test_finer_values_are_rounded_and_told() -> None:
    found = parse_omm_json(json.dumps(one(INCLINATION=53.05434, MEAN_ANOMALY=10.00005, ECCENTRICITY=0.00012341)), "x")
    assert "53.0543" in found.elements[0].line2
    assert found.warnings == (found.elements[0].warning,)
    (told,) = found.warnings
    assert told.startswith("x:1: ") and "ECCENTRICITY, INCLINATION, MEAN_ANOMALY" in told
    # 0.9e-4 degrees and 2 x 1e-8 of 6,926 km: 10.9 m + 0.1 m
    assert "up to 11 m" in told
    epoch = parse_omm_json(json.dumps(one(EPOCH="2024-10-21T08:20:00.123456")), "x")
    assert not epoch.warnings  # at most 3.3 m along the orbit: below what is told


@pytest.mark.parametrize(
    ("number", "wanted"), [(5, "00005"), (123456, "C3456"), (339999, "Z9999"), (799_501_234, "00000")]
)
def test_catalogue_numbers(number: int, wanted: str) -> None:
    (found,) = parse_omm_json(json.dumps(one(NORAD_CAT_ID=number)), "x").elements
    assert found.line1[2:7] == found.line2[2:7] == wanted
    assert int(found.line1[-1]) == checksum(found.line1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"REF_FRAME": "EME2000"}, "REF_FRAME is 'EME2000', supported: TEME"),
        ({"MEAN_ELEMENT_THEORY": "DSST"}, "MEAN_ELEMENT_THEORY is 'DSST'"),
        ({"CENTER_NAME": "MARS"}, "CENTER_NAME is 'MARS'"),
        ({"TIME_SYSTEM": "TAI"}, "TIME_SYSTEM is 'TAI'"),
        ({"EPOCH": "yesterday"}, "EPOCH is 'yesterday'"),
        ({"EPOCH": "2024-02-30T00:00:00"}, "EPOCH is"),
        ({"MEAN_MOTION": "fast"}, "MEAN_MOTION is not a number; found 'fast'"),
        ({"MEAN_MOTION": 1440}, "MEAN_MOTION is 1440"),
        ({"ECCENTRICITY": 1.5}, "ECCENTRICITY is 1.5"),
        ({"INCLINATION": 181}, "INCLINATION is 181 degrees"),
        ({"BSTAR": 1e12}, "BSTAR is 1e\\+12"),
        ({"OBJECT_ID": "one"}, "OBJECT_ID is 'one'"),
        ({"REV_AT_EPOCH": -1}, "REV_AT_EPOCH is -1"),
        ({"MEAN_ANOMALY": ""}, "MEAN_ANOMALY is missing"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], words: str) -> None:
    row = one(**changes)
    for parse, text in (
        (parse_omm_csv, as_csv([row])),
        (parse_omm_json, json.dumps([row])),
        (parse_omm_xml, as_xml([row])),
    ):
        with pytest.raises(DataFileError, match=words) as refused:
            parse(text, "x")
        assert refused.value.message.startswith("x:")


def test_xml_units_and_traps() -> None:
    text = as_xml([one()])
    (found,) = parse_omm_xml(text.replace("<INCLINATION>", '<INCLINATION units="deg">'), "x").elements
    same(found, SETS[0])
    with pytest.raises(DataFileError, match="INCLINATION is in 'rad', wanted deg"):
        parse_omm_xml(text.replace("<INCLINATION>", '<INCLINATION units="rad">'), "x")
    with pytest.raises(DataFileError, match="document type"):
        parse_omm_xml('<!DOCTYPE a [<!ENTITY b "c">]>' + text.split("?>", 1)[1], "x")
    with pytest.raises(DataFileError, match="x:3: column"):
        parse_omm_xml("<a>\n<b>\n</a>", "x")
    with pytest.raises(DataFileError, match="nested too deep"):
        parse_omm_xml("<a>" * 100, "x")
    with pytest.raises(DataFileError, match="no element set"):
        parse_omm_xml("<ndm/>", "x")


def test_xml_as_the_schema_and_space_track_write_it() -> None:
    units = {"MEAN_MOTION": "rev/day", "BSTAR": "1/ER", "MEAN_MOTION_DOT": "REV/DAY**2", "INCLINATION": "deg"}
    text = as_xml([fields(one) for one in SETS]).replace("<metadata>", "<metadata><COMMENT>a</COMMENT><COMMENT/>")
    for key, unit in units.items():
        text = text.replace(f"<{key}>", f'<{key} units="{unit}">')
    defined = '<USER_DEFINED parameter="PERIOD">92</USER_DEFINED><USER_DEFINED parameter="FILE">1</USER_DEFINED>'
    text = text.replace("</data>", f"<userDefinedParameters>{defined}</userDefinedParameters></data>")
    found = parse_omm_xml(text, "x").elements
    for one_set, wanted in zip(found, SETS, strict=True):
        same(one_set, wanted)


@pytest.mark.parametrize(("value", "columns"), [(3.2e-11, " 03200-9"), (-4e-15, "-00000-9"), (1.5e-10, " 15000-9")])
def test_drag_that_is_all_but_nothing(value: float, columns: str) -> None:
    (found,) = parse_omm_json(json.dumps(one(BSTAR=value, MEAN_MOTION_DDOT=value)), "x").elements
    assert found.line1[53:61] == found.line1[44:52] == columns
    assert abs(Satrec.twoline2rv(found.line1, found.line2).bstar - value) <= 5e-15


def test_csv_that_is_cut() -> None:
    text = as_csv([one()])
    with pytest.raises(DataFileError, match="x:2: 1 values under"):
        parse_omm_csv(text.splitlines()[0] + "\nX\n", "x")
    with pytest.raises(DataFileError, match="x: the file is empty"):
        parse_omm_csv("", "x")
