"""`hil bench jetson`: NVIDIA's flashing tools, checked beforehand and driven unattended. Not tried on hardware."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.firstboot.rootfs import injected, withdraw
from firmware_tools.jetson.command import UNTESTED, Order, Storage, carrier_of, command_of, release_of
from firmware_tools.jetson.preflight import Check, Host, preflight, waiting
from firmware_tools.jetson_recovery import Module
from firmware_tools.state import State, utc_now
from hil_config.errors import ConfigError, EnvironmentFault, HardwareError, UsageError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

L4T = click.option("--l4t", required=True, envvar="HIL_L4T", metavar="FOLDER", help="NVIDIA's Linux_for_Tegra.")
STORAGE = click.option("--storage", type=click.Choice(("nvme", "usb", "emmc")), default="nvme", show_default=True)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
MACHINE = click.option("--machine", default="/", hidden=True)  # a copy of one, for tests


@click.group()
def jetson() -> None:
    """Flash NVIDIA modules with NVIDIA's tools. Not tried on hardware."""


@jetson.command()
@L4T
@STORAGE
@AS_JSON
@MACHINE
@click.pass_context
def check(context: click.Context, l4t: str, storage: str, as_json: bool, machine: str) -> None:
    """Say what would make a flash fail, and what to type."""
    checks = preflight(Order(l4t, cast(Storage, storage)), _host(machine))
    sound = all(one.ok or not one.must for one in checks)
    if as_json:
        click.echo(json.dumps({"ok": sound, "tested": UNTESTED, "checks": msgspec.to_builtins(checks)}))
    else:
        click.echo(f"note: {UNTESTED}", err=True)
        for one in checks:
            click.echo(f"{'ok     ' if one.ok else 'MISSING' if one.must else 'advice '}  {one.name:<12} {one.found}")
            if not one.ok:
                click.echo(f"{'':22} do: {one.do}")
    context.exit(0 if sound else EnvironmentFault.exit_code)


@jetson.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD...")
@L4T
@STORAGE
@click.option("--carrier", default="", help="Name of the carrier's .conf; NVIDIA's developer kit without.")
@click.option("--port", default="", help="USB port of the module, as `hil bench recovery` names it; one board only.")
@click.option("--attempts", type=click.IntRange(1, 10), default=3, show_default=True)
@click.option("--dry-run", is_flag=True, help="Show the command line, and stop.")
@click.option("--yes", multiple=True, metavar="BOARD", help="Do not ask.")
@AS_JSON
@MACHINE
@BENCH_OPTION
def flash(
    boards: tuple[str, ...], l4t: str, storage: str, carrier: str, port: str, attempts: int, dry_run: bool,
    yes: tuple[str, ...], as_json: bool, machine: str, bench_file: Path,
) -> None:  # fmt: skip
    """Flash one module, or several of one kind at once (--massflash). Everything on them is lost."""
    from firmware_tools.jetson import job

    bench, chosen = boards_of(bench_file, boards)
    for board in chosen:
        if board.kind != "jetson":
            raise ConfigError(f"board {board.name} is of kind {board.kind}, not jetson", "hil flash writes other disks")
    state, host = State(bench_file), _host(machine)
    order = Order(str(Path(l4t).absolute()), cast(Storage, storage), carrier)
    found = _modules(chosen, port, host)
    one = found[0]
    command = command_of(one.product, order, one.port if len(chosen) == 1 else "", len(chosen))
    click.echo(f"note: {UNTESTED}", err=True)
    if dry_run:
        shown = {"dry_run": True, "folder": order.folder, "command": command, "ports": [each.port for each in found]}
        click.echo(json.dumps(shown) if as_json else f"cd {order.folder} && sudo {shlex.join(command)}")
        return
    _refuse(preflight(order, host))
    lies = _first_boot(chosen, Path(order.folder))
    _confirm(chosen, carrier_of(one.product, order), yes)
    name = chosen[0].name if len(chosen) == 1 else "massflash"
    log = state.path("logs", f"{name}-jetson", ".log")
    with _all_busy(chosen, state):
        _user(chosen, Path(order.folder))
        cycle = _cycler(chosen, bench, state)
        tries = job.flash(
            command, Path(order.folder), log, found, host, cycle,
            lambda words: click.echo(f"{name}: {words}", err=True), attempts,
        )  # fmt: skip
    if lies:
        withdraw(Path(order.folder) / "rootfs")
    done = [
        job.Flashed(board.name, command, release_of(order.folder), one.product, each.port if len(chosen) == 1 else "",
                    tries, str(log), utc_now())
        for board, each in zip(chosen, found, strict=True)
    ]  # fmt: skip
    for receipt in done:
        state.receipt(receipt.board, "jetson", receipt)
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(done)}))
    for receipt in done if not as_json else ():
        click.echo(
            f"{receipt.board}: NVIDIA's tool says that it flashed {receipt.release}; attempts {tries}, log {log}"
        )


def _host(machine: str) -> Host:
    return Host() if machine == "/" else Host(f"{machine}/sys", f"{machine}/proc", (f"{machine}/rules",))


def _modules(boards: tuple[Board, ...], port: str, host: Host) -> tuple[Module, ...]:
    """The modules that wait, as many as boards and all of one kind: nothing else says which is which."""
    found = tuple(one for one in waiting(host) if not port or one.port == port)
    if port and len(boards) > 1:
        raise UsageError("--port is for one board", "several boards: all modules in recovery mode are flashed alike")
    if len(found) != len(boards):
        seen = ", ".join(f"{one.name} at {one.port}" for one in found) or "none"
        raise HardwareError(
            f"{len(boards)} board(s) to flash, modules in recovery mode{f' at {port}' if port else ''}: {seen}",
            "bring exactly these into recovery mode, or name one with --port",
        )
    if len({one.product for one in found}) > 1:
        raise HardwareError("modules of several kinds wait in recovery mode", "flash one kind at a time")
    return found


def _refuse(checks: tuple[Check, ...]) -> None:
    for one in checks:
        if not one.ok and one.must:
            raise EnvironmentFault(f"before the flash: {one.name}: {one.found}", one.do)
        if not one.ok:
            click.echo(f"advice: {one.name}: {one.found}; {one.do}", err=True)


def _first_boot(boards: tuple[Board, ...], folder: Path) -> bool:
    """Whether the root file system holds our first boot, of the one board that is flashed.

    Raises:
        ConfigError: it is another board's, whose token and name this one would get.
    """
    name = injected(folder / "rootfs")
    if name and [name] != [board.name for board in boards]:
        raise ConfigError(
            f"{folder}/rootfs holds the first boot of {name}, to flash: {', '.join(board.name for board in boards)}",
            f"hil firstboot {boards[0].name} --l4t {folder}, or flash {name}",
        )
    if not name:
        click.echo(f"note: no first boot of ours in {folder}/rootfs: hil firstboot BOARD --l4t {folder}", err=True)
    return bool(name)


def _confirm(boards: tuple[Board, ...], carrier: str, yes: tuple[str, ...]) -> None:
    for board in boards:
        if board.name in yes:
            continue
        if not sys.stdin.isatty():
            raise UsageError(f"board {board.name}: everything on it will be lost", f"in a script: --yes {board.name}")
        typed = click.prompt(f"All of {board.name} ({carrier}) will be lost. Type {board.name} to go on", err=True)
        if typed != board.name:
            raise UsageError(f"board {board.name}: found {typed!r}, nothing was done", "type the board's name")


def _user(boards: tuple[Board, ...], folder: Path) -> None:
    """Several boards share one root file system, hence one user, one password and a host name for all."""
    from firmware_tools.jetson.default_user import create_user
    from firmware_tools.secret_file import first_line

    console = boards[0].console
    if console is None or console.password_file is None:
        raise ConfigError(
            f"board {boards[0].name}: no user for its first boot, its wizard would wait for ever",
            "write `console: {user: hil, password_file: FILE}` into the bench file",
        )
    name = boards[0].name if len(boards) == 1 else "jetson"
    create_user(folder, console.user, name, first_line(console.password_file))


def _cycler(boards: tuple[Board, ...], bench: Bench, state: State) -> Callable[[], None] | None:
    """What cuts the power of all and gives it back; None unless every board has a switch."""
    from firmware_tools.power.job import OFF_S, prepare_switch
    from firmware_tools.power.registry import backend

    if any(board.power is None for board in boards):
        return None

    def cycle() -> None:
        switches = [prepare_switch(board, bench, state) for board in boards]
        try:
            for switch in switches:
                backend(switch).switch(switch, False)
            threading.Event().wait(OFF_S)
        finally:  # also after Ctrl-C nobody is left off
            for switch in switches:
                backend(switch).switch(switch, True)

    return cycle


def _all_busy(boards: tuple[Board, ...], state: State) -> ExitStack:
    from firmware_tools.reservation import check_free

    stack = ExitStack()
    for board in boards:
        check_free(board.name, state)
        stack.enter_context(state.busy(board.name, "hil bench jetson flash"))
    return stack
