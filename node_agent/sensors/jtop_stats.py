"""jtop (package jetson-stats, AGPL-3.0: a plug-in that is only imported when a board's profile names it).

A cross-check, not the primary: its service samples for all clients at the first client's interval, at best every
0.5 s, and its `avg` is an exponential mean of two readings, so only `power` is used. `power` is {'rail': {name: {...}},
'tot': {'power': mW, ...}}; `temperature` is {name: {'temp': C, 'online': bool}} with -256 for a zone that is off;
`stats` has 'GPU' in percent and 'nvp model'.
"""

from __future__ import annotations

from typing import Any

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument

DRIVER = "jtop"
BEST_HZ = 2.0


def connect() -> Any:
    """A started client; Absent if the package or its service is missing."""
    try:
        from jtop import jtop
    except ImportError as error:
        raise Absent("jtop: the package jetson-stats is not installed (pip install 'spacemoe-hil[jetson]')") from error
    client = jtop(interval=1.0 / BEST_HZ)
    try:
        client.start()
    except Exception as error:  # its own, the socket's, or that of a queue that stays empty
        raise Absent(f"jtop: {error!r}") from error
    return client


def instrument(client: Any, hz: float) -> Instrument:
    """Total power, hottest zone and GPU load of a client that is connected."""
    hz = min(hz, BEST_HZ)

    def read() -> tuple[float, ...]:
        try:
            alive = client.ok(spin=True)
        except Exception as error:  # whatever ended its thread: the service was stopped or started again
            raise HardwareError(f"jtop: its service has stopped answering: {error!r}") from error
        if not alive:
            raise HardwareError("jtop: its service has stopped answering")
        try:
            total_mw = float(client.power["tot"]["power"])
            zones = [float(z["temp"]) for z in client.temperature.values() if z.get("online", True)]
            gpu = float(client.stats["GPU"])
        except (KeyError, TypeError, ValueError) as error:
            raise HardwareError(f"jtop: unexpected content: {error!r}") from error
        if not zones:
            raise HardwareError("jtop: no temperature zone is online")
        return total_mw / 1e3, max(zones), gpu

    quantities = (
        Quantity("power_w", "W", hz, measured("jtop total power")),
        Quantity("temperature_c", "C", hz, measured("jtop hottest zone")),
        Quantity("gpu_percent", "%", hz, measured("jtop GPU load")),
    )
    return Instrument(DRIVER, "/run/jtop.sock", quantities, read, client.close, slow=True)


def find(spec: SensorSpec, hz: float) -> Instrument:
    """Connect to the service of this board."""
    return instrument(connect(), hz)
