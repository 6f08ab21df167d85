"""Tell a broker of this machine that the revocation list or its own certificate has changed: Mosquitto reads both again
at SIGHUP.

Seen with Mosquitto 2.0.11: from then on it refuses a revoked certificate; a connection that is open stays.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path


def reload_brokers(revocations: Path) -> tuple[int, ...]:
    """Process ids of the Mosquittos that were told: those whose configuration names this very list."""
    line = f"crlfile {revocations.absolute()}"
    told = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            if Path(words[0]).name != "mosquitto" or "-c" not in words:
                continue
            config = process / "cwd" / words[words.index("-c") + 1]
            if line in config.read_text().splitlines():
                os.kill(int(process.name), signal.SIGHUP)
                told.append(int(process.name))
        except (OSError, ValueError, IndexError):
            continue  # it has ended, or is another user's
    return tuple(sorted(told))
