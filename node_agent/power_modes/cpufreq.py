"""Processor frequency cap (Documentation/admin-guide/pm/cpufreq.rst): `scaling_max_freq` of every policy, in kHz.

It is also how a Raspberry Pi's `arm_freq` is lowered while it runs; the line in config.txt counts at boot only.
"""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import HardwareError
from node_agent.power_modes.actuator import Actuator, write_text
from node_agent.sensors.sysfs import read_integer


def find(root: Path) -> Actuator | None:
    """The cap of all policies, as `kHz` or `kHz,kHz,...`; None without cpufreq."""
    folder = root / "sys/devices/system/cpu/cpufreq"
    policies = sorted(folder.glob("policy*"))
    if not policies:
        return None

    def read() -> str:
        values = [str(read_integer(policy / "scaling_max_freq")) for policy in policies]
        return values[0] if len(set(values)) == 1 else ",".join(values)

    def apply(text: str) -> None:
        values = text.split(",") * (1 if "," in text else len(policies))
        if len(values) != len(policies) or not all(value.isdigit() for value in values):
            raise HardwareError(f"cpu_khz {text!r}, wanted one number of kHz, or {len(policies)} of them")
        for policy, value in zip(policies, values, strict=True):
            least, most = (read_integer(policy / f"cpuinfo_{end}_freq") for end in ("min", "max"))
            if not least <= int(value) <= most:
                raise HardwareError(f"{policy.name}: {value} kHz, wanted {least} to {most}")
        for policy, value in zip(policies, values, strict=True):
            write_text(policy / "scaling_max_freq", value)

    return Actuator("cpu_khz", str(folder), read, apply)
