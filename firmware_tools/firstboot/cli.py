"""`hil firstboot`: put what a board needs on its first boot onto its card."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.firstboot.flavour import FLAVOURS
from firmware_tools.firstboot.job import Extra, Prepared, prepare, prepare_rootfs
from firmware_tools.firstboot.public_key import public_keys, trust_key
from firmware_tools.flash.device import Target
from firmware_tools.flash.disk import System, find_disk
from firmware_tools.flash.guard import check_target
from firmware_tools.flash.job import disk_of
from firmware_tools.fleet import on_all, worst
from firmware_tools.reservation import check_free
from firmware_tools.state import State
from hil_config.errors import UsageError

if TYPE_CHECKING:
    from firmware_tools.firstboot.wifi import Wifi

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD...")
@click.option("--shards", type=FOLDER, help="Folder of a signed model to take along.")
@click.option(
    "--trust",
    multiple=True,
    type=FILE,
    help="Public key (.pub) of whoever signs models; wanted by every board that others reach.",
)
@click.option("--ssh-key", type=FILE, help="Public SSH key of whoever may log in.")
@click.option(
    "--flavour", type=click.Choice(tuple(FLAVOURS)), help="What the image does on a first boot; else detected."
)
@click.option("--network", default="", help="Static: the board's address of the bench file, in this a.b.c.d/n.")
@click.option("--gateway", default="", help="With --network.")
@click.option("--dns", multiple=True, help="With --network.")
@click.option("--ntp", default="", help="Time server for chrony and systemd-timesyncd.")
@click.option("--wifi", default="", metavar="NAME", help="Wi-Fi network (WPA2), for management.")
@click.option("--wifi-country", default="", metavar="XX", help="With --wifi: where the board is, two letters.")
@click.option(
    "--wifi-passphrase-file",
    type=FILE,
    help="With --wifi: its first line is the passphrase; asked for if left out.",
)
@click.option("--wheels", type=FOLDER, help="Folder of Python wheels for a board without internet.")
@click.option("--l4t", type=FOLDER, help="A Jetson's: into this Linux_for_Tegra/rootfs before it is flashed. Not tried "
              "on hardware.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@BENCH_OPTION
def firstboot(
    boards: tuple[str, ...], shards: Path | None, trust: tuple[Path, ...], ssh_key: Path | None,
    flavour: str | None, network: str, gateway: str, dns: tuple[str, ...], ntp: str, wifi: str, wifi_country: str,
    wifi_passphrase_file: Path | None, wheels: Path | None, l4t: Path | None, as_json: bool, bench_file: Path,
) -> None:  # fmt: skip
    """Write name, user, authority, one-time token and agent onto the boot partition of flashed cards."""
    bench, chosen = boards_of(bench_file, boards)
    if l4t is not None and len(chosen) > 1:
        raise UsageError("--l4t: a root file system holds the first boot of one board", "prepare and flash one by one")
    state, by_name = State(bench_file), {board.name: board for board in chosen}
    extra = Extra(
        str(shards or ""), tuple(map(trust_key, trust)), public_keys(ssh_key) if ssh_key else "", flavour or "",
        network, gateway, dns, ntp, str(wheels or ""),
        _wifi(wifi, wifi_country, wifi_passphrase_file),
    )  # fmt: skip

    def work(name: str) -> object:
        board = by_name[name]
        check_free(name, state)
        if l4t is not None:
            with state.busy(name, "hil firstboot"):
                return prepare_rootfs(board, bench, l4t, extra, state)
        disk_of(name, board.disk)
        assert board.disk is not None
        disk = find_disk(board.disk, System())
        check_target(disk, int(board.disk.max_gb * 1e9), System())
        with state.busy(name, "hil firstboot"):
            if Path(disk.node).exists():
                Target(disk).close()  # refused if somebody uses it, such as a board that is on
            return prepare(board, bench, disk.node, extra, state)

    outcomes = on_all(list(by_name), work)
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(outcomes)}))
    for one in outcomes if not as_json else ():
        if not one.error:
            form = one.result.flavour if isinstance(one.result, Prepared) else ""
            then = f"flash it: hil bench jetson flash {one.board}" if l4t else "put the card in and switch on"
            click.echo(f"{one.board}: first boot ({form}) written{'' if l4t else ' and read back'}; {then}")
    error = worst(outcomes)
    if error is not None:
        raise error


def _wifi(name: str, country: str, file: Path | None) -> Wifi | None:
    """The passphrase comes out of a file or from a person, never from the command line."""
    from firmware_tools.firstboot.wifi import wifi_of
    from firmware_tools.secret_file import first_line

    if not name:
        if country or file is not None:
            raise UsageError("--wifi-country and --wifi-passphrase-file belong to a network", "add --wifi NAME")
        return None
    if file is None and not sys.stdin.isatty():
        raise UsageError(
            f"Wi-Fi {name!r}: nobody is here to be asked for its passphrase", "--wifi-passphrase-file FILE"
        )
    said = (
        first_line(str(file)) if file is not None else click.prompt(f"passphrase of {name}", hide_input=True, err=True)
    )
    return wifi_of(name, country, said)
