"""A root shell on a board's console, from whatever state the line is in.

Traps this is built around (each seen on real consoles): a prompt that was printed before we listened never comes
again, so a carriage return asks for it; shells send escape sequences after their prompt, so no pattern is anchored
and escapes are taken out; the echo of a command contains whatever the command prints, so markers are split by quotes;
kernel messages land in the middle of lines; "login:" appears long before the first boot has set the password.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import pexpect
from pexpect import fdpexpect

from firmware_tools.provision.baud import garbled, readable
from firmware_tools.provision.board_shell import BoardShell, Stuck, Unreadable, checked_move, quoted

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][0-9A-B])")
_STATES: tuple[tuple[str, str], ...] = (
    ("panic", r"Kernel panic - not syncing[^\r\n]*"),
    ("wrong", r"Login incorrect"),
    ("login", r"login: "),
    ("password", r"[Pp]assword: "),
    ("loader", r"(?:=> |U-Boot> |grub> |Shell> )"),
    ("wizard", r"(?:oem-config|Configuring tzdata|Please enter the new system locale|License For Customer Use)"),
    ("emergency", r"(?:Give root password for maintenance|Press Enter for maintenance)"),
    ("shell", r"[#$] (?:\x1b\[[0-9;?]*[a-zA-Z])*"),
)
WRONG_LIMIT = 4
NUDGE_S = 2.0
QUIET_S = 0.25
CHUNK = 512
RAW = 1024
GARBLED_S = 5.0
"""So long garbage may be the noise of a board that is switched on."""


if TYPE_CHECKING:
    _Spawn = fdpexpect.fdspawn[bytes]  # generic in its stubs only
else:
    _Spawn = fdpexpect.fdspawn


class Console(_Spawn):
    """pexpect over the console's socket, escape sequences taken out of what is read."""

    _held = b""
    raw = b""
    """The last part of what came."""

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        try:
            came: bytes = super().read_nonblocking(size, timeout)
        except OSError as error:
            raise pexpect.EOF(str(error)) from error
        self.raw = (self.raw + came)[-RAW:]
        data = self._held + came
        begun = data.rfind(b"\x1b", -16)  # one that is not complete waits for its rest
        self._held = data[begun:] if begun >= 0 and not _ESCAPES.match(data[begun:]) else b""
        return _ESCAPES.sub(b"", data[:begun] if self._held else data)

    @property
    def seen(self) -> str:
        """What came before the last match."""
        return self.before.decode(errors="replace") if isinstance(self.before, bytes) else ""

    @property
    def matched(self) -> str:
        """The last match."""
        return self.after.decode(errors="replace") if isinstance(self.after, bytes) else ""


class Shell(BoardShell):
    """Args: `sock`, a connection to the console; `password` is never shown in an error.

    Use `reach`, then `run` and `put`.
    """

    def __init__(self, board: str, sock: socket.socket | int, user: str, password: str) -> None:
        super().__init__(board)
        self._user, self._password = user, password
        self._console = Console(sock, timeout=5)
        self._console.delaybeforesend = None
        self._sudo = ""
        self._refused = 0
        self._inside = False

    def _say(self, data: bytes) -> None:
        try:
            self._console.send(data)
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> Stuck:
        return Stuck(f"board {self.board}: the process that reads its console has ended", f"hil console {self.board}")

    def reach(self, timeout_s: float) -> None:
        """Log in, from any state.

        Raises:
            Stuck: with the state it hung in, after `timeout_s` seconds or when more waiting is of no use.
        """
        begun_s = time.monotonic()
        deadline = begun_s + timeout_s
        refused, last, pause = 0, "silence", threading.Event()
        patterns = [pattern for _, pattern in _STATES]
        self._say(b"\r")
        while time.monotonic() < deadline:
            index = self._console.expect([*patterns, pexpect.TIMEOUT, pexpect.EOF], timeout=NUDGE_S)
            if index >= len(patterns):
                if index > len(patterns):
                    raise self._gone()
                if last == "silence" and time.monotonic() - begun_s > GARBLED_S and garbled(self._console.raw):
                    break
                self._say(b"\r")
                continue
            last, said = self._latest(_STATES[index][0])
            if self._refused >= WRONG_LIMIT:
                raise Stuck(
                    f"board {self.board}: {self._user!r} was refused {self._refused} times",
                    "mend user and password_file",
                )
            if self._refused > refused:
                refused = self._refused
                pause.wait(1.0)  # the first boot may not have set the password yet
            if last == "panic":
                raise Stuck(f"board {self.board}: {said}", f"hil power {self.board} cycle; then flash it again")
            if last == "shell":
                if self._settle():
                    self._inside = True
                    return
            elif last == "login":
                self._say(self._user.encode() + b"\r")
            elif last == "password":
                self._say(self._password.encode() + b"\r")
            elif last == "loader":
                self._say(b"boot\r")
            elif last == "wizard":
                raise Stuck(
                    f"board {self.board}: waits in its first-boot wizard",
                    f"prepare its card so that it does not ask: hil firstboot {self.board}",
                )
            elif last == "emergency":
                raise Stuck(f"board {self.board}: is in emergency mode: its file system is damaged", "flash it again")
        kind = Unreadable if last == "silence" and not readable(self._console.raw) else Stuck
        took_s = time.monotonic() - begun_s
        raise kind(f"board {self.board}: no shell after {took_s:.0f} s, it stood at {last}{self._tail()}",
                   f"hil console {self.board}")  # fmt: skip

    def _latest(self, state: str) -> tuple[str, str]:
        """(state, what shows it) once the line is quiet: answering each of two prompts would answer one too many."""
        said = self._console.matched
        heard, at, deadline = self._console.buffer, -1, time.monotonic() + 1.0
        self._console.buffer = b""
        try:
            while time.monotonic() < deadline:
                heard += self._console.read_nonblocking(4096, QUIET_S)
        except (pexpect.TIMEOUT, pexpect.EOF):
            pass  # quiet
        rest = heard.decode(errors="replace")
        self._refused += (said + rest).count("Login incorrect")
        self._console.buffer = b""
        for name, pattern in _STATES:
            for match in re.finditer(pattern, rest):
                if state != "panic" and match.start() > at:
                    state, said, at = name, match[0], match.start()
        return state, said

    def _settle(self) -> bool:
        """Whether this is a shell that does what it is told; no echo and no prompt afterwards."""
        mark = secrets.token_hex(6)
        self._say(f"stty -echo 2>/dev/null; PS1=''; PS2=''; echo {mark[:6]}''{mark[6:]}\r".encode())
        index = self._console.expect([mark, pexpect.TIMEOUT, pexpect.EOF], timeout=NUDGE_S)
        if index == 2:
            raise self._gone()
        if index == 1:
            return False
        code, out = self._run("id -u", 10.0)
        if code == 0 and out.strip().splitlines()[-1:] != ["0"]:
            self._sudo = "sudo -n "
        return code == 0

    def _tail(self) -> str:
        lines = [line for line in self._console.seen.split("\n") if line.strip()]
        return (
            f"; it last said {lines[-1].strip()[-80:]!r}"
            if lines
            else "; it says nothing: wrong baud rate or no cable?"
        )

    def run(self, command: str, timeout_s: float = 30.0) -> tuple[int, str]:
        """(exit code, output) of a command as root. What the kernel says meanwhile is in the output too.

        Raises:
            Stuck: it did not end in time.
        """
        word = command if not self._sudo else f"{self._sudo}sh -c {quoted(command)}"
        return self._run(word, timeout_s)

    def _run(self, command: str, timeout_s: float) -> tuple[int, str]:
        mark = secrets.token_hex(6)
        begin, end = f"<{mark[:6]}''{mark[6:]}", f">{mark[:6]}''{mark[6:]}"
        # sudo with a terminal of its own (use_pty, as distributions set it) swallows a line that waits behind it.
        then = "; " if self._sudo else "\n"
        self._say(f"echo '{begin[0]}'{begin[1:]}; {command}{then}echo '{end[0]}'{end[1:]}:$?\r".encode())
        try:
            self._console.expect_exact(f"<{mark}", timeout=timeout_s)
            found = self._console.expect(
                [rf">{mark}:(\d+)", "Kernel panic - not syncing[^\r\n]*", pexpect.TIMEOUT], timeout=timeout_s
            )
        except pexpect.EOF as error:
            raise self._gone() from error
        except pexpect.TIMEOUT as error:
            raise Stuck(f"board {self.board}: no answer to {command[:60]!r} within {timeout_s:.0f} s{self._tail()}",
                        f"hil console {self.board}") from error  # fmt: skip
        if found == 1:
            said = self._console.matched
            raise Stuck(f"board {self.board}: {said} during {command[:60]!r}", f"hil power {self.board} cycle")
        if found == 2:
            raise Stuck(f"board {self.board}: {command[:60]!r} did not end within {timeout_s:.0f} s{self._tail()}",
                        f"hil console {self.board}")  # fmt: skip
        output = self._console.seen.replace("\r", "").strip("\n")
        return int(self._console.matched.rpartition(":")[2]), output

    def put(self, path: str, data: bytes, mode: str = "600") -> None:
        """Write a file, checked on the board before it gets its name."""
        text = base64.b64encode(data).decode()
        new = f"{path}.new"
        self.must(f"umask 077; : > {new}.b64", f"writing {path}")
        for at in range(0, len(text), CHUNK):
            self.must(f"printf %s {text[at : at + CHUNK]} >> {new}.b64", f"writing {path}")
        digest = hashlib.sha256(data).hexdigest()
        self.must(
            f"base64 -d < {new}.b64 > {new} && rm {new}.b64 && {checked_move(path, digest, mode)}",
            f"checking {path}",
        )

    def close(self) -> None:
        """Leave the line as it was: logged out."""
        if not self._inside:
            return
        try:
            self._say(b"exit\r")
        except Stuck:
            pass  # nobody is there to leave
