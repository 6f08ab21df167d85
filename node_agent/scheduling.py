"""How threads ask for the processor, where the system has such a thing (Linux; needs no privilege)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def let_wakers_go_on() -> None:
    """Batch scheduling for this thread: whoever wakes it is not pushed aside by it.

    A send over the loopback wakes its reader on the sender's own core. As a normal thread the reader would run there at
    once and keep the sender from asking its second host; a batch thread waits until the sender has done so and sleeps.
    Measured on two cores, in turn with and without: 12 % less time a token with two hosts of large experts (medians of
    three pairs), 2 % in the demonstration's fleet, which is within what its runs differ by.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(PermissionError):  # a sandbox may forbid the call
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@contextlib.contextmanager
def workers_wait() -> Iterator[None]:
    """Threads that are started meanwhile inherit batch scheduling; this thread has its own back afterwards.

    For onnxruntime's pools. A worker that is woken on the core of the thread that waits for it would otherwise take its
    place and spin there, for a slice of the scheduler's time, for work that only the other could give.
    """
    before = os.sched_getscheduler(0) if hasattr(os, "SCHED_BATCH") else -1
    let_wakers_go_on()
    try:
        yield
    finally:
        if before >= 0:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, before, os.sched_getparam(0))
