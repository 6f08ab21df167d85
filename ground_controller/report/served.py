"""Which experts were used how often, and which nodes served them, from the gateways' evidence."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.journal import Journal
from ground_controller.telemetry.sources import stride
from ground_controller.telemetry.tables import token_evidence
from hil_config.wire.manifest import ModelCard


class Served(NamedTuple):
    """int64 rows [layers, experts] that used each expert; rows by node (index in the plan's node list)."""

    experts: NDArray[np.int64]
    hosts: dict[int, int]


def served(journal: Journal) -> Served:
    """Counted over all steps; of a simulation with a stride, times the stride."""
    card = msgspec.json.decode(journal.meta("model_card"), type=ModelCard)
    experts = np.zeros((card.layers, card.experts), np.int64)
    hosts = np.zeros(1, np.int64)
    for _, evidence in token_evidence(journal):
        for layer in evidence.layers:
            picks, by = (np.frombuffer(raw, "<i2") for raw in (layer.picks, layer.hosts))
            experts[layer.layer] += np.bincount(picks[picks >= 0], minlength=card.experts)
            count = np.bincount(by[by >= 0], minlength=hosts.size)
            count[: hosts.size] += hosts
            hosts = count
    times = stride(journal)
    return Served(experts * times, {i: int(n) * times for i, n in enumerate(hosts) if n})
