"""From element sets to the link schedule that every node replays. Offline, deterministic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import permutations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.elements import Elements
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date, parse_instant
from ground_controller.orbit.propagate import FRAME, positions
from ground_controller.orbit.sunlight import illumination, sun_position_km
from ground_controller.orbit.visibility import GRAZING_KM, delay_s, distance_km, visible
from hil_config.errors import ConfigError
from hil_config.wire.schedule_file import LinkSchedule, ScheduleHeader

SCHEDULE_VERSION = 1
MAX_SAMPLES = 1_000_000
MAX_AGE_DAYS = 30.0
"""Elements further than this from the epoch are refused: SGP4 then errs by hundreds of kilometres."""

_STEP_TOLERANCE = 1e-9
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class ScheduleConfig:
    """What to compile. `rate_bit_s` and `loss` (frame loss probability) hold for every direct link.

    `relay`: a pair without a direct path may go through other satellites of `satellites`; its delay is then
    end to end, its rate that of one hop, its loss 1 - (1 - loss)^hops. Nobody else's satellites relay.
    """

    epoch_utc: str
    duration_s: float
    step_s: float
    satellites: tuple[str, ...]
    grazing_km: float = GRAZING_KM
    max_range_km: float = 5_000.0
    rate_bit_s: float = 100e6
    loss: float = 0.0
    relay: bool = False

    def __post_init__(self) -> None:
        numbers = ("duration_s", "step_s", "grazing_km", "max_range_km", "rate_bit_s", "loss")
        for name in numbers:
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"schedule: {name} is {getattr(self, name)}, wanted a finite number")
        for name in ("step_s", "max_range_km", "rate_bit_s"):
            if getattr(self, name) <= 0.0:
                raise ConfigError(f"schedule: {name} is {getattr(self, name)}, wanted more than 0")
        if not 0.0 <= self.loss <= 1.0:
            raise ConfigError(f"schedule: loss is {self.loss}, wanted a probability from 0 to 1")
        steps = self.duration_s / self.step_s
        if steps < 1.0 - _STEP_TOLERANCE or abs(steps - round(steps)) > _STEP_TOLERANCE * max(steps, 1.0):
            raise ConfigError(
                f"schedule: duration_s {self.duration_s} is not a whole number of steps of {self.step_s} s",
                "choose a step_s that divides duration_s",
            )
        if self.samples > MAX_SAMPLES:
            raise ConfigError(f"schedule: {self.samples} samples, at most {MAX_SAMPLES}", "choose a longer step_s")
        if len(self.satellites) < 2 or len(set(self.satellites)) != len(self.satellites):
            raise ConfigError(f"schedule: satellites {self.satellites}: wanted at least two different names")

    @property
    def samples(self) -> int:
        """Samples at 0, step_s, ..., duration_s."""
        return round(self.duration_s / self.step_s) + 1


def compile_schedule(config: ScheduleConfig, elements: Sequence[Elements], source: str) -> LinkSchedule:
    """The link schedule of the satellites of `config`, for every ordered pair of them.

    Args:
        elements: element sets; those of `config.satellites` must be among them, others are ignored.
        source: where the elements are from; kept in the header.

    The header's config text holds the configuration, the frame of `position_km` and the element lines used,
    so the file can be compiled again from itself. A pair that is down keeps the light time of its straight
    path: samples next to an outage interpolate to true delays.

    Raises:
        ConfigError: a satellite without elements, or elements older than `MAX_AGE_DAYS`.
        DataFileError: SGP4 cannot carry a set to the epoch.
    """
    epoch = parse_instant(config.epoch_utc)
    chosen = _choose(config, elements, epoch)
    offset_s = np.arange(config.samples, dtype=np.float64) * config.step_s
    day, fraction = julian_date(epoch)
    instants = day + fraction + (offset_s + TERRESTRIAL_MINUS_UTC_S) / 86_400.0
    position = positions(chosen, epoch, offset_s).position_km
    sunlight = illumination(position, sun_position_km(instants)[:, None, :])
    path_s, hops = _paths(config, position)
    pairs = tuple(permutations(range(len(chosen)), 2))
    a, b = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    count = hops[:, a, b]
    up = count > 0
    names = config.satellites
    header = ScheduleHeader(
        version=SCHEDULE_VERSION,
        epoch_utc=f"{epoch:%Y-%m-%dT%H:%M:%S.%f}Z",
        satellites=names,
        pairs=tuple((names[i], names[j]) for i, j in pairs),
        samples=config.samples,
        source=source,
        config=_config_text(config, chosen),
    )
    return LinkSchedule(
        header,
        offset_s,
        path_s[:, a, b].astype(np.float32),
        np.where(up, config.rate_bit_s, 0.0).astype(np.float32),
        np.where(up, 1.0 - (1.0 - config.loss) ** count, 1.0).astype(np.float32),
        up.astype(np.uint8),
        sunlight.astype(np.float32),
        position.astype(np.float32),
    )


def _choose(config: ScheduleConfig, elements: Sequence[Elements], epoch: datetime) -> tuple[Elements, ...]:
    by_name = {one.name: one for one in elements}
    missing = [name for name in config.satellites if name not in by_name]
    if missing:
        raise ConfigError(
            f"schedule: no elements for {', '.join(missing)}; the set has {len(by_name)} satellites",
            "use names of the element file, exactly as it writes them",
        )
    chosen = tuple(by_name[name] for name in config.satellites)
    twice = [one.name for one in chosen if sum(other.name == one.name for other in elements) > 1]
    if twice:
        raise ConfigError(
            f"schedule: more than one element set is called {', '.join(twice)}",
            "keep one of them under that name",
        )
    for one in chosen:
        age = (epoch - one.epoch).total_seconds() / 86_400.0
        if abs(age) > MAX_AGE_DAYS:
            raise ConfigError(
                f"schedule: the epoch {config.epoch_utc} is {age:.1f} days from the elements of {one.name!r}"
                f" ({one.epoch:%Y-%m-%dT%H:%M:%SZ}), at most {MAX_AGE_DAYS:.0f}",
                "choose an epoch near the elements, or newer elements",
            )
    return chosen


def _config_text(config: ScheduleConfig, chosen: Sequence[Elements]) -> str:
    content = {"frame": FRAME, **asdict(config), "elements": [asdict(one) for one in chosen]}
    return msgspec.json.encode(content).decode()


def _paths(config: ScheduleConfig, position_km: Float) -> tuple[Float, NDArray[np.int64]]:
    """Delay [N, S, S] in s and hops [N, S, S]: 0 where there is no path (its delay is the straight one's)."""
    a, b = position_km[:, :, None, :], position_km[:, None, :, :]
    straight = delay_s(distance_km(a, b))
    up = visible(a, b, config.grazing_km, config.max_range_km)
    if not config.relay:
        return straight, up.astype(np.int64)
    delay, hops = _shortest(straight, up)
    return np.where(hops > 0, delay, straight), hops


def _shortest(delay: Float, up: Bool) -> tuple[Float, NDArray[np.int64]]:
    """Least delay over up links and its hops (0: no path), all instants at once (Floyd and Warshall).

    A direct link is never replaced: light is slower round a corner.
    """
    best = np.where(up, delay, np.inf)
    hops = up.astype(np.int64)
    for via in range(delay.shape[1]):
        through = best[:, :, via, None] + best[:, via, None, :]
        shorter = through < best
        best = np.where(shorter, through, best)
        hops = np.where(shorter, hops[:, :, via, None] + hops[:, via, None, :], hops)
    return best, hops
