"""Evidence that a local agent numbered and could not hand in any more: read from its spool when the run ends.

A real board hands it in itself when it returns; a local agent that was killed does not return.
"""

from __future__ import annotations

import time
from pathlib import Path

from ground_controller.fleet.mqtt import evidence_kind
from ground_controller.inbox import Arrival, Inbox
from hil_config.errors import RemoteProtocolError
from hil_config.wire.messages import Record, decode
from hil_config.wire.spool_file import read_spool


def collect(spool: Path, nodes: list[str], inbox: Inbox) -> int:
    """Put what is left in the spools of `nodes` into the inbox; the journal knows what it has already."""
    count = 0
    for node in nodes:
        for folder in sorted(spool.glob(f"{node}-*")):
            for seq, payload in read_spool(folder):
                try:
                    record = decode(payload, Record)
                except RemoteProtocolError:
                    continue  # damaged although its checksum is right: the gap it leaves is in the report
                kind, now_ns = evidence_kind(record), time.monotonic_ns()
                inbox.put(Arrival(now_ns, kind, record.node, record.boot_id, seq, payload, record.epoch))
                count += 1
    return count
