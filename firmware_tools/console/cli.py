"""`hil console`: talk to a board over its serial line; everything it says is in a log."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

import click

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.console.attach import close_console, line_trouble, log_path, open_console
from firmware_tools.state import State
from hil_config.errors import ConfigError

LEAVE = b"\x1d"
"""Ctrl-]"""


@click.command()
@click.argument("board")
@click.option("--log", "show_log", is_flag=True, help="Print what was logged, and stop.")
@click.option("--stop", is_flag=True, help="End the process that reads the line.")
@BENCH_OPTION
def console(board: str, show_log: bool, stop: bool, bench_file: Path) -> None:
    """Attach to a board's serial console. Ctrl-] leaves; the line goes on being read and logged."""
    _, (found,) = boards_of(bench_file, (board,))
    state = State(bench_file)
    if found.console is None:
        raise ConfigError(
            f"board {board} has no `console` in {bench_file}", "add `console: {port: /dev/serial/by-id/...}`"
        )
    if stop:
        close_console(board, state)
        return
    if show_log:
        path = log_path(board, state)
        click.echo(path.read_text(encoding="utf-8", errors="replace") if path.exists() else "", nl=False)
        return
    with open_console(board, found.console.port, found.console.baud, state) as sock:
        click.echo(f"{board}: {found.console.port}, log {log_path(board, state)}, Ctrl-] leaves", err=True)
        trouble = line_trouble(board, state)
        if trouble:
            click.echo(f"{board}: not open: {trouble}; it is tried again and again", err=True)
        if sys.stdin.isatty():
            before = termios.tcgetattr(sys.stdin)
            try:
                tty.setraw(sys.stdin)
                _join(sock)
            finally:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        else:
            _join(sock)


def _join(sock: socket.socket) -> None:
    """Until Ctrl-], the end of standard input, or the owner's end."""
    while True:
        ready, _, _ = select.select([sock, sys.stdin], [], [])
        if sock in ready:
            data = sock.recv(65_536)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if sys.stdin in ready:
            typed = os.read(sys.stdin.fileno(), 4096)
            if not typed or LEAVE in typed:
                return
            sock.sendall(typed)
