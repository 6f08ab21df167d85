"""Who keeps a board's time, and that it asks the bench's own server.

chrony if the board has it, else systemd-timesyncd; a board with neither is set by `hil provision` alone (see
`board_clock.py`). A board without a battery-backed clock starts at any time: chrony may step in its first three
updates, and the agent is started again until its certificate has begun.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from firmware_tools.provision.board_shell import BoardShell
from hil_config.errors import UsageError

CHRONY = "/etc/chrony/conf.d/hil.conf"
TIMESYNCD = "/etc/systemd/timesyncd.conf.d/hil.conf"
_PATHS = {"chrony": CHRONY, "timesyncd": TIMESYNCD}


class BoardTime(msgspec.Struct, frozen=True):
    """`keeper`: chrony, timesyncd or none. `set_up`: yes, no, or `not asked` where the bench names no server."""

    keeper: str
    set_up: str

    def __str__(self) -> str:
        if self.keeper == "none":
            return "nobody keeps its time: install chrony, or provision it again after each start"
        words = {"yes": "asks the bench", "no": "does not ask the bench", "not asked": "no server named"}
        return f"{self.keeper} {words[self.set_up]}"


def keeper_file(keeper: str, server: str) -> bytes:
    """What the keeper is told.

    Raises:
        UsageError: `server` is not a name or address.
    """
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", server):
        raise UsageError(f"time server {server!r} is not a name or address", "such as --ntp 192.168.50.1")
    if keeper == "timesyncd":
        return f"[Time]\nNTP={server}\n".encode()
    lines = ("# Written by hil provision: the bench's computer keeps the time.",
             f"server {server} iburst minpoll 4 maxpoll 6 prefer", "makestep 1 3")  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


def read_time(shell: BoardShell, server: str, timeout_s: float) -> BoardTime:
    """Read only. Args: `server`, the bench's; empty where the board is to be left alone."""
    out = shell.must(
        "if command -v chronyd >/dev/null && grep -qs '^confdir /etc/chrony/conf.d' /etc/chrony/chrony.conf; "
        f"then echo keeper=chrony; sha256sum {CHRONY} 2>/dev/null; "
        "elif [ -x /lib/systemd/systemd-timesyncd ] || [ -x /usr/lib/systemd/systemd-timesyncd ]; "
        f"then echo keeper=timesyncd; sha256sum {TIMESYNCD} 2>/dev/null; else echo keeper=none; fi; echo",
        "looking at who keeps its time", timeout_s,
    )  # fmt: skip
    found = re.search(r"keeper=(\w+)", out)
    keeper = found[1] if found else "none"
    if keeper == "none" or not server:
        return BoardTime(keeper, "not asked")
    digest = re.search(r"\b[0-9a-f]{64}\b", out)
    same = digest is not None and digest[0] == hashlib.sha256(keeper_file(keeper, server)).hexdigest()
    return BoardTime(keeper, "yes" if same else "no")


def set_up_time(shell: BoardShell, keeper: str, server: str, timeout_s: float) -> str:
    """Name the server to the keeper and start it again; one sentence on what was done."""
    path = _PATHS[keeper]
    shell.must(f"umask 022; mkdir -p {path.rpartition('/')[0]}", "making room for its time server", timeout_s)
    shell.put(path, keeper_file(keeper, server), "644")
    unit = "chrony" if keeper == "chrony" else "systemd-timesyncd"
    shell.must(
        f"[ ! -d /run/systemd/system ] || systemctl restart {unit} || systemctl restart {unit}d",
        f"starting {keeper} again", timeout_s,
    )  # fmt: skip
    return f"{keeper} asks {server}"
