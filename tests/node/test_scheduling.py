"""Pools of onnxruntime inherit a policy under which they do not push aside the thread that waits for them."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from node_agent.scheduling import workers_wait

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="scheduling policies are Linux's")


def _policy_of(started: list[int]) -> threading.Thread:
    thread = threading.Thread(target=lambda: started.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return thread


def test_threads_started_meanwhile_are_batch_threads_and_the_starter_is_as_before() -> None:
    before, found = os.sched_getscheduler(0), list[int]()
    with workers_wait():
        _policy_of(found)
    _policy_of(found)
    assert found == [os.SCHED_BATCH, before]
    assert os.sched_getscheduler(0) == before


def test_an_error_meanwhile_changes_nothing_of_that() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(RuntimeError), workers_wait():
        raise RuntimeError
    assert os.sched_getscheduler(0) == before


def test_a_batch_thread_stays_one() -> None:
    found: list[int] = []

    def work() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with workers_wait():
            pass
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [os.SCHED_BATCH]
