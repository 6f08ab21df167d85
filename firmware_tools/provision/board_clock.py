"""A board's clock: how far it is from ours, who keeps it, and setting it where nobody does.

The offset is taken as in NTP (RFC 5905, section 8) from one exchange: the board's time less the middle of ours before
and after, known to half the exchange, and to another half second where the board's `date` has whole seconds only.
"""

from __future__ import annotations

import re
import time

import msgspec

from firmware_tools.provision.board_shell import BoardShell
from hil_config.errors import HardwareError

WRONG_S = 30.0
"""Certificates and telemetry bear less than this; chrony and the agent's own clock exchange do the rest."""


class BoardClock(msgspec.Struct, frozen=True):
    """Measured over the shell: board less ground, `within_s` either way. `keeper`: chrony, timesyncd or none.

    `keeper_says_s` is chrony's own estimate of what is left to correct; None without one that is synchronised.
    """

    offset_s: float
    within_s: float
    keeper: str
    synchronised: bool
    keeper_says_s: float | None

    @property
    def wrong(self) -> bool:
        """By more than `WRONG_S`, whatever the exchange leaves open."""
        return abs(self.offset_s) - self.within_s > WRONG_S

    def __str__(self) -> str:
        kept = self.keeper + ("" if self.synchronised or self.keeper == "none" else ", not synchronised")
        says = "" if self.keeper_says_s is None else f" says {self.keeper_says_s:+.6f} s"
        return f"{self.offset_s:+.1f} s (within {self.within_s:.1f} s), kept by {kept}{says}"


def read_clock(shell: BoardShell, timeout_s: float) -> BoardClock:
    """Read only.

    Raises:
        HardwareError: the board does not tell its time.
    """
    before_s = time.time()
    out = shell.must("date +%s.%N", "reading its clock", timeout_s)
    after_s = time.time()
    found = re.search(r"^(\d+)\.(\d{9})?", out, re.MULTILINE)
    if found is None:
        raise HardwareError(f"board {shell.board}: tells no time: {out[-80:]!r}", f"hil console {shell.board}")
    here_s = float(f"{found[1]}.{found[2]}") if found[2] else float(found[1]) + 0.5
    within_s = (after_s - before_s) / 2 + (0.0 if found[2] else 0.5)
    keeper, synchronised, says_s = _keeper(shell, timeout_s)
    return BoardClock(round(here_s - (before_s + after_s) / 2, 3), round(within_s, 3), keeper, synchronised, says_s)


def _keeper(shell: BoardShell, timeout_s: float) -> tuple[str, bool, float | None]:
    """`chronyc -c tracking`: column 5 is the system clock's error, column 14 whether it is synchronised."""
    code, out = shell.run("chronyc -c tracking 2>/dev/null", timeout_s)
    for line in out.splitlines() if code == 0 else ():
        fields = line.strip().split(",")
        if len(fields) == 14:
            synchronised = fields[13] != "Not synchronised"
            return "chrony", synchronised, float(fields[4]) if synchronised else None
    code, out = shell.run("timedatectl show -p NTP -p NTPSynchronized 2>/dev/null", timeout_s)
    if code == 0 and "NTP=yes" in out:
        return "timesyncd", "NTPSynchronized=yes" in out, None
    return "none", False, None


def set_clock(shell: BoardShell, clock: BoardClock, timeout_s: float) -> BoardClock:
    """Let a synchronised chrony step it, else write our time; returns how it stands then.

    Raises:
        HardwareError: it is still wrong.
    """
    if clock.keeper == "chrony" and clock.synchronised:
        shell.must("chronyc makestep", "stepping its clock", timeout_s)
    else:
        shell.must(f"date -u -s @{int(time.time())}", "setting its clock", timeout_s)
    after = read_clock(shell, timeout_s)
    if after.wrong:
        raise HardwareError(
            f"board {shell.board}: its clock was set and still stands at {after}", "see what else sets it on the board"
        )
    return after
