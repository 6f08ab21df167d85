"""Prove the cabling: cut or load one board, and see which console, meter channel, network port and agent that is.

A bench with a mixed-up outlet measures one board and cuts another. The board that is meant must fall silent, and no
other board may; its channel must fall, and no other channel; afterwards it must be heard again, with its own network
port. What nothing could prove is said.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

import msgspec

from firmware_tools.cabling.channel import Windows, judge_channels
from firmware_tools.cabling.interface import Seen, judge_ports, look
from firmware_tools.cabling.load import COMMAND_S, busy
from firmware_tools.console.attach import line_trouble, open_console
from firmware_tools.meter.readings import Meters
from firmware_tools.power.job import BACK_S, OFF_S, console_trouble, prepare_switch, watch_of
from firmware_tools.power.proof import console_witness
from firmware_tools.power.registry import backend
from firmware_tools.provision.board_shell import BoardShell
from firmware_tools.provision.reach import reach
from firmware_tools.reservation import check_free
from firmware_tools.state import State
from hil_config.errors import ConfigError, HardwareError

if TYPE_CHECKING:
    import socket

    from hil_config.schema.bench import Bench, Board

METER_S, SETTLE_S = 3.0, 2.0
"""Length of a window of readings, and how long supply and meter take to follow."""

By = Literal["cut", "load"]
Tell = Callable[[str], None]


class Channel(msgspec.Struct, frozen=True):
    """A meter channel that followed its board. Medians in watts: before, while it was cut or loaded, after."""

    name: str
    before_w: float
    during_w: float
    after_w: float
    provenance: str
    others_still: tuple[str, ...]


class Identified(msgspec.Struct, frozen=True):
    """What belongs together, and what could not be proved. `others_alive`: consoles that were heard throughout."""

    board: str
    by: By
    switch: str
    console: str
    others_alive: tuple[str, ...]
    boot_before: str = ""
    boot_after: str = ""
    channel: Channel | None = None
    port: str = ""
    mac: str = ""
    ways: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()


def identify(board: Board, bench: Bench, state: State, by: By, tell: Tell) -> Identified:
    """Cut `board`, or load it, and compare.

    Raises:
        ConfigError: the bench file names too little. HardwareError: something else followed, or it did not.
    """
    check_free(board.name, state)
    with state.busy(board.name, "hil bench identify"), ExitStack() as stack:
        trial = _Trial(board, bench, state, tell, stack)
        if by == "cut":
            trial.cut()
        trial.look_inside()
        if trial.channel is None and trial.measured:
            trial.load()
        if by == "load" and trial.channel is None and not trial.port:
            raise ConfigError(
                f"board {board.name}: a load would prove nothing here: {'; '.join(trial.unproved)}",
                "name a `meter`, or `mac` and a way in, in the bench file",
            )
        return trial.result(by)


class _Trial:
    """One board's; every step adds what it proved."""

    def __init__(self, board: Board, bench: Bench, state: State, tell: Tell, stack: ExitStack) -> None:
        self._board, self._bench, self._state, self._tell, self._stack = board, bench, state, tell, stack
        self._watch = watch_of(bench, stack)
        self._meters = Meters(bench, self._watch)
        self._shell: BoardShell | None = None
        self._switch = self._console = self._before = self._after = ""
        self._others: tuple[str, ...] = ()
        self._seen: list[Seen] = []
        self.channel: Channel | None = None
        self.port = ""
        self.measured, why = self._claim()
        self.unproved = [] if self.measured else [f"meter channel: {why}"]

    def _claim(self) -> tuple[bool, str]:
        """Whether the bench file gives the board a channel whose movement would prove something; else why not."""
        name = self._board.name
        if self._board.meter is None:
            return False, "the bench file names no `meter`"
        if name not in self._meters.channels:
            return False, "its agent reads it, and the broker is not there"
        claimed = self._meters.provenance(name)
        if claimed is not None and claimed.kind != "measured":
            return False, f"its power is {claimed}, which would follow whatever the cable"
        return True, ""

    def cut(self) -> None:
        """Off and on again: what falls silent, whose channel falls, what comes back."""
        board, bench = self._board, self._bench
        if board.console is None:
            raise ConfigError(f"board {board.name} has no `console`: nothing could tell", "add it to the bench file")
        switch = prepare_switch(board, bench, self._state)
        module = backend(switch)
        consoles = {
            one.name: self._stack.enter_context(open_console(one.name, one.console.port, one.console.baud, self._state))
            for one in bench.boards
            if one.console is not None
        }
        status = self._watch.known(board.name) if self._watch is not None else None
        self._before = status.boot_id if status is not None and status.state != "offline" else ""
        self._tell("listening to every console and meter")
        alive = _alive(consoles)
        if board.name not in alive:
            lost = line_trouble(board.name, self._state)
            if lost:
                raise HardwareError(
                    f"board {board.name}: its console line is not open: {lost}", "see to cable and port"
                )
            raise HardwareError(
                f"board {board.name}: is silent before anything was switched", f"hil power {board.name} on; then again"
            )
        before = self._meters.read(METER_S)
        module.switch(switch, False)
        try:
            self._tell("switched off, listening again")
            still = _alive(consoles)
            lost = "" if board.name in still else console_trouble(board, self._state)()
            threading.Event().wait(SETTLE_S if before else 0.0)
            during = self._meters.read(METER_S)
        finally:
            threading.Event().wait(OFF_S)
            module.switch(switch, True)
        if lost:
            raise HardwareError(
                f"board {board.name}: its console line went away when it was switched off: {lost}",
                "does the switch feed the adapter? a line that is not open proves no silence",
            )
        _judge_silence(board.name, alive - still, board.name in still)
        self._tell("on again, waiting for it")
        _wait_heard(board.name, consoles[board.name])
        self._judge("switched off", Windows(before, during, self._meters.read(METER_S)))
        if self._watch is not None and self._before:
            self._after = self._watch.wait_online(board.name, BACK_S, self._before).boot_id
        self._switch, self._console = f"{switch.via} {switch.at}".strip(), board.console.port
        self._others = tuple(sorted(alive - {board.name}))

    def look_inside(self) -> None:
        """Log in over every way that the bench file names, and read the network ports."""
        board, ways = self._board, []
        if board.console is not None and board.console.password_file is not None:
            ways.append("console")
        if board.ssh is not None:
            ways.append("ssh")
        for way in ways:
            self._tell(f"logging in over {way}")
            self._shell = reach(board, way, self._state, self._stack, BACK_S, self._tell)
            self._seen.append(look(way, self._shell))
        self.port = judge_ports(board, self._bench, tuple(self._seen))
        if not ways:
            self.unproved.append("network port: the bench file names no `ssh` and no `console.password_file`")
        elif not self.port:
            ports = ", ".join(" ".join(one) for one in self._seen[0].ports)
            self.unproved.append(f"network port: the bench file names no `mac` (there are {ports or 'none'})")

    def load(self) -> None:
        """Keep the processor busy and watch the channels."""
        if self._shell is None:
            self.unproved.append("meter channel: there is no way in by which the board could be loaded")
            return
        self._tell("reading every meter")
        before = self._meters.read(METER_S)
        self._tell("loading its processor")
        pause = threading.Event()
        with busy(self._shell, math.ceil(SETTLE_S + METER_S + COMMAND_S)):
            pause.wait(SETTLE_S)
            during = self._meters.read(METER_S)
        pause.wait(SETTLE_S)
        self._judge("loaded", Windows(before, during, self._meters.read(METER_S)))

    def _judge(self, what: str, windows: Windows) -> None:
        name, channels = self._board.name, self._meters.channels
        still = judge_channels(name, what, channels, windows)
        mine = [one.get(name) for one in windows]
        if all(mine) and self.measured:
            before, during, after = (one for one in mine if one is not None)
            self.channel = Channel(
                channels[name].name, before.median_w, during.median_w, after.median_w, str(before.provenance), still
            )

    def result(self, by: By) -> Identified:
        """All that was found."""
        if self.measured and self.channel is None and not any("meter" in one for one in self.unproved):
            self.unproved.append("meter channel: it said nothing")
        if by == "cut" and not self._after:
            self.unproved.append("agent: none was at the broker")
        return Identified(
            self._board.name, by, self._switch, self._console, self._others, self._before, self._after, self.channel,
            self.port, (self._board.mac or "") if self.port else "", tuple(one.way for one in self._seen),
            tuple(self.unproved),
        )  # fmt: skip


def _alive(consoles: dict[str, socket.socket]) -> set[str]:
    return {name for name, sock in consoles.items() if _heard(name, sock)}


def _heard(board: str, console: socket.socket) -> bool:
    seen = console_witness(console)
    if seen.verdict == "no way to tell":
        raise HardwareError(f"board {board}: {seen.detail}", f"hil console {board}")
    return seen.verdict == "alive"


def _judge_silence(board: str, silent: set[str], lives: bool) -> None:
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
        if _heard(board, console):
            return
    raise HardwareError(f"board {board}: not heard again within {BACK_S:.0f} s after on", f"hil console {board}")
