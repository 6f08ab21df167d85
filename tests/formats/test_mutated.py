"""Ten thousand mutated inputs of each format: each is read or refused with DataFileError, nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from ground_controller.formats.hdtn import read_hdtn, write_hdtn
from ground_controller.formats.hypatia import parse_forwarding, parse_isls, parse_stations, parse_tles
from ground_controller.formats.hypatia_rows import parse_paths, parse_rtts
from ground_controller.formats.ion import read_ion, write_ion
from ground_controller.formats.netsatbench import parse_netsatbench, write_netsatbench
from ground_controller.formats.oem import parse_oem
from ground_controller.formats.omm import parse_omm_csv, parse_omm_json, parse_omm_xml
from ground_controller.formats.plan_csv import read_csv, write_csv
from hil_config.errors import DataFileError
from tests.formats import test_oem, test_omm
from tests.formats.conftest import DATA, drawn_plan
from tests.formats.test_hypatia import ring
from tests.formats.test_oem import EPOCH

INPUTS = 10_000
WORDS = ["-1", "+1e99", "9" * 400, "nan", "0x10", "null", "[]", "{}", "true", '"', "\x00", "\ufeff", "é", "1_000", "٣",
         "2024/02/30-25:00:00", "9999/12/31-23:59:59", "+9e9", "+", "-", ".", ",", ";", "\n", "\r", "\u2028", "contact",
         "a range", "@ +-5", "1e400", "0"]  # fmt: skip


def mutated(text: str, rng: random.Random) -> str:
    """One to three changes: a cut, a copied or lost piece, an odd character, a word of `WORDS`, lines swapped."""
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(text) + 1)
        j = min(len(text), i + rng.choice([1, 1, 2, 8, 40]))
        what = rng.randrange(6)
        if what == 0:
            text = text[:i] + text[j:]
        elif what == 1:
            text = text[:i] + text[i:j] * 2 + text[j:]
        elif what == 2:
            text = text[:i] + chr(rng.randrange(1, 256)) + text[j:]
        elif what == 3:
            text = text[:i] + rng.choice(WORDS) + text[j:]
        elif what == 4:
            text = text[:i] if rng.random() < 0.3 else text[i:] + text[:i]
        else:
            lines = text.splitlines()
            rng.shuffle(lines)
            text = "\n".join(lines)
        text = text or " "
    return text


def _ion() -> tuple[str, Callable[[str], object]]:
    text = write_ion(drawn_plan(3, numbers=True, two_way=False, whole=True, epoch=True))
    text += "@ 2024/10/21-09:20:00\n@ +100\na contact -1 -1 7 7 0\na range +0 +60 8 9 3\na contact +0 +60 8 9 8 0.5\n"
    return text, lambda t: read_ion(t, "x")


def _hdtn() -> tuple[str, Callable[[str], object]]:
    return write_hdtn(drawn_plan(3, numbers=True, two_way=False, whole=True, epoch=False)), lambda t: read_hdtn(t, "x")


def _csv() -> tuple[str, Callable[[str], object]]:
    return write_csv(drawn_plan(3, numbers=False, two_way=False, whole=False, epoch=True)), lambda t: read_csv(t, "x")


def _netsatbench() -> tuple[str, Callable[[str], object]]:
    files = list(write_netsatbench(drawn_plan(3, numbers=False, two_way=True, whole=False, epoch=True)).items())
    return files[0][1], lambda t: parse_netsatbench([(files[0][0], t), *files[1:]], "x")


def _tles() -> tuple[str, Callable[[str], object]]:
    text = "1 3\n" + "".join(f"{one.name}\n{one.line1}\n{one.line2}\n" for one in ring(3))
    return text, lambda t: parse_tles(t, "x")


CASES: dict[str, Callable[[], tuple[str, Callable[[str], object]]]] = {
    "ion": _ion,
    "hdtn": _hdtn,
    "csv": _csv,
    "netsatbench": _netsatbench,
    "omm csv": lambda: (test_omm.as_csv([test_omm.fields(one) for one in test_omm.SETS[:2]]),
                        lambda t: parse_omm_csv(t, "x")),
    "omm json": lambda: (json.dumps([test_omm.fields(one) for one in test_omm.SETS[:2]], indent=1, default=str),
                         lambda t: parse_omm_json(t, "x")),
    "omm xml": lambda: (test_omm.as_xml([test_omm.fields(one) for one in test_omm.SETS[:2]]),
                        lambda t: parse_omm_xml(t, "x")),
    "oem": lambda: (test_oem.message(count=4, extra="USEABLE_STOP_TIME = 2024-10-21T08:22:00", frame="EME2000"),
                    lambda t: [one.states(EPOCH, np.array([0.0])) for one in parse_oem(t, "x")]),
    "hypatia tles": _tles,
    "hypatia isls": lambda: ("0 1\n1 2\n2 3\n", lambda t: parse_isls(t, "x", 4)),
    "hypatia stations": lambda: ("0,Manila,14.6,120.9,0.0,1.0,2.0,3.0\n", lambda t: parse_stations(t, "x")),
    "hypatia fstate": lambda: ("0,4,1,0,1\n1,4,-1,-1,-1\n", lambda t: parse_forwarding(t, "x", 5)),
    "hypatia paths": lambda: (
        (DATA / "hypatia" / "kuiper630_path_manila_dalian.txt").read_text(), lambda t: parse_paths(t, "x")),
    "hypatia rtts": lambda: (
        (DATA / "hypatia" / "kuiper630_rtt_manila_dalian.txt").read_text()[:600], lambda t: parse_rtts(t, "x")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_mutated_inputs_are_read_or_refused(name: str) -> None:
    text, parse = CASES[name]()
    parse(text)
    rng = random.Random(name)
    refused = 0
    for _ in range(INPUTS):
        try:
            parse(mutated(text, rng))
        except DataFileError:
            refused += 1
    assert INPUTS // 10 < refused < INPUTS  # the mutations reach both outcomes
