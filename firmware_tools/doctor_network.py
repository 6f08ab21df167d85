"""Whether the bench's time server answers, and whether a board is managed apart from the network that is measured."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from firmware_tools.doctor import Check
from firmware_tools.time_server import ask
from hil_config.errors import LinkError
from hil_config.schema.strict import LOOPBACK

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

NEAR = 24
"""Two ports of one board in one network of so many bits: replies leave by either (ARP flux, one route for both)."""


def check_network(bench: Bench) -> Iterator[Check]:
    """For boards with a clock and a network of their own."""
    real = [board for board in bench.boards if board.kind not in ("local", "virtual", "model")]
    if real and bench.broker.host not in LOOPBACK:
        yield _time(bench.broker.host)
    for board in real:
        if board.ssh is not None:
            yield _apart(board, board.ssh.host)


def _time(host: str) -> Check:
    try:
        answer = ask(host)
    except LinkError as error:
        return Check("time server", False, error.message, error.hint)
    return Check("time server", answer.synchronised, str(answer), "chronyc tracking; chronyc sources")


def _apart(board: Board, host: str) -> Check:
    name, hint = f"{board.name}.networks", "give the board a second port for SSH, in a network of its own: see " \
        "docs/how-to/provision-a-board.md"  # fmt: skip
    managed, data = _addresses(host), _addresses(board.address)
    if not managed or not data:
        return Check(
            name, False, f"{host if not managed else board.address} has no address", "mend the name, or the resolver"
        )
    if managed & data:
        return Check(name, False, f"SSH and data both use {board.address}", hint)
    for one in managed:
        for other in data:
            if one.version == other.version == 4 and other in ipaddress.ip_network(f"{one}/{NEAR}", strict=False):
                return Check(name, False, f"SSH at {one} and data at {other} are in one network", hint)
    return Check(name, True, f"SSH at {host}, data at {board.address}")


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found}
