"""One piece of work on several boards at once, and Ctrl-C in the middle of it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from firmware_tools.fleet import on_all


def test_who_stops_is_told_what_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    both, stopping = threading.Barrier(2), threading.Event()

    def work(board: str) -> None:
        if both.wait(20) == 0:
            os.kill(os.getpid(), signal.SIGINT)
        assert stopping.wait(20)

    with pytest.raises(KeyboardInterrupt):
        on_all(("bravo", "alpha"), work, stop=stopping.set)
    assert "stopping: what was begun on alpha, bravo ends at its next step" in capsys.readouterr().err
