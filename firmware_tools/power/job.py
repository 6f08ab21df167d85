"""Switch one board and prove it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from firmware_tools.broker_watch import BrokerWatch
from firmware_tools.console.attach import line_trouble, open_console
from firmware_tools.power.proof import Evidence, Proof, conclude, console_witness, port_witness
from firmware_tools.power.registry import backend, switch_of
from firmware_tools.power.spec import Switch
from firmware_tools.reservation import check_free
from firmware_tools.state import State
from hil_config.errors import HilError, LinkError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

OFF_S = 3.0
"""How long a cycle stays off: capacitors of a board's supply empty in about a second."""

WILL_S, BACK_S = 30.0, 240.0
Action = Literal["on", "off", "cycle", "status"]


def prepare_switch(board: Board, bench: Bench, state: State) -> Switch:
    """The board's switch; for a virtual board its machine is written down first, where any command finds it."""
    switch = switch_of(board)
    if switch.via != "virtual":
        return switch
    from firmware_tools.virtual.machine import machine_of

    path = state.path("virtual", board.name)
    if switch.at:
        return switch
    kept = state.write("virtual", board.name, machine_of(bench, board, state))
    assert kept == path
    return msgspec.structs.replace(switch, at=str(path))


def status_of(board: Board, bench: Bench, state: State) -> tuple[Switch, bool | None]:
    """The board's switch, and whether it is on, as far as the switch can tell. Nothing is written."""
    switch = switch_of(board)
    if switch.via == "virtual" and not switch.at:
        from firmware_tools.virtual.machine import machine_of, process_of

        return switch, process_of(machine_of(bench, board, state)) is not None
    return switch, backend(switch).status(switch)


def act(board: Board, bench: Bench, action: Action, state: State, tell: Callable[[str], None]) -> Proof:
    """Do it.

    Raises:
        HardwareError: the switch fails, or the board lives after off. SafetyRefusal: somebody else holds the board.
    """
    if action == "status":
        _, said = status_of(board, bench, state)
        return Proof(board.name, {True: "on", False: "off", None: "unknown"}[said], (), False)
    switch = prepare_switch(board, bench, state)
    module = backend(switch)
    check_free(board.name, state)
    with state.busy(board.name, f"hil power {action}"), ExitStack() as stack:
        watch = watch_of(bench, stack)
        before = ""
        if watch is not None and action in ("off", "cycle"):
            status = watch.known(board.name)
            before = status.boot_id if status is not None and status.state != "offline" else ""
        witnesses = _witnesses(board, watch, before, state, stack) if action in ("off", "cycle") else ()
        if action == "on":
            module.switch(switch, True)
            return Proof(board.name, "on", (), False)
        try:
            module.switch(switch, False)
            tell(f"{board.name}: switched off, proving it")
            proof = conclude(board.name, witnesses)
            if action == "off":
                return proof
            threading.Event().wait(OFF_S)
        except (KeyboardInterrupt, HilError):
            if action == "cycle":  # what was to be on afterwards is not left off
                module.switch(switch, True)
                tell(f"{board.name}: stopped, and on again")
            raise
        module.switch(switch, True)
        boot = ""
        if watch is not None and before:
            tell(f"{board.name}: on again, waiting for another boot than {before}")
            boot = watch.wait_online(board.name, BACK_S, before).boot_id
        return msgspec.structs.replace(proof, switched="cycle", boot_id=boot, proved=proof.proved or bool(boot))


def watch_of(bench: Bench, stack: ExitStack) -> BrokerWatch | None:
    """The broker, if there is one that can be reached; without it there is a witness less."""
    if bench.identity is None or not bench.broker.port:
        return None
    try:
        watch = BrokerWatch(bench.bench, bench.broker.host, bench.broker.port, Path(bench.identity))
        stack.enter_context(watch)
        return watch
    except HilError:
        return None


def _witnesses(
    board: Board, watch: BrokerWatch | None, before: str, state: State, stack: ExitStack
) -> tuple[Callable[[], Evidence], ...]:
    """Asked for before the switch: a port that took no connections then says nothing by taking none, and no more does a
    console that was silent."""
    found: list[Callable[[], Evidence]] = []
    console, ssh = board.console, board.ssh
    if console is not None:
        sock = stack.enter_context(open_console(board.name, console.port, console.baud, state))
        spoke = console_witness(sock, at_once=True).verdict == "alive"
        found.append(lambda: console_witness(sock, console_trouble(board, state), spoke))
    if watch is not None and before:
        found.append(lambda: _will(watch, board.name))
    if ssh is not None:
        lived = port_witness("ssh", ssh.host, ssh.port).verdict == "alive"
        found.append(lambda: port_witness("ssh", ssh.host, ssh.port, lived))
    return tuple(found)


def console_trouble(board: Board, state: State) -> Callable[[], str]:
    """Why a board's line is not open. That of an emulated board is its emulator: it ends with it, and says so."""
    if board.power is not None and board.power.via == "virtual":
        return lambda: ""
    return lambda: line_trouble(board.name, state)


def _will(watch: BrokerWatch, node: str) -> Evidence:
    try:
        watch.wait_offline(node, WILL_S)
    except LinkError as error:
        return Evidence("broker", "alive", error.message)
    return Evidence("broker", "silent", "the agent's last will has arrived")
