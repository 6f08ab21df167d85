"""Network ports of a board, as its own kernel names them over a shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from firmware_tools.provision.board_shell import BoardShell
from hil_config.errors import HardwareError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

_READ = (
    "cat /proc/sys/kernel/random/boot_id; "
    'for one in /sys/class/net/*; do echo "port ${one##*/} $(cat $one/address)"; done'
)
COMMAND_S = 60.0


class Seen(msgspec.Struct, frozen=True):
    """`way`: console or ssh. `boot`: the kernel's boot id. `ports`: (name, hardware address), without the loopback."""

    way: str
    boot: str
    ports: tuple[tuple[str, str], ...]


def look(way: str, shell: BoardShell) -> Seen:
    """Read only.

    Raises:
        HardwareError: what it says cannot be read.
    """
    out = shell.must(_READ, "reading its network ports", COMMAND_S)
    boot = re.search(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", out)
    if boot is None:
        raise HardwareError(f"board {shell.board}: its answer cannot be read: {out[-200:]!r}", "run the command again")
    found = re.findall(r"^port (\S+) ([0-9a-f]{2}(?::[0-9a-f]{2}){5})\s*$", out, re.MULTILINE)
    return Seen(way, boot[0], tuple(one for one in found if one[0] != "lo"))


def judge_ports(board: Board, bench: Bench, seen: tuple[Seen, ...]) -> str:
    """Name of the port that has the address which the bench file gives to `board`; empty if it gives none.

    Raises:
        HardwareError: two ways in lead to two boards, or the address is not there.
    """
    if len({one.boot for one in seen}) > 1:
        ways = " and ".join(one.way for one in seen)
        raise HardwareError(
            f"board {board.name}: {ways} lead to different boards: the kernel's boot ids are "
            f"{' and '.join(one.boot for one in seen)}",
            "mend `console` or `ssh` in the bench file",
        )
    if board.mac is None or not seen:
        return ""
    for name, address in seen[0].ports:
        if address == board.mac:
            return name
    theirs = {other.mac: other.name for other in bench.boards if other.mac is not None}
    listed = ", ".join(
        f"{name} {address}" + (f", which the bench file gives to {theirs[address]}" if address in theirs else "")
        for name, address in seen[0].ports
    )
    raise HardwareError(
        f"board {board.name}: has no network port {board.mac} (over its {seen[0].way}: {listed or 'none'})",
        "mend `mac`, or what leads to another board: `console`, `ssh`",
    )
