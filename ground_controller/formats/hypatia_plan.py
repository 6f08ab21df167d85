"""A contact plan from a Hypatia network state: its inter-satellite links with the delays of its orbits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ground_controller.formats.hypatia import read_hypatia
from ground_controller.formats.plan import Contact, Imported, build_plan
from ground_controller.orbit.propagate import positions
from ground_controller.orbit.visibility import delay_s, distance_km
from hil_config.errors import DataFileError, UsageError

MAX_CONTACTS = 2_000_000


def read_hypatia_plan(
    folder: Path, *, rate_mbit_s: float | None = None, step_s: float | None = None, until_s: float | None = None
) -> Imported:
    """Each inter-satellite link as one contact per step and direction, with the delay at the step's middle.

    Satellites keep their numbers as names. Ground links are left out: the state does not say when they exist.

    Args:
        rate_mbit_s: of every link; Hypatia's state holds none.
        step_s, until_s: length of a step and end, s (the last step is cut short there); by default those of the
            forwarding states.

    Raises:
        UsageError: what the folder does not say was not given either.
        DataFileError: with file and line; or too many contacts.
    """
    state = read_hypatia(folder)
    if rate_mbit_s is None:
        raise UsageError("Hypatia's state says no rate of its links", "say it: --rate-mbit-s 100")
    times_ns = [step.time_ns for step in state.steps]
    if step_s is None and len(times_ns) > 1:
        step_s = (times_ns[1] - times_ns[0]) / 1e9
    if until_s is None and len(times_ns) > 1 and step_s is not None:
        until_s = times_ns[-1] / 1e9 + step_s
    if step_s is None or until_s is None or not 0.0 < step_s <= until_s < math.inf:
        raise UsageError("the folder holds no forwarding states to take times from", "--step-s 1 --until-s 200")
    count = math.ceil(until_s / step_s * (1.0 - 1e-12))
    if 2 * count * len(state.isls) > MAX_CONTACTS:
        raise DataFileError(f"{folder}: {2 * count * len(state.isls)} contacts, at most {MAX_CONTACTS}",
                            "choose a longer --step-s or an earlier --until-s")  # fmt: skip
    middle = (np.arange(count, dtype=np.float64) + 0.5) * float(step_s)
    ends = np.array(state.isls, dtype=np.int64).reshape(-1, 2)
    place = positions(state.elements, state.elements[0].epoch, middle).position_km
    delays = delay_s(distance_km(place[:, ends[:, 0]], place[:, ends[:, 1]]))
    rate = rate_mbit_s * 1e6
    contacts = [
        Contact(k * step_s, min((k + 1) * step_s, until_s), str(a), str(b), rate, float(delays[k, link]))
        for k in range(count)
        for link, (one, other) in enumerate(state.isls)
        for a, b in ((one, other), (other, one))
    ]
    notes = (
        (f"{folder}: the links of its {len(state.stations)} ground stations are left out",) if state.stations else ()
    )
    result = build_plan(contacts, str(folder), epoch_utc=state.elements[0].epoch.isoformat())
    return Imported(result.plan, (*result.warnings, *notes))
