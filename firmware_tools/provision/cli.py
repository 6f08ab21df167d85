"""`hil provision`: from a flashed board to one in service."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.fleet import on_all, worst
from firmware_tools.state import State
from hil_config.errors import ConfigError

if TYPE_CHECKING:
    from firmware_tools.provision.board_shell import BoardShell
    from firmware_tools.provision.job import Found, Provisioned
    from hil_config.schema.bench import Bench, Board


@click.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD...")
@click.option("--via", type=click.Choice(["auto", "console", "ssh"]), default="auto", show_default=True,
              help="auto: SSH if the bench file names it, else the console.")  # fmt: skip
@click.option("--check", is_flag=True, help="Only look and report.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the agent at the broker.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(10, 3600), default=180.0, show_default=True,
              help="Seconds until the board has to give a shell.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@BENCH_OPTION
def provision(
    boards: tuple[str, ...], via: str, check: bool, no_wait: bool, timeout_s: float, as_json: bool, bench_file: Path
) -> None:
    """Log in over SSH or on the serial console, set the clock, enrol the board and see its agent at the broker.

    May be repeated: what is in order is left alone.
    """
    bench, chosen = boards_of(bench_file, boards)
    state, by_name = State(bench_file), {board.name: board for board in chosen}
    outcomes = on_all(list(by_name), lambda name: _one(by_name[name], bench, via, check, not no_wait, timeout_s, state))
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(outcomes)}))
    for one in outcomes if not as_json else ():
        if one.result is not None:
            click.echo(_sentence(one.result))
    error = worst(outcomes)
    if error is not None:
        raise error


def _one(
    board: Board, bench: Bench, via: str, check: bool, wait: bool, timeout_s: float, state: State
) -> Found | Provisioned:
    from firmware_tools.broker_watch import BrokerWatch
    from firmware_tools.identity_store import IdentityStore
    from firmware_tools.provision.job import Timeouts, look, provision
    from firmware_tools.reservation import check_free

    if bench.identity is None:
        raise ConfigError(f"board {board.name}: the bench wants `identity`", "hil bench init, and name its folder")
    check_free(board.name, state)
    store, limits = IdentityStore(Path(bench.identity)), Timeouts(shell_s=timeout_s)
    with state.busy(board.name, "hil provision"), ExitStack() as stack:
        shell = _shell(board, via, state, stack)
        stack.callback(shell.close)
        shell.reach(limits.shell_s)
        if check:
            return look(shell, board.name, store, limits)
        watch = None
        if wait:
            watch = BrokerWatch(bench.bench, bench.broker.host, bench.broker.port, Path(bench.identity))
            stack.enter_context(watch)
        return provision(
            board.name, shell, store, watch, state, limits, lambda words: click.echo(f"{board.name}: {words}", err=True)
        )[0]


def _shell(board: Board, via: str, state: State, stack: ExitStack) -> BoardShell:
    """Not logged in yet."""
    if board.ssh is not None and via != "console":
        from firmware_tools.provision.ssh_shell import SshShell

        return SshShell(board.name, board.ssh)
    if board.console is None or via == "ssh":
        wanted = {"ssh": "`ssh`", "console": "`console`"}.get(via, "`console` or `ssh`")
        raise ConfigError(f"board {board.name}: wants {wanted}", "add it to the bench file")
    from firmware_tools.console.attach import open_console
    from firmware_tools.provision.shell import Shell
    from firmware_tools.secret_file import first_line

    sock = stack.enter_context(open_console(board.name, board.console.port, board.console.baud, state))
    return Shell(board.name, sock, board.console.user, first_line(board.console.password_file))


def _sentence(result: Found | Provisioned) -> str:
    from firmware_tools.provision.job import Found

    if isinstance(result, Found):
        days = "no certificate of ours" if result.days_left is None else f"certificate for {result.days_left:.0f} days"
        return (
            f"{result.name}: first boot {result.first_boot or 'never'}, agent slot {result.slot or 'none'}, {days}, "
            f"clock {result.clock_error_s:+.0f} s"
        )
    done = ", ".join(result.changed) or "everything was in order"
    return f"{result.board}: {done}" + (f"; agent at the broker, boot {result.boot_id}" if result.boot_id else "")
