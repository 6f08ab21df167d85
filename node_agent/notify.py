"""Telling systemd how the service is (sd_notify(3)): datagrams to the socket that NOTIFY_SOCKET names. No library."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> bool:
    """Send `READY=1`, `STATUS=...`, `WATCHDOG=1`, `STOPPING=1`; False where nobody supervises this process."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.sendall("\n".join(lines).encode())
    except OSError:
        return False  # a supervisor that went away is no reason to stop serving
    return True


def watchdog_s() -> float:
    """The period within which systemd wants to hear WATCHDOG=1, 0 if it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = os.environ.get("WATCHDOG_USEC", "0")
    return int(text) / 1e6 if text.isdigit() else 0.0
