"""What to compile into a link schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ground_controller.orbit.attitude import Array
from ground_controller.orbit.faults import ScheduleFault
from ground_controller.orbit.ground import GroundStation, Rule
from ground_controller.orbit.topology import LinkRule
from ground_controller.orbit.visibility import GRAZING_KM
from ground_controller.orbit.walker import WalkerShell
from hil_config.errors import ConfigError
from hil_config.wire.schedule_changes import DELAY_TOLERANCE_S

MAX_SAMPLES = 1_000_000
_STEP_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ScheduleConfig:
    """`satellites`: the mapped ones; names of `stations` may stand among them, last.

    `relay`: `none`: mapped pairs have direct links only; `mapped`: a pair without one may go through other mapped
    satellites; `constellation`: all satellites of the elements and `shells` relay by `isl`. A path's delay is then
    end to end (and of the least delay), its rate that of the slowest link, its loss 1 - (1 - loss)^hops.
    `rate_bit_s` and `loss` (frame loss probability) hold for every link; `ground_rate_bit_s` for those of stations.
    `isl`: for `constellation`; its heights and ranges are this config's.
    """

    epoch_utc: str
    duration_s: float
    step_s: float
    satellites: tuple[str, ...]
    grazing_km: float = GRAZING_KM
    max_range_km: float = 5_000.0
    rate_bit_s: float = 100e6
    loss: float = 0.0
    relay: Literal["none", "mapped", "constellation"] = "none"
    isl: Literal["in_range", "nearest", "grid"] = "in_range"
    neighbours: int = 4
    max_turn_deg_s: float = math.inf
    survival: float = 1.0
    redraw_s: float = math.inf
    seed: int = 0
    shells: tuple[WalkerShell, ...] = ()
    stations: tuple[GroundStation, ...] = ()
    ground_rule: Rule = "all"
    ground_rate_bit_s: float = 100e6
    array: Array = field(default=Array())
    delay_tolerance_s: float = DELAY_TOLERANCE_S
    faults: tuple[ScheduleFault, ...] = ()

    def __post_init__(self) -> None:
        numbers = ("duration_s", "step_s", "grazing_km", "max_range_km", "rate_bit_s", "loss", "ground_rate_bit_s",
                   "delay_tolerance_s")  # fmt: skip
        for name in numbers:
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"schedule: {name} is {getattr(self, name)}, wanted a finite number")
        for name in ("step_s", "max_range_km", "rate_bit_s", "ground_rate_bit_s"):
            if getattr(self, name) <= 0.0:
                raise ConfigError(f"schedule: {name} is {getattr(self, name)}, wanted more than 0")
        if not 0.0 <= self.loss <= 1.0:
            raise ConfigError(f"schedule: loss is {self.loss}, wanted a probability from 0 to 1")
        if self.delay_tolerance_s < 0.0:
            raise ConfigError(f"schedule: delay_tolerance_s is {self.delay_tolerance_s}, wanted 0 or more")
        if self.relay not in {"none", "mapped", "constellation"}:
            raise ConfigError(f"schedule: relay is {self.relay!r}, wanted none, mapped or constellation")
        if self.isl == "grid" and self.relay != "constellation":
            raise ConfigError("schedule: isl grid needs relay constellation", "write relay: constellation")
        self._check_steps()
        if len(self.satellites) < 2 or len(set(self.satellites)) != len(self.satellites):
            raise ConfigError(f"schedule: satellites {self.satellites}: wanted at least two different names")
        grounded = {station.name for station in self.stations}
        if len(grounded) != len(self.stations):
            raise ConfigError(f"schedule: stations {[one.name for one in self.stations]}: wanted different names")
        for fault in self.faults:
            if fault.kind == "ephemeris_error" and fault.satellite in grounded:
                raise ConfigError(f"fault {fault.kind!r} of {fault.satellite!r}: a ground station has no ephemeris")
        tail = self.satellites[len(self.satellites) - len(grounded & set(self.satellites)) :]
        if any(name not in grounded for name in tail):
            raise ConfigError(f"schedule: satellites {self.satellites}: ground stations must stand last")
        _ = self.link_rule  # its own checks

    def _check_steps(self) -> None:
        steps = self.duration_s / self.step_s
        if steps < 1.0 - _STEP_TOLERANCE or abs(steps - round(steps)) > _STEP_TOLERANCE * max(steps, 1.0):
            raise ConfigError(
                f"schedule: duration_s {self.duration_s} is not a whole number of steps of {self.step_s} s",
                "choose a step_s that divides duration_s",
            )
        if self.samples > MAX_SAMPLES:
            raise ConfigError(f"schedule: {self.samples} samples, at most {MAX_SAMPLES}", "choose a longer step_s")

    @property
    def samples(self) -> int:
        """Samples at 0, step_s, ..., duration_s."""
        return round(self.duration_s / self.step_s) + 1

    @property
    def link_rule(self) -> LinkRule:
        return LinkRule(
            self.isl, self.neighbours, self.grazing_km, self.max_range_km, self.max_turn_deg_s, self.survival,
            self.redraw_s, self.seed,
        )  # fmt: skip

    @property
    def mapped_stations(self) -> tuple[GroundStation, ...]:
        """Those among `satellites`, in that order."""
        by_name = {station.name: station for station in self.stations}
        return tuple(by_name[name] for name in self.satellites if name in by_name)
