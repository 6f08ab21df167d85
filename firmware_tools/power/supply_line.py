"""A laboratory supply on a serial line: one question, one answer."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firmware_tools.power.spec import Place
from hil_config.errors import HardwareError

TIMEOUT_S = 2.0


def ask(
    spec: Place, baud: int, orders: tuple[str, ...], question: str, end: str, length: int = 0, pause_s: float = 0.0
) -> bytes:
    """Send orders, then a question, and read its answer: `length` bytes, or a line if 0. Nobody speaks in between.

    Args:
        pause_s: after each order; a supply without line ends knows one by the silence behind it.
    """
    import serial

    try:
        with (
            _alone(spec.at),
            serial.serial_for_url(spec.at, baudrate=baud, timeout=TIMEOUT_S, write_timeout=TIMEOUT_S) as line,
        ):
            for order in orders:
                line.write(f"{order}{end}".encode())
                line.flush()
                time.sleep(pause_s)
            line.reset_input_buffer()
            line.write(f"{question}{end}".encode())
            answer: bytes = line.read(length) if length else line.read_until(b"\n")
    except (OSError, ValueError, NotImplementedError, termios.error, serial.SerialException) as error:
        raise HardwareError(f"board {spec.board}: supply at {spec.at}: {error}", "check cable and port name") from error
    if not answer:
        raise HardwareError(
            f"board {spec.board}: supply at {spec.at} does not answer {question}", "check its baud rate"
        )
    return answer


@contextmanager
def _alone(at: str) -> Iterator[None]:
    """Of several outputs each order is for the one that was selected last, by whichever of our threads or commands."""
    name = hashlib.sha256(at.encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"hil-{os.getuid()}-{name}.supply", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def volts_times_amperes(place: Place, said: tuple[bytes, bytes], hint: str) -> float:
    """The power in what a supply answered; HardwareError with the hint if these are no numbers."""
    try:
        return float(said[0]) * float(said[1])
    except ValueError as error:
        raise HardwareError(
            f"board {place.board}: supply at {place.at} says {said[0]!r} and {said[1]!r}, wanted volts and amperes",
            hint,
        ) from error
