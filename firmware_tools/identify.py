"""Prove the cabling: switch one board off and on, and see which console and which agent that is.

A bench with a mixed-up outlet measures one board and cuts another. The board that is meant must fall silent, and no
other board may; afterwards it must be heard again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from firmware_tools.console.attach import open_console
from firmware_tools.power.job import BACK_S, OFF_S, prepare_switch, watch_of
from firmware_tools.power.proof import Evidence, console_witness
from firmware_tools.power.registry import backend
from firmware_tools.reservation import check_free
from firmware_tools.state import State
from hil_config.errors import ConfigError, HardwareError

if TYPE_CHECKING:
    import socket

    from hil_config.schema.bench import Bench, Board


class Identified(msgspec.Struct, frozen=True):
    """What belongs together. `others` fell silent too: never anybody, or it is an error."""

    board: str
    switch: str
    console: str
    others_alive: tuple[str, ...]
    boot_before: str = ""
    boot_after: str = ""


def identify(board: Board, bench: Bench, state: State, tell: Callable[[str], None]) -> Identified:
    """Cycle `board` and compare.

    Raises:
        ConfigError: it has no console or no switch. HardwareError: something else fell silent, or it did not.
    """
    if board.console is None:
        raise ConfigError(f"board {board.name} has no `console`: nothing could tell", "add it to the bench file")
    switch = prepare_switch(board, bench, state)
    module = backend(switch)
    check_free(board.name, state)
    with state.busy(board.name, "hil bench identify"), ExitStack() as stack:
        consoles = {
            one.name: stack.enter_context(open_console(one.name, one.console.port, one.console.baud, state))
            for one in bench.boards
            if one.console is not None
        }
        watch = watch_of(bench, stack)
        status = watch.known(board.name) if watch is not None else None
        before = status.boot_id if status is not None and status.state != "offline" else ""
        tell("listening to every console")
        alive = {name for name, seen in _listen(consoles).items() if seen.verdict == "alive"}
        if board.name not in alive:
            raise HardwareError(
                f"board {board.name}: is silent before anything was switched", f"hil power {board.name} on; then again"
            )
        module.switch(switch, False)
        try:
            tell("switched off, listening again")
            still = {name for name, seen in _listen(consoles).items() if seen.verdict == "alive"}
        finally:
            threading.Event().wait(OFF_S)
            module.switch(switch, True)
        _judge(board.name, alive - still, board.name in still)
        _wait_heard(board.name, consoles[board.name])
        after = ""
        if watch is not None and before:
            after = watch.wait_online(board.name, BACK_S, before).boot_id
    others = tuple(sorted(alive - {board.name}))
    return Identified(board.name, f"{switch.via} {switch.at}".strip(), board.console.port, others, before, after)


def _listen(consoles: dict[str, socket.socket]) -> dict[str, Evidence]:
    return {name: console_witness(sock) for name, sock in consoles.items()}


def _judge(board: str, silent: set[str], lives: bool) -> None:
    others = sorted(silent - {board})
    if lives:
        cut = f"; {' and '.join(others)} fell silent instead" if others else ""
        raise HardwareError(
            f"board {board}: its switch does not cut it{cut}", "mend `power` or `console` in the bench file"
        )
    if others:
        raise HardwareError(
            f"board {board}: its switch also cuts {' and '.join(others)}", "give every board its own outlet"
        )


def _wait_heard(board: str, console: socket.socket) -> None:
    """Until its console says something again."""
    deadline = time.monotonic() + BACK_S
    while time.monotonic() < deadline:
        if console_witness(console).verdict == "alive":
            return
    raise HardwareError(f"board {board}: not heard again within {BACK_S:.0f} s after on", f"hil console {board}")
