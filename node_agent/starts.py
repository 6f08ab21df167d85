"""Counting starts that did not end well: after a crash loop the agent only sends telemetry.

A start is written down before anything can fail and struck out by a clean stop. `LOOP` unclean starts within
`WITHIN_S` mean that serving kills the agent (out of memory, a broken shard, a broken runtime): the next start is in
safe mode, refuses runs, and can be looked at. Staying up for `WITHIN_S`, or a clean stop, ends that.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from hil_config.durable_file import write_durably
from node_agent.config import AgentConfig

NAME = "starts"
LOOP = 3
WITHIN_S = 600.0


def state_folder(config: AgentConfig) -> Path:
    """Where this node keeps what must outlive its process, besides the spool."""
    return Path(config.spool) / f"{config.node}.state"


class Starts:
    """Unclean starts of this node; times are of the monotonic clock, those of another boot do not count."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        boot, now_s = _system_boot(), time.monotonic()
        self._lines = [line for line in self._read() if line[0] == boot and 0 <= now_s - float(line[1]) <= WITHIN_S]
        self.crashes = len(self._lines)
        self._lines.append((boot, f"{now_s:.3f}"))
        self._until_s: float | None = now_s + WITHIN_S
        self._write()

    def lived(self) -> None:
        """Called now and then: staying up for `WITHIN_S` is the end of a crash loop."""
        if self._until_s is not None and time.monotonic() > self._until_s:
            self.ended_well()

    def was_refused(self) -> None:
        """This start ended with an error that has a name (no broker, a bad file): not a crash."""
        self._lines = self._lines[:-1]
        self._write()

    @property
    def safe_mode(self) -> bool:
        return self.crashes >= LOOP

    def _read(self) -> list[tuple[str, str]]:
        try:
            rows = [line.split() for line in self._path.read_text().splitlines()]
        except (OSError, ValueError):  # not there, or not ours
            return []
        return [(row[0], row[1]) for row in rows if len(row) == 2 and row[1].replace(".", "", 1).isdigit()]

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, "".join(f"{boot} {at_s}\n" for boot, at_s in self._lines).encode())
        except OSError:
            pass  # a full disk must not stop the agent; then crash loops are left to systemd

    def ended_well(self) -> None:
        """A clean stop, or a long life: forget the past."""
        self._lines, self._until_s, self.crashes = [], None, 0
        with contextlib.suppress(OSError):  # a card that has become read-only must not stop it either
            self._path.unlink(missing_ok=True)


def _system_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
