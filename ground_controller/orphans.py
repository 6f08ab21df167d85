"""Worker processes end with the command that began them, however that ended.

A worker of `concurrent.futures` waits for its next task at a queue whose other end it holds itself: where its parent is
killed (SIGKILL, SIGTERM, want of memory) it never hears of it, and would stay, with its model in memory, for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

ORPHANED = 1
"""Exit code of a worker whose parent is gone; nobody reads it."""


def end_with_parent() -> None:
    """Initializer of a pool: watches the parent from a thread of the worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it is a worker that calls
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True, name="parent").start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(ORPHANED)  # the main thread may compute for minutes yet, for nobody
