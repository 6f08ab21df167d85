"""Raspberry Pi's firmware, asked through `vcgencmd`: rails of the Pi 5's power chip, and the throttle flags.

`pmic_read_adc` prints `NAME_A current(n)=xA` and `NAME_V volt(n)=xV`, paired by NAME and not by n; EXT5V and BATT
have a voltage only. The sum over the rails leaves out conversion losses and what USB and HAT take from 5 V. The
input power is therefore *estimated* by a published straight-line fit, P = 1.1451 x sum + 0.5879 W (pitop project),
and labelled as modelled; the sum itself is measured.

`get_throttled` bits (Raspberry Pi documentation): 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft
temperature limit; 16 to 19 the same since boot.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured, modelled
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument
from node_agent.sensors.sysfs import read_integer

ADC = "pi_pmic"
THROTTLED = "pi_throttled"
FIT_GAIN, FIT_OFFSET_W = 1.1451, 0.5879
KNOWN_FLAGS = 0xF000F
UNDER_VOLTAGE, CAPPED, THROTTLING, SOFT_LIMIT = 1, 2, 4, 8
MOST_HZ = 10.0
"""A call starts a process: some milliseconds of processor time."""
TIMEOUT_S = 2.0
_LINE = re.compile(r"^\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=(-?[\d.]+)[AV]\s*$")
_THROTTLED_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def _ask(program: str, question: str) -> str:
    try:
        done = subprocess.run(
            [program, question], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HardwareError(f"{program} {question}: {error}") from error
    if done.returncode != 0 or "error=" in done.stdout:
        text = (done.stderr or done.stdout).strip().splitlines()
        raise HardwareError(f"{program} {question}: {text[0] if text else f'exit code {done.returncode}'}")
    return done.stdout


def _program(spec: SensorSpec) -> str:
    program = shutil.which(spec.where or "vcgencmd")
    if program is None:
        raise Absent(f"{spec.where or 'vcgencmd'}: no such program: not a Raspberry Pi, or raspi-utils is missing")
    return program


def parse_adc(text: str) -> tuple[float, float]:
    """(sum of V x A over the rails in W, input voltage EXT5V in V); HardwareError if either is not there."""
    values = {(m[1], m[2]): float(m[3]) for m in map(_LINE.match, text.splitlines()) if m}
    rails = [name for name, kind in values if kind == "A" and (name, "V") in values]
    if not rails or ("EXT5V", "V") not in values:
        raise HardwareError(f"pmic_read_adc: found {len(rails)} rails with volt and current, wanted 12 and EXT5V_V")
    return sum(values[name, "A"] * values[name, "V"] for name in rails), values["EXT5V", "V"]


def find_adc(spec: SensorSpec, hz: float) -> Instrument:
    """Estimated input power, measured rail sum and measured input voltage of a Pi 5."""
    program, hz = _program(spec), min(hz, MOST_HZ)

    def read() -> tuple[float, ...]:
        total_w, input_v = parse_adc(_ask(program, "pmic_read_adc"))
        return (FIT_GAIN * total_w + FIT_OFFSET_W, total_w, input_v)

    try:
        read()
    except HardwareError as error:
        raise Absent(f"{error.message}: only a Raspberry Pi 5 has these") from error
    quantities = (
        Quantity("power_w", "W", hz, modelled("estimated: Pi 5 PMIC rail sum x 1.1451 + 0.5879 W")),
        Quantity("power_pmic_w", "W", hz, measured("Pi 5 PMIC ADC, sum of rails without losses and USB")),
        Quantity("supply_v", "V", hz, measured("Pi 5 PMIC ADC EXT5V")),
    )
    return Instrument(ADC, program, quantities, read, slow=True)


def _flags(value: int, where: str) -> float:
    if not 0 <= value <= KNOWN_FLAGS or value & ~KNOWN_FLAGS:
        raise HardwareError(f"{where}: get_throttled {value:#x} has flags that do not exist")
    return float(value)


def find_throttled(spec: SensorSpec, hz: float) -> Instrument:
    """The flags as one number, from the firmware driver's file if there is one, else by `vcgencmd`."""
    hz = min(hz, 1.0)
    root = Path(spec.where or "/")
    file = root / _THROTTLED_FILE
    if file.exists():

        def read_file() -> tuple[float]:
            return (_flags(read_integer(file, 16), str(file)),)

        try:
            read_file()
        except HardwareError as error:
            raise Absent(error.message) from error
        quantity = Quantity("throttled_flags", "1", hz, measured("Raspberry Pi firmware"))
        return Instrument(THROTTLED, str(file), (quantity,), read_file)
    program = _program(spec if not root.is_dir() else SensorSpec(spec.driver))

    def read() -> tuple[float]:
        text = _ask(program, "get_throttled").strip()
        try:
            flags = int(text.partition("=")[2], 16)
        except ValueError as error:
            raise HardwareError(f"{program} get_throttled: found {text[:40]!r}, wanted throttled=0x...") from error
        return (_flags(flags, program),)

    try:
        read()
    except HardwareError as error:
        raise Absent(error.message) from error
    quantity = Quantity("throttled_flags", "1", hz, measured("Raspberry Pi firmware"))
    return Instrument(THROTTLED, program, (quantity,), read, slow=True)
