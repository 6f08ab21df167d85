"""Become another program that is told to end when its parent does: `python -m ground_controller.fleet.tether`.

A controller that is killed outright cannot end what it started, so the kernel does it (prctl(2), PR_SET_PDEATHSIG,
Linux). The signal must be asked for in the child; doing it there before `exec` from a threaded parent
(`preexec_fn`) can deadlock, so the child starts as this module and then becomes the program, keeping its process id.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tethered(command: list[str]) -> list[str]:
    """The command line that runs `command` as a child of this process, ended by SIGTERM when this process ends."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *command]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that asked for this one has ended already")  # before the kernel was told to watch it
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
