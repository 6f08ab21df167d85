"""What goes wrong in a factual schedule and not in the predicted one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import ConfigError

Kind = Literal["outage", "rate_drop", "late_contact", "ephemeris_error"]
_WANTED = {
    "outage": "no value", "rate_drop": "a factor from 0 to 1", "late_contact": "seconds, 0 or more",
    "ephemeris_error": "seconds along the track, -600 to 600",
}  # fmt: skip


@dataclass(frozen=True)
class ScheduleFault:
    """One departure from the prediction, in scenario seconds.

    `outage`: the link `satellite` - `other` (or every link of `satellite`) is down from start_s to end_s.
    `rate_drop`: its rate is multiplied by `value`. `late_contact`: whenever it rises after second 0 it comes up
    `value` seconds late. `ephemeris_error`: the satellite runs `value` seconds ahead of its elements, all the time
    (7.6 km a second in low orbit).
    """

    kind: Kind
    satellite: str
    other: str = ""
    start_s: float = 0.0
    end_s: float = math.inf
    value: float = 0.0

    def __post_init__(self) -> None:
        where = f"fault {self.kind!r} of {self.satellite!r}"
        if self.kind not in _WANTED:
            raise ConfigError(f"fault: kind is {self.kind!r}, wanted one of {', '.join(_WANTED)}")
        if not self.start_s >= 0.0 or not self.end_s > self.start_s:
            raise ConfigError(f"{where}: lasts from {self.start_s} to {self.end_s} s, wanted 0 <= start_s < end_s")
        low, high = {"rate_drop": (0.0, 1.0), "late_contact": (0.0, 1e6), "ephemeris_error": (-600.0, 600.0)}.get(
            self.kind, (0.0, 0.0)
        )
        if not math.isfinite(self.value) or not low <= self.value <= high:
            raise ConfigError(f"{where}: value is {self.value}, wanted {_WANTED[self.kind]}")
        if self.other == self.satellite:
            raise ConfigError(f"{where}: both ends of the link are the same", "write other: NAME, or leave it out")
        if self.kind == "ephemeris_error" and (self.other or self.start_s > 0.0 or self.end_s < math.inf):
            raise ConfigError(
                f"{where}: it is of the satellite and lasts all the time", "leave out other, start_s and end_s"
            )
        if self.kind == "late_contact" and not self.other:
            raise ConfigError(f"{where}: wanted the other end of the link", "write other: NAME")


class FaultedEdges:
    """Applies faults to the links of one instant after another; instants must rise.

    Args:
        index: number of each node by name.
    """

    def __init__(self, faults: Sequence[ScheduleFault], index: dict[str, int]) -> None:
        self._faults = [fault for fault in faults if fault.kind != "ephemeris_error"]
        self._index = index
        for fault in faults:
            for name in (fault.satellite, fault.other):
                if name and name not in index:
                    raise ConfigError(f"fault {fault.kind!r}: no satellite or station is called {name!r}")
        self._met = [False] * len(self._faults)
        self._since: dict[int, float] = {}
        self._begun = False

    def apply(
        self, a: NDArray[np.int64], b: NDArray[np.int64], rate: NDArray[np.float64], time_s: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which links [E] stand after all, and their rates."""
        up, rate = np.ones(a.shape, np.bool_), rate.copy()
        for number, fault in enumerate(self._faults):
            one = self._index[fault.satellite]
            touched = (a == one) | (b == one)
            if fault.other:
                other = self._index[fault.other]
                touched &= (a == other) | (b == other)
            if fault.start_s <= time_s < fault.end_s:
                self._met[number] |= bool(touched.any())
            if fault.kind == "late_contact":
                self._late(number, fault, touched, up, time_s)
            elif fault.start_s <= time_s < fault.end_s:
                if fault.kind == "outage" or fault.value == 0.0:
                    up &= ~touched
                else:
                    rate[touched] *= fault.value
        self._begun = True
        return up, rate

    @property
    def unmet(self) -> tuple[str, ...]:
        """Of each fault that met no link while it lasted, why it changes nothing."""
        return tuple(
            f"fault {fault.kind!r} of {fault.satellite!r} changes nothing: no link of its own"
            f"{f' to {fault.other!r}' if fault.other else ''} while it lasts"
            for fault, met in zip(self._faults, self._met, strict=True)
            if not met
        )

    def _late(
        self, number: int, fault: ScheduleFault, touched: NDArray[np.bool_], up: NDArray[np.bool_], time_s: float
    ) -> None:
        if not touched.any():
            self._since.pop(number, None)
            return
        since = self._since.setdefault(number, time_s if self._begun else -math.inf)
        if time_s - since < fault.value and fault.start_s <= since < fault.end_s:
            up &= ~touched
