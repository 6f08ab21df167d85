"""Modelled board power from the agent's own CPU time. Never measured, and labelled so.

P = idle_w + per_core_w * min(cores, cpu_scale * CPU seconds per second): `cpu_scale` is how many seconds a
core of the modelled board needs for what a core of this machine does in one. For machines without a power
sensor, where several agents share one host.
"""

from __future__ import annotations

import time

from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import modelled
from node_agent.config import PowerModel
from node_agent.sensors.reading import Instrument

DRIVER = "cpu_power_model"


class _CpuPower:
    def __init__(self, model: PowerModel) -> None:
        self._model = model
        self._cpu_s = time.process_time()
        self._mono_s = time.monotonic()

    def read(self) -> tuple[float]:
        cpu_s, mono_s = time.process_time(), time.monotonic()
        busy = (cpu_s - self._cpu_s) / max(1e-3, mono_s - self._mono_s)
        self._cpu_s, self._mono_s = cpu_s, mono_s
        model = self._model
        return (model.idle_w + model.per_core_w * min(float(model.cores), model.cpu_scale * busy),)


def find(model: PowerModel, hz: float) -> Instrument:
    """Always there."""
    quantity = Quantity("power_w", "W", hz, modelled(f"{model.profile} coefficients x CPU time of the agent"))
    return Instrument(DRIVER, model.profile, (quantity,), _CpuPower(model).read)
