"""Threads that hand frames over on time, as far as the system lets them.

Linux lets a thread's timers be late by its slack, 50 us unless told otherwise. On a busy board a thread also waits for
the processor; where the service may (`LimitRTPRIO=1`), link threads run under the real-time round robin policy at its
lowest priority: they only move bytes and wait. Computing threads stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_TIMERSLACK = 29


def hurry_thread(slack_ns: int = 1000) -> bool:
    """Tighten the calling thread's timers and raise its priority; True if it got the real-time policy."""
    if not sys.platform.startswith("linux"):
        return False
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return False  # not allowed here: the timers are tight all the same
    return True
