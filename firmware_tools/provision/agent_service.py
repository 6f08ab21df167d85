"""The agent's systemd units on a board: as the agent that runs there brings them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import msgspec

from firmware_tools.provision.agent_slots import HOME, PYTHON, UNIT
from firmware_tools.provision.board_shell import BoardShell, Stuck
from hil_config.errors import EnvironmentFault, HardwareError

# By what the agent's own processes wrote: -u would bring systemd's words about them as well.
_SAID = f"journalctl -b _SYSTEMD_UNIT={UNIT} -n 60 -o cat --no-pager | grep . || tail -n 60 /var/log/hil-agent.log"
_INSTALL = f"cd / && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={HOME}/current {PYTHON} -m node_agent.cli install"


class BoardService(msgspec.Struct, frozen=True):
    """`differs`: files that are missing or other than the agent's own. `active`: as systemd says.

    `kind`: systemd; other, a board that starts its agent in another way; none, its agent is too old to bring units.
    """

    kind: str
    differs: tuple[str, ...] = ()
    active: str = ""

    @property
    def to_mend(self) -> bool:
        return bool(self.differs)

    @property
    def to_start(self) -> bool:
        """It runs by other units, or not at all though its board is in service."""
        return self.to_mend or self.active in ("inactive", "failed")

    def __str__(self) -> str:
        if self.kind == "other":
            return "not by systemd"
        if self.kind == "none":
            return "its agent brings no units: upgrade it"
        return (f"differs in {self.short}" if self.differs else "as it should be") + f", {self.active}"

    @property
    def short(self) -> str:
        """What differs, by name alone."""
        return ", ".join(dict.fromkeys(one.rpartition("/")[2] for one in self.differs))


def read_service(shell: BoardShell, jetson: bool, timeout_s: float) -> BoardService:
    """Read only."""
    out = shell.must(
        f"[ -d /run/systemd/system ] && echo systemd; [ -f {HOME}/current/node_agent/install.py ] && echo brings; "
        f"systemctl is-active {UNIT} 2>/dev/null; echo",
        "looking at its service", timeout_s,
    )  # fmt: skip
    words = out.split()
    if "systemd" not in words:
        return BoardService("other")
    active = next((word for word in words if word in ("active", "activating", "inactive", "failed")), "unknown")
    if "brings" not in words:
        return BoardService("none", (), active)
    differs = _differed(shell, f"--check{_jetson(jetson)}", "comparing its units", timeout_s)
    return BoardService("systemd", differs, active)


def mend_service(shell: BoardShell, jetson: bool, timeout_s: float) -> None:
    """Write what differs and let systemd know; the agent that runs goes on as it was until it is started again."""
    _differed(shell, _jetson(jetson).strip(), "writing its units", timeout_s)
    shell.must(f"systemctl start {UNIT.replace('.service', '.path')}", "watching for its certificate", timeout_s)


def renew_units(shell: BoardShell, jetson: bool, timeout_s: float, tell: Callable[[str], None]) -> None:
    """After another version of the agent has joined: its own units, in force from its next start.

    The version is there either way: what goes wrong here is told, and mended by the next `hil provision`.
    """
    try:
        found = read_service(shell, jetson, timeout_s)
        if found.to_mend:
            mend_service(shell, jetson, timeout_s)
            tell(f"units of this agent written, in force from its next start: {found.short}")
    except HardwareError as error:
        tell(f"the agent is there, its units are not written: {error.message}; hil provision {shell.board}")


def _jetson(jetson: bool) -> str:
    return " --jetson" if jetson else ""


def _differed(shell: BoardShell, words: str, doing: str, timeout_s: float) -> tuple[str, ...]:
    # A check that finds something ends with a fault's code. Earlier agents ended it with 0.
    differs = EnvironmentFault.exit_code if "--check" in words else 0
    out = shell.must(f"{_INSTALL} {words}", doing, timeout_s, also=differs)
    found = re.search(r'\{"differed": .*\}', out)
    try:
        return tuple(json.loads(found[0])["differed"]) if found else _unread(shell, doing, out)
    except ValueError:
        return _unread(shell, doing, out)


def _unread(shell: BoardShell, doing: str, out: str) -> tuple[str, ...]:
    raise Stuck(f"board {shell.board}: {doing}: its answer cannot be read: {out[-80:]!r}", "run the command again")


def last_words(shell: BoardShell, timeout_s: float) -> str:
    """What the agent said last, its error if it ended with one, for a message that it did not come; "" if it cannot be
    had. An error after which it went on is none of now."""
    try:
        _, out = shell.run(f"{{ {_SAID}; }} 2>/dev/null", timeout_s)
    except HardwareError:
        return ""
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    while lines and lines[-1].startswith("hint: "):
        lines.pop()
    if not lines or not lines[-1].startswith("error: "):
        return f"; its agent said last: {lines[-1]}" if lines else ""
    unexpected = lines[-1].startswith("error: unexpected") and len(lines) > 1
    return f"; its agent said: {lines[-2] if unexpected else lines[-1].removeprefix('error: ')}"
