"""Power rails of INA3221 and INA2xx monitors through hwmon: the primary instrument on Jetson boards.

The kernel's attributes (Documentation/hwmon/ina3221.rst, ina2xx.rst, ina238.rst): INA3221 has `inN_label`,
`inN_input` in mV and `currN_input` in mA for N of 1 to 3 and no power file, so P = mV x mA / 1e6 W; the INA2xx and
INA238 families have `power1_input` in uW. Rails named NC are not connected; `in7` is a hardware sum.

The board's power is the rail that feeds the module: VIN, POM_5V_IN or VDD_IN. AGX Orin has none; there it is the
sum of the rails on the 5 V input and the two processor rails. VDDQ_VDD2_1V8AO hangs below VIN_SYS_5V0 and would be
counted twice, so it is left out of the sum. All of them are inputs of the module, not of the carrier or the wall. An
INA2xx on another board measures whatever line somebody has put it into, and its provenance claims no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument
from node_agent.sensors.sysfs import read_integer, read_text

DRIVER = "hwmon_power"
WHOLE = ("VIN", "POM_5V_IN", "VDD_IN")
BELOW_ANOTHER = frozenset({"VDDQ_VDD2_1V8AO"})
_THREE_CHANNELS = frozenset({"ina3221"})
_ONE_CHANNEL = frozenset({"ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina237", "ina238", "ina260"})


class Rail(NamedTuple):
    """One monitored supply line; `read` gives watts."""

    label: str
    chip: str
    read: Callable[[], float]


def _product(folder: Path, channel: int) -> float:
    return read_integer(folder / f"in{channel}_input") * read_integer(folder / f"curr{channel}_input") / 1e6


def _power(folder: Path) -> float:
    return read_integer(folder / "power1_input") / 1e6


def _chips(root: Path) -> list[tuple[str, str, Path]]:
    """(kind, i2c address, folder) of every monitor, in the order of addresses."""
    chips = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        try:
            kind = read_text(folder / "name")
        except HardwareError:
            continue
        if kind in _THREE_CHANNELS | _ONE_CHANNEL:
            device = (folder / "device").resolve().name if (folder / "device").exists() else folder.name
            chips.append((kind, device, folder))
    return sorted(chips, key=lambda chip: chip[1])


def _rails(root: Path) -> list[Rail]:
    rails = []
    for kind, device, folder in _chips(root):
        chip = f"{kind.upper()} {device}"
        if kind in _ONE_CHANNEL:
            label = read_text(folder / "in1_label") if (folder / "in1_label").exists() else device
            rails.append(Rail(label, chip, partial(_power, folder)))
            continue
        for channel in (1, 2, 3):
            path = folder / f"in{channel}_label"
            label = read_text(path) if path.exists() else ""
            if label and "NC" not in label.split("_"):
                rails.append(Rail(label, chip, partial(_product, folder, channel)))
    return rails


def _interval_hz(root: Path) -> float:
    """What the slowest monitor delivers: `update_interval` is in ms where there is one."""
    intervals = [
        read_integer(folder / "update_interval")
        for _, _, folder in _chips(root)
        if (folder / "update_interval").exists()
    ]
    return 1000.0 / max(1, *intervals) if intervals else float("inf")


def find(spec: SensorSpec, hz: float) -> Instrument:
    """All rails and the board's power; Absent if no monitor is bound to a driver."""
    root = Path(spec.where or "/")
    try:
        rails, best_hz = _rails(root), _interval_hz(root)
    except HardwareError as error:
        raise Absent(error.message) from error
    if not rails:
        raise Absent(f"{root / 'sys/class/hwmon'}: no INA3221 or INA2xx monitor")
    hz = min(hz, best_hz)
    by_label = {rail.label: index for index, rail in enumerate(rails)}
    whole = next((by_label[label] for label in WHOLE if label in by_label), None)
    parts = [whole] if whole is not None else [i for i, rail in enumerate(rails) if rail.label not in BELOW_ANOTHER]
    of_a_module = whole is not None or any(rail.chip.startswith("INA3221") for rail in rails)
    by = " + ".join(f"{rails[i].chip} {rails[i].label}" for i in parts)
    by += ", module input" if of_a_module else ", as wired"

    def read() -> tuple[float, ...]:
        values = [rail.read() for rail in rails]
        return (sum(values[i] for i in parts), *values)

    quantities = (
        Quantity("power_w", "W", hz, measured(by)),
        *(Quantity(f"power_{r.label.lower()}_w", "W", hz, measured(f"{r.chip} {r.label}")) for r in rails),
    )
    return Instrument(DRIVER, str(root / "sys/class/hwmon"), quantities, read)
