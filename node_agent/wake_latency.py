"""How long a core of this board may take to wake up, while the agent runs.

A core that has nothing to do sleeps the deeper the longer nothing comes, and a decoded token wakes the gateway twice in
each layer. The kernel goes by what was written to this file for as long as the file is open, so that the wish ends with
this process however that ends (Documentation/admin-guide/pm/cpuidle.rst). Cores that sleep less deeply take more power:
what was asked for is among the facts of the board's status.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from hil_config.errors import EnvironmentFault

DEVICE = "dev/cpu_dma_latency"
AS_IT_IS = -1
"""Nothing is asked for."""


class Wish:
    """Held until `close`. `facts`: what a status says of it."""

    def __init__(self, descriptor: int | None, facts: dict[str, str]) -> None:
        self._descriptor, self.facts = descriptor, facts

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def hold(root: Path, latency_us: int) -> Wish:
    """Ask for wake-ups within so many microseconds; with 0 no core sleeps at all, with `AS_IT_IS` nothing is asked for.

    Raises:
        EnvironmentFault: the kernel has no such file, or does not let us.
    """
    if latency_us == AS_IT_IS:
        return Wish(None, {})
    path, descriptor = root / DEVICE, None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, struct.pack("=i", latency_us))
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise EnvironmentFault(
            f"{path}: wake_latency_us {latency_us} cannot be asked for: {error.strerror}",
            "install the agent's unit and rules again (hil-agent install), or leave wake_latency_us out",
        ) from error
    return Wish(descriptor, {"power:wake_latency_us": str(latency_us)})
