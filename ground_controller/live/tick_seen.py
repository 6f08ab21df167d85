"""Of the record of a tick, what a watcher needs; the rest is not decoded."""

from __future__ import annotations

import msgspec

from ground_controller.decision import TickNumbers
from hil_config.wire.orders import SetDuty


class PlanHead(msgspec.Struct, frozen=True):
    """Of `SelectionPlan`."""

    version: int
    policy: str
    reason: str
    nodes: tuple[str, ...]


class TickSeen(TickNumbers, frozen=True):
    """Of `Decision`."""

    duties: tuple[SetDuty | None, ...]
    plan: PlanHead


_decoder = msgspec.json.Decoder(TickSeen)


def tick_seen(body: bytes) -> TickSeen:
    """From the body of a `decision` entry."""
    return _decoder.decode(body)
