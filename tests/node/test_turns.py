"""Turns: no event is lost, none run at the same time, whoever brings them."""

from __future__ import annotations

import threading

from node_agent.engine.turns import Turns


class Ledger:
    """Events put work on a pile; work takes it off. Both fail if they ever overlap."""

    def __init__(self) -> None:
        self.pile = 0
        self.done = 0
        self.inside = threading.Lock()
        self.changed = threading.Condition()
        self.turns = Turns(lambda: self.pile > 0, self.work, lambda: self.pile > 0)

    def event(self) -> None:
        assert self.inside.acquire(blocking=False), "two at once"
        self.pile += 1
        self.inside.release()

    def work(self) -> None:
        assert self.inside.acquire(blocking=False), "two at once"
        self.pile -= 1
        self.inside.release()
        with self.changed:
            self.done += 1
            self.changed.notify_all()


def test_a_lone_event_is_worked_off_in_the_thread_that_brings_it() -> None:
    ledger = Ledger()
    ledger.turns.post(ledger.event)
    assert (ledger.done, ledger.pile) == (1, 0)


def test_what_a_visitor_leaves_is_done_by_the_own_thread() -> None:
    ledger = Ledger()
    stop = threading.Event()
    own = threading.Thread(target=ledger.turns.serve, args=(stop.is_set,))
    own.start()
    try:

        def many() -> None:
            ledger.pile += 50

        ledger.turns.post(many)
        with ledger.changed:
            assert ledger.changed.wait_for(lambda: ledger.done == 50, 10.0)
    finally:
        stop.set()
        own.join(5.0)


def test_no_event_is_lost_between_eight_threads() -> None:
    ledger = Ledger()
    stop = threading.Event()
    own = threading.Thread(target=ledger.turns.serve, args=(stop.is_set,))

    def post_many() -> None:
        for _ in range(2_000):
            ledger.turns.post(ledger.event)

    posters = [threading.Thread(target=post_many) for _ in range(8)]
    for thread in (own, *posters):
        thread.start()
    for thread in posters:
        thread.join(30.0)
    try:
        with ledger.changed:
            assert ledger.changed.wait_for(lambda: ledger.done == 16_000, 10.0)
        assert ledger.turns.waiting == 0
    finally:
        stop.set()
        own.join(5.0)
