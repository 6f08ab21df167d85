"""Which rate a serial line speaks, when the one that was written down gives no readable character.

At a wrong rate a UART delivers other bytes, or none at all if their frames have no stop bit. Both are taken for a
reason to try the usual rates, one after another, and to judge what comes back to a carriage return.
"""

from __future__ import annotations

import select
import socket
import time

RATES = (115_200, 9_600, 57_600, 921_600, 1_500_000, 38_400, 460_800, 230_400, 19_200)
LISTEN_S = 2.0
ENOUGH = 4
CLEAR = 0.9
_TEXT = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n\x07\x08\x1b")


def readable(data: bytes) -> bool:
    """Whether this is text of a console: enough of it, and nearly all of it printable ASCII."""
    return len(data) >= ENOUGH and sum(byte in _TEXT for byte in data) >= CLEAR * len(data)


def garbled(data: bytes) -> bool:
    """Whether something speaks, at another rate."""
    return len(data) >= 8 * ENOUGH and not readable(data)


def answers(sock: socket.socket) -> bool:
    """Send a carriage return, listen for `LISTEN_S` seconds; True as soon as text has come."""
    heard, deadline = b"", time.monotonic() + LISTEN_S
    try:
        sock.sendall(b"\r")
    except OSError:
        return False
    while (left_s := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left_s)[0]:
            try:
                data = sock.recv(4096)
            except OSError:
                data = b""
            if not data:
                return False
            heard += data
            if len(heard) > 64 and readable(heard):
                return True
    return readable(heard)


def others(rate: int) -> tuple[int, ...]:
    """The usual rates without the one that was tried."""
    return tuple(one for one in RATES if one != rate)
