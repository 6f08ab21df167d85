"""A root shell on a board, over what the bench file names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from firmware_tools.console.attach import close_console, line_trouble, open_console
from firmware_tools.provision import baud
from firmware_tools.provision.board_shell import BoardShell, Unreadable
from firmware_tools.provision.shell import Shell
from firmware_tools.secret_file import first_line
from firmware_tools.state import State
from hil_config.errors import ConfigError, HardwareError

if TYPE_CHECKING:
    from hil_config.schema.bench import Board
    from hil_config.schema.hardware import ConsoleLine


def reach(
    board: Board, via: str, state: State, stack: ExitStack, timeout_s: float, tell: Callable[[str], None]
) -> BoardShell:
    """Logged in; a console that speaks at another rate than the bench file says is found.

    Args:
        via: auto (SSH if the bench file names it, else the console), console or ssh.
        stack: closes the shell.

    Raises:
        ConfigError: the bench file names no such way. Stuck: no shell within `timeout_s` seconds.
    """
    if board.ssh is not None and via != "console":
        from firmware_tools.provision.ssh_shell import SshShell  # asyncssh takes a while to import

        remote = SshShell(board.name, board.ssh)
        stack.callback(remote.close)
        remote.reach(timeout_s)
        return remote
    if board.console is None or via == "ssh":
        wanted = {"ssh": "`ssh`", "console": "`console`"}.get(via, "`console` or `ssh`")
        raise ConfigError(f"board {board.name}: wants {wanted}", "add it to the bench file")
    try:
        return _on_console(board, board.console, board.console.baud, state, stack, timeout_s, tell)
    except Unreadable as error:
        trouble = line_trouble(board.name, state)
        if trouble:
            port = board.console.port
            raise HardwareError(
                f"board {board.name}: console {port}: {trouble}", f"may you open it, and who else has it: lsof {port}"
            ) from error
        rate = _other_rate(board.name, board.console, state, error)
        tell(f"{board.name}: its console answers at {rate} baud, not at {board.console.baud}: write `baud: {rate}`")
        return _on_console(board, board.console, rate, state, stack, timeout_s, tell)


def _on_console(
    board: Board, line: ConsoleLine, baud: int, state: State, stack: ExitStack, timeout_s: float,
    tell: Callable[[str], None],
) -> BoardShell:  # fmt: skip
    sock = stack.enter_context(open_console(board.name, line.port, baud, state))
    trouble = line_trouble(board.name, state)
    if trouble:  # it may come: some boards are their own adapter
        tell(f"{board.name}: console {line.port} is not open yet: {trouble}")
    shell = Shell(board.name, sock, line.user, first_line(line.password_file))
    stack.callback(shell.close)
    shell.reach(timeout_s)
    return shell


def _other_rate(name: str, line: ConsoleLine, state: State, cause: Unreadable) -> int:
    """The rate at which the line answers; its owner is started anew for each.

    Raises:
        Unreadable: at none.
    """
    if line.port.startswith("socket:"):
        raise cause  # whatever is behind it has no rate of ours
    tried = baud.others(line.baud)
    for rate in tried:
        close_console(name, state)
        with open_console(name, line.port, rate, state) as sock:
            if baud.answers(sock):
                return rate
    close_console(name, state)
    rates = ", ".join(str(one) for one in tried)
    raise Unreadable(f"{cause.message}; nor does it answer at {rates} baud", "see to cable and power") from cause
