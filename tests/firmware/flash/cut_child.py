"""Flashes in a child that dies as by a power cut, once per line on stdin. Not a test.

Each line is the number of progress reports after which to die; the answer is how the child ended.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from firmware_tools.flash import write
from firmware_tools.flash.disk import System
from firmware_tools.flash.job import Job, Order
from firmware_tools.state import State


def _flash(card: str, image: str, bench_file: str, block: int, after: int) -> None:
    left = after

    def show(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write.SYNC_EVERY, write.SYNC_S = 4 * block, 0.0
    name = SimpleNamespace(stable_id=card, named_by="file", size_gb=None)
    job = Job("alpha", name, 1 << 40, Order(image), State(Path(bench_file)), System(), block)
    job.run(job.plan(), show)


def main() -> None:
    card, image, bench_file, block = sys.argv[1:]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _flash(card, image, bench_file, int(block), int(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
