"""Evidence on its way home: numbered into the spool, published in a window, sent again until committed."""

from __future__ import annotations

import threading
import time

from hil_config.wire import topics
from hil_config.wire.messages import (
    LinkReport,
    NodeEvent,
    Record,
    SampleBatch,
    TokenEvidence,
    Watermark,
    encode,
)
from hil_config.wire.topics import Topic
from node_agent.crew import Crew
from node_agent.mqtt_link import MqttLink
from node_agent.spool import Spool

WINDOW = 256
RESEND_S = 1.0
RESEND_MOST_S = 8.0
_ROWS: dict[type, Topic] = {
    SampleBatch: topics.POWER,
    TokenEvidence: topics.TOKEN,
    NodeEvent: topics.EVENT,
    LinkReport: topics.EVENT,
}


class Evidence:
    """One spool, one publisher thread. `put` may be called from any thread and does not wait for the network."""

    def __init__(self, node: str, boot_id: str, spool: Spool, link: MqttLink) -> None:
        self._node = node
        self._boot_id = boot_id
        self._spool = spool
        self._link = link
        self._rows: dict[int, Topic] = {}
        self._wake = threading.Condition()
        self._reported_drops = 0

    def put(self, body: SampleBatch | TokenEvidence | NodeEvent | LinkReport) -> None:
        """Number and keep one record."""
        row = _ROWS[type(body)]

        def build(seq: int) -> bytes:
            self._rows[seq] = row
            return encode(
                Record(
                    node=self._node, boot_id=self._boot_id, seq=seq, mono_ns=time.monotonic_ns(),
                    wall_ns=time.time_ns(), body=body,
                )
            )  # fmt: skip

        self._spool.append(build)
        with self._wake:
            self._wake.notify()

    def committed(self, watermark: Watermark) -> None:
        """The ground has it up to there."""
        if watermark.boot_id != self._boot_id:
            return
        before = self._spool.acked
        self._spool.acknowledge(watermark.seq)
        for seq in range(before + 1, self._spool.acked + 1):
            self._rows.pop(seq, None)
        with self._wake:
            self._wake.notify()

    @property
    def waiting(self) -> int:
        return self._spool.last_seq - self._spool.acked

    @property
    def last_seq(self) -> int:
        return self._spool.last_seq

    def work(self, crew: Crew) -> None:
        """Publish new records as they come; go back to the watermark when it has not moved for a while."""
        sent, acked, moved_s, patience_s = 0, 0, time.monotonic(), RESEND_S
        while not crew.stopping.is_set():
            now_s = time.monotonic()
            if self._spool.acked != acked:
                acked, moved_s, patience_s = self._spool.acked, now_s, RESEND_S
            elif sent > acked and now_s - moved_s > patience_s:
                sent, moved_s, patience_s = acked, now_s, min(RESEND_MOST_S, 2 * patience_s)
            batch = self._spool.after(max(sent, acked), WINDOW) if self._link.connected.is_set() else []
            batch = [(seq, payload) for seq, payload in batch if seq <= acked + WINDOW]
            for seq, payload in batch:
                row = self._rows.get(seq)
                if row is not None:  # None: committed since the batch was taken
                    self._link.publish_raw(row, payload)
                sent = seq
            if not batch:
                with self._wake:
                    self._wake.wait(0.2)
            self._note_drops()

    def _note_drops(self) -> None:
        dropped = self._spool.dropped
        if dropped > self._reported_drops and self.waiting < WINDOW:
            lost, self._reported_drops = dropped - self._reported_drops, dropped
            self.put(NodeEvent("SpoolOverflowed", time.monotonic_ns(), {"records_lost": lost}))
