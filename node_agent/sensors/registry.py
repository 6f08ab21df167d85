"""The literal table of sensor drivers, `module:find` of the user's own, and the probe at start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import msgspec

from hil_config.errors import ConfigError
from hil_config.own_code import own_code
from hil_config.wire.messages import Missing, Quantity
from node_agent.config import AgentConfig, SensorSpec
from node_agent.sensors import (
    cpu_power_model,
    hwmon_power,
    jtop_stats,
    process,
    rapl,
    serial_meter,
    thermal_zone,
    vcgencmd,
)
from node_agent.sensors.reading import Absent, Instrument

Find = Callable[[SensorSpec, float], Instrument]

DRIVERS: dict[str, Find] = {
    "hwmon_power": hwmon_power.find,
    "thermal_zone": thermal_zone.find,
    "jtop": jtop_stats.find,
    "pi_pmic": vcgencmd.find_adc,
    "pi_throttled": vcgencmd.find_throttled,
    "rapl": rapl.find,
    "process": process.find,
    **dict.fromkeys(serial_meter.PROTOCOLS, serial_meter.find),
}
_UNDER_ROOT = frozenset({"hwmon_power", "thermal_zone", "rapl"})


class Found(NamedTuple):
    """What a board can measure, and what was looked for in vain."""

    instruments: list[Instrument]
    missing: list[Missing]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return tuple(q for instrument in self.instruments for q in instrument.quantities)

    def close(self) -> None:
        for instrument in self.instruments:
            instrument.close()


def probe(config: AgentConfig) -> Found:
    """Look for every sensor that the configuration names, in its order.

    The first instrument that reports a name keeps it; a later one's gets its driver's name inserted before the
    unit, so that nothing is averaged or hidden. Modelled power is always there: as `power_w` where nothing else
    offers that, else as `power_cpu_power_model_w`, the fallback that says what it is.
    """
    found: list[Instrument] = []
    missing: list[Missing] = []
    for spec in config.sensors:
        find = _driver(spec.driver)
        if not spec.where and spec.driver in _UNDER_ROOT:
            spec = msgspec.structs.replace(spec, where=config.sysfs_root)  # noqa: PLW2901  # its default
        try:
            found.append(find(spec, min(spec.hz or config.sample_hz, config.sample_hz)))
        except Absent as absent:
            missing.append(Missing(spec.driver, absent.message))
    found.append(cpu_power_model.find(config.power_model, min(10.0, config.sample_hz)))
    return Found(_named_once(found), missing)


def _driver(name: str) -> Find:
    if name in DRIVERS:
        return DRIVERS[name]
    find = own_code(name, "sensor driver", DRIVERS)
    if not callable(find):
        raise ConfigError(f"sensor driver {name!r} cannot be called", "name a function find(spec, hz)")
    return cast(Find, find)


def _named_once(instruments: Iterable[Instrument]) -> list[Instrument]:
    taken: set[str] = set()
    result = []
    for instrument in instruments:
        quantities = []
        for quantity in instrument.quantities:
            name = quantity.name
            if name in taken:
                stem, _, unit = name.rpartition("_")
                name = f"{stem}_{instrument.driver}_{unit}"
                while name in taken:
                    name = f"{stem}_{instrument.driver}_{len(taken)}_{unit}"
            taken.add(name)
            quantities.append(msgspec.structs.replace(quantity, name=name))
        result.append(instrument._replace(quantities=tuple(quantities)))
    return result
