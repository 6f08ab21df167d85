"""Evidence that a local agent numbered and could not hand in any more: read from its spool when the run ends.

A real board hands it in itself when it returns; a local agent that was killed does not return.
"""

from __future__ import annotations

from pathlib import Path

from ground_controller.admission import Shape
from ground_controller.fleet.evidence import arrival
from ground_controller.inbox import Inbox
from hil_config.errors import RemoteProtocolError
from hil_config.wire.spool_file import read_spool


def collect(spool: Path, nodes: list[str], inbox: Inbox, run: Shape) -> int:
    """Put what is left in the spools of `nodes` into the inbox; the journal knows what it has already."""
    count = 0
    for node in nodes:
        for folder in sorted(spool.glob(f"{node}-*")):
            for _, payload in read_spool(folder):
                try:
                    inbox.put(arrival(payload, run))
                except RemoteProtocolError:
                    continue  # damaged although its checksum is right: the gap it leaves is in the report
                count += 1
    return count
