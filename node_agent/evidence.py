"""Evidence on its way home: numbered into the spool, published in a window, sent again until committed.

What an earlier process of this node left in its spool (a crash, a restart) is sent in the same way, under the boot
id of that process.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import msgspec

from hil_config.wire import topics
from hil_config.wire.messages import (
    MAX_MESSAGE_BYTES,
    Gap,
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
from node_agent.log import LOG
from node_agent.mqtt_link import MqttLink
from node_agent.spool import Ranges, Spool

WINDOW = 256
RESEND_S = 1.0
RESEND_MOST_S = 8.0
JITTER = 0.25
"""Nodes that lost the same broker at the same moment do not come back at the same moment."""
IDLE_S = 0.5
TROUBLE_S = 10.0
_LOW = (SampleBatch, LinkReport)
_TOPICS: dict[str, Topic] = {"samples": topics.POWER, "token": topics.TOKEN}


class _Kind(msgspec.Struct):
    type: str


class _Peek(msgspec.Struct):
    """The one field of a record that the publisher needs."""

    body: _Kind


def _topic(payload: bytes) -> Topic:
    return _TOPICS.get(msgspec.json.decode(payload, type=_Peek).body.type, topics.EVENT)


def _gap(node: str, boot_id: str, seq: int, ranges: Ranges, reason: str) -> bytes:
    mono_ns = time.monotonic_ns()
    body = Gap(ranges, mono_ns, reason)
    return encode(Record(node=node, boot_id=boot_id, seq=seq, mono_ns=mono_ns, wall_ns=time.time_ns(), body=body))


def _too_large(body: SampleBatch | TokenEvidence | NodeEvent | LinkReport, size: int) -> NodeEvent:
    """In the place of a record that the ground would refuse, or the broker hang up for (a long text scored whole by one
    gateway): it would be sent for ever."""
    reason = f"a record of {size} bytes; a message has at most {MAX_MESSAGE_BYTES}"
    details: dict[str, str | int | float | bool] = {"reason": reason}
    if isinstance(body, TokenEvidence):
        details |= {"request": body.request, "attempt": body.attempt, "start": body.start, "rows": body.rows}
    return NodeEvent("EvidenceTooLarge", time.monotonic_ns(), details)


def open_spool(root: Path, node: str, boot_id: str, max_bytes: int) -> Spool:
    """The spool of one boot of this node below `root`."""
    return Spool(root / f"{node}-{boot_id}", max_bytes, partial(_gap, node, boot_id))


def left_spools(root: Path, node: str, boot_id: str, max_bytes: int) -> list[tuple[str, Spool]]:
    """(boot id, spool) of earlier processes of this node that still have something to hand in, the last one first.

    Args:
        max_bytes: of all of them together; the oldest give up theirs. A board that is switched off every night, with
            nobody who takes its evidence, would one day have its disk full of it, and its memory of where that lies.
    """
    found, room = [], max_bytes
    folders = [folder for folder in root.glob(f"{node}-*") if folder.is_dir()]
    for folder in sorted(folders, key=_written_s, reverse=True):
        earlier = folder.name[len(node) + 1 :]
        if earlier == boot_id or "-" in earlier:
            continue  # a dash: another node whose name begins like ours
        spool = open_spool(root, node, earlier, room)
        room = max(0, room - spool.bytes)
        if spool.last_seq:
            found.append((earlier, spool))
            continue
        spool.close()
        if spool.disk_errors:
            LOG.warning("%s: left for the next start: %s", folder, spool.last_disk_error)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _written_s(folder: Path) -> tuple[float, str]:
    """When the newest file of a spool was written, by the wall clock; 0 where there is none."""
    times = [0.0]
    with contextlib.suppress(OSError):
        times += [path.stat().st_mtime for path in folder.iterdir()]
    return max(times), folder.name


class _Stream:
    """What was sent of one boot, and when its watermark moved last."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.sent = 0
        self._acked = 0
        self._moved_s = 0.0
        self._patience_s = 0.0
        self._gaps_sent: set[int] = set()

    def due(self, now_s: float, jitter: float) -> list[tuple[int, bytes]]:
        """What to publish now: new records in the window, or all of it again when the ground has not answered."""
        if self.spool.acked != self._acked or not self._moved_s:
            self._acked, self._moved_s, self._patience_s = self.spool.acked, now_s, RESEND_S * jitter
        elif self.spool.waiting and now_s - self._moved_s > self._patience_s:
            self.sent, self._moved_s = self._acked, now_s
            self._gaps_sent.clear()
            self._patience_s = min(RESEND_MOST_S, 2 * self._patience_s) * jitter
        batch = self.spool.after(self.sent, WINDOW, WINDOW)
        self._gaps_sent.update(seq for seq, _ in batch)
        gaps = [(seq, payload) for seq, payload in self.spool.gaps() if seq not in self._gaps_sent]
        self._gaps_sent = {seq for seq in self._gaps_sent if seq > self.spool.acked}
        self._gaps_sent.update(seq for seq, _ in gaps)
        if batch:
            self.sent = batch[-1][0]
        return gaps + batch


class Evidence:
    """One publisher thread for all spools of a node. `put` may be called from any thread and never waits for the net.

    Args:
        left: spools of earlier boots, handed in besides the current one.
    """

    def __init__(
        self, node: str, boot_id: str, spool: Spool, link: MqttLink, left: list[tuple[str, Spool]] | None = None
    ) -> None:
        self._node = node
        self._boot_id = boot_id
        self._spool = spool
        self._link = link
        self._streams = {boot_id: _Stream(spool), **{boot: _Stream(old) for boot, old in left or []}}
        self._wake = threading.Condition()
        self._chance = random.Random(f"{node}-{boot_id}")
        self._told = (0.0, 0)
        self._epoch = 0
        self.beat_s = time.monotonic()

    def put(self, body: SampleBatch | TokenEvidence | NodeEvent | LinkReport) -> None:
        """Number and keep one record."""

        def record(seq: int, body: SampleBatch | TokenEvidence | NodeEvent | LinkReport) -> bytes:
            return encode(
                Record(
                    node=self._node, boot_id=self._boot_id, seq=seq, mono_ns=time.monotonic_ns(),
                    wall_ns=time.time_ns(), epoch=self._epoch, body=body,
                )
            )  # fmt: skip

        def build(seq: int) -> bytes:
            found = record(seq, body)
            return found if len(found) <= MAX_MESSAGE_BYTES else record(seq, _too_large(body, len(found)))

        self._spool.append(build, low=isinstance(body, _LOW))
        with self._wake:
            self._wake.notify()

    def committed(self, watermark: Watermark) -> None:
        """The ground has it up to there."""
        stream = self._streams.get(watermark.boot_id)
        if stream is None or watermark.node != self._node:
            return
        stream.spool.acknowledge(watermark.seq)
        if stream.spool is not self._spool and not stream.spool.waiting:
            del self._streams[watermark.boot_id]
            stream.spool.close()
        with self._wake:
            self._wake.notify()

    def new_run(self, epoch: int) -> None:
        """The controller of `epoch` has put the node into a run, perhaps with an empty journal: what an earlier one has
        committed will not come again, of this process or of one before it."""
        self._epoch = epoch
        for stream in list(self._streams.values()):
            stream.spool.rebase("committed by an earlier run")

    @property
    def waiting(self) -> int:
        return sum(stream.spool.waiting for stream in list(self._streams.values()))

    @property
    def last_seq(self) -> int:
        return self._spool.last_seq

    def work(self, crew: Crew) -> None:
        """Publish new records as they come; go back to the watermark when it has not moved for a while."""
        while not crew.stopping.is_set():
            self.beat_s = time.monotonic()
            busy = False
            for stream in list(self._streams.values()) if self._link.connected.is_set() else []:
                jitter = 1.0 + JITTER * self._chance.random()
                for _, payload in stream.due(self.beat_s, jitter):
                    self._link.publish_raw(_topic(payload), payload)
                    self.beat_s = time.monotonic()  # a slow board takes longer than the watchdog for all there is
                    busy = True
            if not busy:
                with self._wake:
                    self._wake.wait(IDLE_S)
            self._tell_trouble()

    def _tell_trouble(self) -> None:
        """A disk that fails is an event, at most every `TROUBLE_S`."""
        at_s, known = self._told
        errors = self._spool.disk_errors
        if errors > known and self.beat_s - at_s > TROUBLE_S:
            self._told = (self.beat_s, errors)
            details: dict[str, str | int | float | bool] = {"errors": errors, "last": self._spool.last_disk_error}
            self.put(NodeEvent("SpoolDiskFailed", time.monotonic_ns(), details))
