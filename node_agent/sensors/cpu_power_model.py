"""Modelled board power from the agent's own CPU time. Never measured, and labelled so.

P = idle_w + per_core_w * min(cores, cpu_scale * CPU seconds per second): `cpu_scale` is how many seconds a
core of the modelled board needs for what a core of this machine does in one. For machines without a power
sensor, where several agents share one host.
"""

from __future__ import annotations

import time

from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import modelled
from node_agent.config import AgentConfig
from node_agent.sensors.reading import Sensor


class _CpuPower:
    def __init__(self, config: AgentConfig) -> None:
        self._model = config.power_model
        self._cpu_s = time.process_time()
        self._mono_s = time.monotonic()

    def read(self) -> float:
        cpu_s, mono_s = time.process_time(), time.monotonic()
        busy = (cpu_s - self._cpu_s) / max(1e-3, mono_s - self._mono_s)
        self._cpu_s, self._mono_s = cpu_s, mono_s
        model = self._model
        return model.idle_w + model.per_core_w * min(float(model.cores), model.cpu_scale * busy)


def find(config: AgentConfig) -> Sensor:
    """Always there."""
    label = f"{config.power_model.profile} coefficients x CPU time of the agent"
    return Sensor(Quantity("power_w", "W", config.sample_hz, modelled(label)), _CpuPower(config).read)
