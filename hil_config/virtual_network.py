"""The network that an emulated board lives in: QEMU's user-mode network (QEMU documentation, Network emulation).

It is the same for every board and closed (`restrict=on`): a guest reaches the bench's broker, the data ports of the
other boards and the controller's client under the addresses here, each forwarded to a port of the emulating machine's
loopback, and nothing else. Its own data port is forwarded from loopback.
"""

from __future__ import annotations

GUEST_ADDRESS, GUEST_DATA_PORT = "10.0.2.15", 7070
BROKER_ADDRESS, BROKER_PORT = "10.0.2.100", 8883
GROUND_ADDRESS = "10.0.2.99"
"""The controller's client, on port GUEST_DATA_PORT."""

FIRST_PEER = 101
MOST_BOARDS = 254 - FIRST_PEER


def peer_address(index: int) -> tuple[str, int]:
    """(host, port) under which a guest reaches the data port of the bench's board number `index` (from 0)."""
    return f"10.0.2.{FIRST_PEER + index}", GUEST_DATA_PORT
