"""A relay on a GPIO line, through libgpiod's tools (gpioset, gpioget). `at` is the chip, `channel` the line.

gpioset lets go of the line when it ends, and what a released line does is up to the chip; `--daemonize` (libgpiod 2)
keeps it. The previous holder is ended first, by the process id that was noted.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from firmware_tools.power.command import run
from firmware_tools.power.spec import Switch

END_S = 5.0


def _note(spec: Switch) -> Path:
    chip = spec.at.strip("/").replace("/", "-")
    return Path(tempfile.gettempdir()) / f"hil-gpio-{os.getuid()}-{chip}-{spec.channel}"


def switch(spec: Switch, on: bool) -> None:
    note = _note(spec)
    _end_holder(note, spec)
    level = "inactive" if on == spec.active_low else "active"
    run(spec.board, ("gpioset", "--daemonize", "--chip", spec.at, f"{spec.channel}={level}"))
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, spec):
            note.write_text(process.name)
    (note.parent / f"{note.name}.level").write_text("on" if on else "off")


def status(spec: Switch) -> bool | None:
    """What was last set by us: reading the line would take it from whoever holds it."""
    level = _note(spec).parent / f"{_note(spec).name}.level"
    return level.read_text() == "on" if level.exists() else None


def _end_holder(note: Path, spec: Switch) -> None:
    try:
        number = int(note.read_text())
        holder, pause, deadline = Path("/proc") / str(number), threading.Event(), time.monotonic() + END_S
        if _holds(holder, spec):
            os.kill(number, signal.SIGTERM)
        while _holds(holder, spec) and time.monotonic() < deadline:
            pause.wait(0.01)  # the line is busy until it has ended
        note.unlink()
    except (OSError, ValueError):
        return


def _holds(process: Path, spec: Switch) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (
        words[0].endswith(b"gpioset")
        and spec.at.encode() in words
        and any(word.startswith(f"{spec.channel}=".encode()) for word in words)
    )
