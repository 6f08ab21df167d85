"""A serial line to a container's console: runs a command on one pseudo-terminal, and offers another as the line's end.

Usage: console_line.py PORT LOG COMMAND...; PORT becomes a link to the terminal that `hil console` opens. It ends as the
command does. Not a test.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tty
from pathlib import Path


def _read(source: int) -> bytes:
    try:
        return os.read(source, 1 << 16)
    except OSError:  # nobody is at the other end
        return b""


def main() -> int:
    port, log, *words = sys.argv[1:]
    inner, console = pty.openpty()
    outer, line = pty.openpty()
    tty.setraw(line)
    os.set_blocking(outer, False)  # what nobody reads is lost, as on a line
    Path(port).unlink(missing_ok=True)
    Path(port).symlink_to(os.ttyname(line))
    command = subprocess.Popen(words, stdin=console, stdout=console, stderr=console, start_new_session=True)
    os.close(console)
    with open(log, "ab", buffering=0) as record:
        while command.poll() is None:
            for source in select.select([inner, outer], [], [], 0.2)[0]:
                data = _read(source)
                if source == outer:
                    os.write(inner, data)
                    continue
                record.write(data)
                try:
                    os.write(outer, data)
                except BlockingIOError:
                    pass
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
