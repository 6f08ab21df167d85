"""The one place that starts threads and the one that joins them. A thread that dies takes the process down."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable

from hil_config.errors import EXIT_UNEXPECTED, HilError


def end_process(name: str, error: BaseException) -> None:
    """Of a thread that died of `error`: report the cause, then end."""
    traceback.print_exception(error)
    print(f"hil-agent: thread {name} died: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, HilError) else EXIT_UNEXPECTED)


class Crew:
    """Named threads of one process.

    A worker that raises ends the process with its cause on stderr: a node that lost a thread must not look
    alive. `stopping` is set when the crew is being dismissed.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in its own thread."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive() or t.ident is None]
            self._threads.append(thread)
        thread.start()

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if not self.stopping.is_set():
                end_process(name, error)

    def dismiss(self, timeout_s: float = 5.0) -> None:
        """Tell everyone to stop and wait for them."""
        self.stopping.set()
        with self._lock:
            threads = [t for t in self._threads if t is not threading.current_thread()]
        for thread in threads:
            thread.join(timeout_s)
