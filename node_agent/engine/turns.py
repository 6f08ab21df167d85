"""Turns: work done one piece at a time by whichever thread brings it, so that a lone reply costs no thread hop.

The thread that reads a host's last reply goes on with the next layer itself; waking another thread for it
would cost a futex and, in a virtual machine with sleeping cores, tens of microseconds on every layer. A reader
does at most one piece a visit: what is left goes to the turns' own thread, so that no connection is kept from
being read by the work of others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Event = Callable[[], None]
WATCH_S = 0.02
"""How often the own thread looks at deadlines while something is under way."""


_QUIET_LOOKS = 50


class Turns:
    """Serialises events and work; none of the four callables is ever called by two threads at once.

    Args:
        ready: is there work?
        work: does one piece of it.
        watch: looks at deadlines; False when nothing is under way.
    """

    def __init__(self, ready: Callable[[], bool], work: Callable[[], None], watch: Callable[[], bool]) -> None:
        self._ready = ready
        self._work = work
        self._watch = watch
        self._events: deque[Event] = deque()
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._quiet = _QUIET_LOOKS

    @property
    def waiting(self) -> int:
        """Events nobody has looked at yet."""
        return len(self._events)

    def post(self, event: Event) -> None:
        """Run `event`, now in this thread or a moment later in the one whose turn it is."""
        self._events.append(event)
        self._take(pieces=1)

    def serve(self, stopping: Callable[[], bool]) -> None:
        """The own thread: deadlines, and work that readers left."""
        while not stopping():
            self._wake.wait(WATCH_S if self._quiet < _QUIET_LOOKS else 0.25)
            self._wake.clear()
            self._events.append(self._look)
            self._take(pieces=-1)

    def _look(self) -> None:
        self._quiet = 0 if self._watch() else self._quiet + 1

    def _take(self, pieces: int) -> None:
        """Events first, then at most `pieces` of work (-1: all there is).

        An event posted while another thread has the turn is seen by that thread: it looks again after letting
        go, and the poster has appended before it found the turn taken.
        """
        while self._events:
            if not self._turn.acquire(blocking=False):
                return
            try:
                left = self._serve_turn(pieces)
                if left or self._quiet >= _QUIET_LOOKS:
                    self._quiet = 0
                    self._wake.set()
                if left:
                    return
            except OSError as error:  # a reader thread takes OSError for the end of its connection
                raise RuntimeError(f"the gateway failed: {error}") from error
            finally:
                self._turn.release()

    def _serve_turn(self, pieces: int) -> bool:
        """True if work is left for somebody else."""
        while True:
            while self._events:
                self._events.popleft()()
            if not self._ready():
                return False
            if pieces == 0:
                return True
            self._work()
            pieces -= 1
