"""A character device as a stream of bytes with deadlines: a tty set to raw, or a hidraw node. Linux, stdlib only."""

from __future__ import annotations

import fcntl
import os
import select
import termios
import time
import tty
from pathlib import Path

from hil_config.errors import HardwareError

TIMEOUT_S = 1.0
MOST_WAITING = 1 << 16
KERNEL_BYTES = 4095
"""What a terminal's line discipline holds (drivers/tty/n_tty.c)."""
_SPEEDS = {int(name[1:]): getattr(termios, name) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}


class Port:
    """An open device. Every method raises HardwareError when the device goes away or the deadline passes."""

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self._buffer = bytearray()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise HardwareError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise HardwareError(
                f"{path}: another program reads it, perhaps this board's own agent, and would get its answers"
            ) from error
        if os.isatty(self._fd):
            self._set_raw(baud)

    def _set_raw(self, baud: int) -> None:
        try:
            tty.setraw(self._fd)
            settings = termios.tcgetattr(self._fd)
            settings[4] = settings[5] = _SPEEDS[baud]
            termios.tcsetattr(self._fd, termios.TCSANOW, settings)
        except (KeyError, termios.error) as error:
            os.close(self._fd)
            raise HardwareError(f"{self.path}: {baud} baud cannot be set: {error}") from error

    def write(self, data: bytes) -> None:
        """Send a request."""
        try:
            sent = os.write(self._fd, data)
        except OSError as error:
            raise HardwareError(f"{self.path}: {error.strerror}") from error
        if sent != len(data):
            raise HardwareError(f"{self.path}: {sent} of {len(data)} bytes were taken: the device does not read")

    def forget(self) -> None:
        """Drop what has come so far, so that the next reading is new."""
        self._drain()
        self._buffer.clear()

    def forget_lines(self) -> None:
        """Drop the lines that have come so far; one that has begun is read to its end next.

        Not where the kernel had no room for more: that one may lack its middle, and older ones may come behind it.
        """
        while self._drain() >= KERNEL_BYTES:
            self.read_line()
        del self._buffer[: self._buffer.rfind(b"\n") + 1]

    def _drain(self) -> int:
        """Take all that waits, and tell how many bytes came. A hidraw node gives one report a read."""
        deadline, came = time.monotonic() + TIMEOUT_S, 0
        while True:
            before = len(self._buffer)
            if not self._pull(0.0):
                return came
            came += len(self._buffer) - before
            del self._buffer[: -MOST_WAITING // 2]
            if time.monotonic() > deadline:
                raise HardwareError(f"{self.path}: more comes than can be read")

    def _pull(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, wait_s))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return False
        except OSError as error:  # EIO: the adapter was unplugged
            raise HardwareError(f"{self.path}: the device went away: {error.strerror}") from error
        if not data:
            raise HardwareError(f"{self.path}: the device went away")
        self._buffer += data
        if len(self._buffer) > MOST_WAITING:
            raise HardwareError(f"{self.path}: {len(self._buffer)} bytes without a whole frame")
        return True

    def _wait_for(self, count: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self._buffer) < count:
            left_s = deadline - time.monotonic()
            if not self._pull(left_s) and left_s <= 0.0:
                raise HardwareError(f"{self.path}: {len(self._buffer)} of {count} bytes came within {timeout_s:g} s")

    def read_exactly(self, count: int, timeout_s: float = TIMEOUT_S) -> bytes:
        """The next `count` bytes."""
        self._wait_for(count, timeout_s)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def read_line(self, timeout_s: float = TIMEOUT_S) -> str:
        """The next line without its end."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            self._wait_for(len(self._buffer) + 1, deadline - time.monotonic())
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line.decode("ascii", "replace").strip()

    def close(self) -> None:
        os.close(self._fd)


def first_existing(pattern: str) -> str:
    """The first device whose path matches a glob pattern under /dev, or the path itself."""
    if "*" not in pattern:
        return pattern
    found = sorted(Path("/").glob(pattern.lstrip("/")))
    return str(found[0]) if found else pattern
