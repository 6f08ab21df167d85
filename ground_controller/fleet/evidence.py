"""A node's numbered record on its way into the journal: under the kind of its body, or refused and told so.

What is refused is committed too: its node would hand it in for ever, and whoever asks what it was can look.
"""

from __future__ import annotations

import time

import msgspec

from ground_controller import admission
from ground_controller.admission import Refused, Shape
from ground_controller.inbox import Arrival
from hil_config.errors import RemoteProtocolError
from hil_config.wire import messages as m

_KINDS: dict[type, str] = {
    m.SampleBatch: "samples",
    m.TokenEvidence: "token",
    m.NodeEvent: "event",
    m.LinkReport: "links",
    m.WorkSummary: "work",
    m.Gap: "gap",
}


class _Envelope(msgspec.Struct, frozen=True):
    """What has to be readable of a record for it to be refused by number; a later release may add what it likes."""

    node: str
    boot_id: str
    seq: m.Number
    epoch: m.Number = 0


def arrival(data: bytes, run: Shape) -> Arrival:
    """`data` as it is to be recorded now in a run of that shape.

    Raises:
        RemoteProtocolError: not even its number can be read.
    """
    try:
        record = m.decode(data, m.Record)
        reason = admission.refusal(record, run)
        kind = admission.KIND if reason else _KINDS[type(record.body)]
        found: m.Record | _Envelope = record
    except RemoteProtocolError as error:
        found, kind, reason = _envelope(data, error), admission.KIND, error.message
    body = msgspec.json.encode(Refused(reason, data)) if reason else data
    return Arrival(time.monotonic_ns(), kind, found.node, found.boot_id, found.seq, body, found.epoch)


def _envelope(data: bytes, error: RemoteProtocolError) -> _Envelope:
    try:
        return msgspec.json.decode(data, type=_Envelope)
    except (ValueError, RecursionError):
        raise error from None
