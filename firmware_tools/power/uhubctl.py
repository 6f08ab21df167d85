"""USB hubs that switch power per port, through uhubctl (github.com/mvp/uhubctl). `at` is the hub's location.

Many hubs, those inside the Raspberry Pi among them, report a port as off while it still supplies: the proof in
`proof.py` is what counts.
"""

from __future__ import annotations

import re

from firmware_tools.power.command import run
from firmware_tools.power.spec import Switch
from hil_config.errors import HardwareError


def switch(spec: Switch, on: bool) -> None:
    action = "on" if on else "off"
    run(spec.board, ("uhubctl", "-l", spec.at, "-p", str(spec.channel), "-a", action, "-r", "3"))
    if status(spec) is not on:
        raise HardwareError(f"board {spec.board}: hub {spec.at} port {spec.channel} did not go {action}",
                            "only hubs that switch power per port do; uhubctl's own page lists them")  # fmt: skip


def status(spec: Switch) -> bool | None:
    said = run(spec.board, ("uhubctl", "-l", spec.at, "-p", str(spec.channel)))
    found = re.search(rf"Port {spec.channel}: [0-9a-f]{{4}}(.*)", said)
    if found is None:
        raise HardwareError(f"board {spec.board}: hub {spec.at} has no port {spec.channel}", "run uhubctl by hand")
    return "power" in found[1].split()
