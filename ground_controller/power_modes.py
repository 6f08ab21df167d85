"""Which power mode each node is ordered into: for a whole run, or step by step as its satellite nears a limit.

Pure: a mode follows from the twin's temperature and charge, so replay gives the same orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground_controller.policies.view import Limits
from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.power import Power, PowerMode
from hil_config.schema.profiles import BoardProfile
from hil_config.wire.orders import SetPower

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Modes:
    """`orders` by node, the fastest mode first; empty for a board that offers none. `first`: where each begins.

    `ease_above_c`, `ease_below_charge`: where the second mode begins, None: the limit changes nothing.
    """

    orders: tuple[tuple[SetPower, ...], ...]
    first: tuple[int, ...]
    ease_above_c: float | None = None
    ease_below_charge: float | None = None

    @property
    def eases(self) -> bool:
        """Whether a limit changes modes during a run."""
        return self.ease_above_c is not None or self.ease_below_charge is not None

    def start(self, index: int) -> SetPower | None:
        """What the node of that index is ordered before the first tick."""
        return self.orders[index][self.first[index]] if self.orders[index] else None


def order_of(mode: PowerMode) -> SetPower:
    """The order that puts a board into a mode."""
    return SetPower(duty=mode.duty, cpu_khz=mode.cpu_khz, nvp_mode=mode.nvp_mode, mode=mode.name)


def modes_of(power: Power | None, bench: Bench, profiles: Sequence[BoardProfile]) -> Modes | None:
    """Of the boards of a bench, in order; None where the campaign orders no modes.

    Raises:
        ConfigError: no board offers what the campaign wants.
    """
    if power is None:
        return None
    orders = tuple(tuple(map(order_of, profile.modes)) for profile in profiles)
    names = sorted({mode.name for profile in profiles for mode in profile.modes})
    if power.mode is not None and power.mode not in names:
        raise ConfigError(
            f"campaign: power.mode: found {power.mode!r}, which no board of bench {bench.bench} offers",
            f"one of {', '.join(names)}" if names else "list the modes of the boards in their profile",
        )
    if power.mode is None and all(len(of_node) < 2 for of_node in orders):
        raise ConfigError(
            f"campaign: power: no board of bench {bench.bench} offers a second power mode",
            "list the modes of the boards in their profile, the fastest first",
        )
    first = tuple(
        next((i for i, mode in enumerate(profile.modes) if mode.name == power.mode), 0) for profile in profiles
    )
    return Modes(orders, first, power.ease_above_c, power.ease_below_charge)


class ModeControl:
    """Into mode k from `ease_above_c` + (k - 1) steps on, k = 1, 2, ..., the steps even and the last one ending at the
    soft limit; the same for charge, and the lower of both. Back when the limit's hysteresis was recovered."""

    def __init__(self, modes: Modes, limits: Limits) -> None:
        self._modes = modes
        self._limits = limits
        self.level = list(modes.first)
        self._again: set[int] = set()

    def restarted(self, index: int) -> None:
        """A new process of the node: it knows of no order."""
        self._again.add(index)

    def current(self) -> dict[int, SetPower]:
        """The order that holds for each node that offers modes."""
        return {i: orders[self.level[i]] for i, orders in enumerate(self._modes.orders) if orders}

    def step(self, temperature_c: Float, charge: Float) -> list[tuple[int, SetPower]]:
        """The orders to give now, by node index."""
        found = []
        for index, orders in enumerate(self._modes.orders):
            if not orders:
                continue
            before = self.level[index]
            self.level[index] = self._level(before, len(orders), float(temperature_c[index]), float(charge[index]))
            if self.level[index] != before or index in self._again:
                found.append((index, orders[self.level[index]]))
        self._again.clear()
        return found

    def _level(self, now: int, count: int, temperature_c: float, charge: float) -> int:
        modes, limits = self._modes, self._limits
        wanted = []
        if modes.ease_above_c is not None:
            room = limits.temperature_soft_c - modes.ease_above_c
            wanted.append(_steps(now, count, temperature_c - modes.ease_above_c, room, limits.temperature_hysteresis_c))
        if modes.ease_below_charge is not None:
            room = modes.ease_below_charge - limits.charge_soft
            wanted.append(_steps(now, count, modes.ease_below_charge - charge, room, limits.charge_hysteresis))
        return max(wanted, default=now)


def _steps(now: int, count: int, over: float, room: float, hysteresis: float) -> int:
    """Which of `count` modes belongs to being `over` the first threshold by so much; `room` from it to the limit."""
    step = room / max(1, count - 1)
    down = sum(over > k * step for k in range(count - 1))
    up = sum(over > k * step - hysteresis for k in range(count - 1))
    return max(down, min(now, up))
