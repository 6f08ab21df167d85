"""The verification cases of Vallado et al. (AIAA 2006-6753), as the sgp4 package ships them."""

from __future__ import annotations

import itertools
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import sgp4

from ground_controller.orbit.elements import Elements
from ground_controller.orbit.propagate import positions
from hil_config.errors import DataFileError

FOLDER = Path(sgp4.__file__).parent
BEYOND = "33334"
"""Its elements cannot be propagated at all; the reference prints the row before once more."""


def test_all_666_rows_of_33_satellites_reproduce() -> None:
    lines = (FOLDER / "SGP4-VER.TLE").read_text().splitlines()
    sets = [
        Elements(first[2:7].strip(), first[:69], second[:69])
        for first, second in itertools.pairwise(lines)
        if first.startswith("1 ") and second.startswith("2 ")
    ]
    blocks = re.split(r"(?m)^(\d+) xx\s*$", (FOLDER / "tcppver.out").read_text())[1:]
    worst, rows, before = 0.0, 0, np.empty((0, 7))
    for index, (number, body) in enumerate(zip(blocks[::2], blocks[1::2], strict=True)):
        one = sets[index]
        assert one.name.lstrip("0") == number.lstrip("0")
        table = np.array([[float(x) for x in line.split()[:7]] for line in body.splitlines() if line.strip()])
        # A datetime counts microseconds, in which a satellite moves 8 mm: the rest goes into the offset.
        year, day = int(one.line1[18:20]), int(one.line1[20:23])
        start = datetime(1900 + year if year >= 57 else 2000 + year, 1, 1, tzinfo=timezone.utc)
        epoch = start + timedelta(days=day - 1)
        offset = float("0" + one.line1[23:32]) * 86_400.0 + table[:, 0] * 60.0
        if one.name == BEYOND:
            with pytest.raises(DataFileError, match="SGP4 error 3"):
                positions([one], epoch, offset)
            assert (table[0, 1:] == before[-1, 1:]).all()
        else:
            found = positions([one], epoch, offset).position_km[:, 0]
            rows += len(table)
            worst = max(worst, float(np.abs(found - table[:, 1:4]).max()))
        before = table
    assert (rows, len(blocks) // 2) == (666, 33)
    assert worst < 1e-6
