"""How threads ask for the processor, where the system has such a thing (Linux; needs no privilege)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def workers_wait() -> Iterator[None]:
    """Threads that are started meanwhile inherit batch scheduling; this thread has its own back afterwards.

    For onnxruntime's pools. A worker that is woken on the core of the thread that waits for it would otherwise take its
    place and spin there, for a slice of the scheduler's time, for work that only the other could give.
    """
    before = os.sched_getscheduler(0) if hasattr(os, "SCHED_BATCH") else -1
    if before >= 0:
        with contextlib.suppress(PermissionError):  # a sandbox may forbid the call
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if before >= 0:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, before, os.sched_getparam(0))
