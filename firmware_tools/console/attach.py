"""Attach to a board's console; its owning process is started if there is none."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from firmware_tools.state import State
from hil_config.errors import HardwareError

START_S = 10.0
VERDICT_S = 8.0
"""So long the opening of a line may take: a network's answer, at most."""


def socket_path(board: str, state: State) -> Path:
    """Short, since a Unix socket's path may have no more than 107 bytes."""
    name = hashlib.sha256(f"{state.folder}/{board}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hil-{os.getuid()}-{name}.console"


def log_path(board: str, state: State) -> Path:
    """Everything the console has said, a time before every line."""
    return state.path("consoles", board, ".log")


def open_console(board: str, url: str, baud: int, state: State) -> socket.socket:
    """A connection to the console: what it said last comes first, then what it says. An owner of another line, as the
    bench file named it once, is ended before.

    Raises:
        HardwareError: the owning process does not start.
    """
    with open(state.path("consoles", board, ".lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        owner = _owner(board, state)
        if owner is not None and url not in owner[1]:
            close_console(board, state)
        found = _connected(socket_path(board, state))
        return found or _started(board, url, baud, state)


def line_trouble(board: str, state: State) -> str:
    """Why the line of a console that was attached to is not open now; empty if it is."""
    note, pause = state.path("consoles", board, ".trouble"), threading.Event()
    deadline = time.monotonic() + VERDICT_S
    while time.monotonic() < deadline:
        try:
            return note.read_text(encoding="utf-8")
        except FileNotFoundError:
            pause.wait(0.02)
        except OSError as error:
            return f"{note}: {error.strerror}"
    return "it is still being opened"


def close_console(board: str, state: State) -> None:
    """End the owning process, if there is one."""
    note, owner = state.path("consoles", board, ".pid"), _owner(board, state)
    try:
        if owner is not None:
            number = owner[0]
            os.kill(number, signal.SIGTERM)
            deadline = time.monotonic() + START_S
            pause = threading.Event()
            while not _ended(number) and time.monotonic() < deadline:
                pause.wait(0.02)
            if not _ended(number):
                os.kill(number, signal.SIGKILL)
        note.unlink()
    except (OSError, ValueError):
        return


def _owner(board: str, state: State) -> tuple[int, tuple[str, ...]] | None:
    """Process id and command line of the owning process, if there is one."""
    try:
        number = int(state.path("consoles", board, ".pid").read_text())
        words = tuple(Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0"))
    except (OSError, ValueError):
        return None
    return (number, words) if str(socket_path(board, state)) in words else None


def _ended(number: int) -> bool:
    try:
        return os.waitpid(number, os.WNOHANG)[0] == number
    except ChildProcessError:  # another command had started it
        return not Path(f"/proc/{number}").exists()


def _connected(path: Path) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
        return sock
    except OSError:
        sock.close()
        return None


def _started(board: str, url: str, baud: int, state: State) -> socket.socket:
    path, trouble = socket_path(board, state), state.path("consoles", board, ".err")
    note = state.path("consoles", board, ".trouble")
    note.unlink(missing_ok=True)
    words = ["--url", url, "--baud", str(baud), "--socket", str(path), "--log", str(log_path(board, state)),
             "--note", str(note)]  # fmt: skip
    with open(trouble, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "firmware_tools.console.owner", *words],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    state.path("consoles", board, ".pid").write_text(str(process.pid))
    pause = threading.Event()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        found = _connected(path)
        if found is not None:
            process.returncode = 0  # it stays; `close_console` ends it
            return found
        pause.wait(0.02)
    said = trouble.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    raise HardwareError(f"board {board}: console {url} has no owner: {said[0]}", f"see {trouble}")
