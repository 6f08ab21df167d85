"""`hil bench reserve|release|virtual`: who holds a board, and boards without hardware."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command()
@click.argument("board")
@click.option("--hours", type=click.FloatRange(0.1, 24 * 14), default=4.0, show_default=True, help="For how long.")
@click.option("--reason", default="", help="What others read.")
@BENCH_OPTION
@AS_JSON
def reserve(board: str, hours: float, reason: str, bench_file: Path, as_json: bool) -> None:
    """Hold a board: commands of others on it are refused until then."""
    from firmware_tools.reservation import reserve as take
    from firmware_tools.state import State

    boards_of(bench_file, (board,))
    made = take(board, hours, reason, State(bench_file))
    click.echo(
        json.dumps(msgspec.to_builtins(made)) if as_json else f"{board}: yours for {hours:g} h, as {made.holder}"
    )


@click.command()
@click.argument("board")
@click.option("--force", is_flag=True, help="Also if somebody else holds it.")
@BENCH_OPTION
def release(board: str, force: bool, bench_file: Path) -> None:
    """Give a board back."""
    from firmware_tools.reservation import release as give
    from firmware_tools.state import State

    boards_of(bench_file, (board,))
    give(board, State(bench_file), force)
    click.echo(f"{board}: free")


@click.group()
def virtual() -> None:
    """Boards that are emulated machines."""


@virtual.command()
@AS_JSON
def build(as_json: bool) -> None:
    """Build the image of a virtual board from Debian packages; kept, and built again only if its recipe changes."""
    from firmware_tools.virtual.build import build as make

    built = make(lambda words: click.echo(f"{words} ...", err=True))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(built)))
    else:
        click.echo(built.image)


@click.command("imager-list")
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--url", required=True, help="Where the image is published.")
@click.option("--icon", required=True, help="Address of a picture, 40 x 40.")
@click.option("--date", "release_date", required=True, help="YYYY-MM-DD.")
@click.option("--name", default="SpaceMoE-HIL board", show_default=True)
@click.option("--description", default="A board of the testbed", show_default=True)
@click.option("--init-format", default="none", show_default=True, help="none, systemd, cloudinit or cloudinit-rpi.")
@click.option("--device", "devices", multiple=True, help="Tag of a board, such as pi5-64bit.")
def imager_list(
    image: Path, url: str, icon: str, release_date: str, name: str, description: str, init_format: str,
    devices: tuple[str, ...],
) -> None:  # fmt: skip
    """Print a list for Raspberry Pi Imager (`rpi-imager --repo FILE`) with one image in it."""
    from firmware_tools.imager_list import entry

    one = entry(image, url, name, description, icon, release_date, init_format, devices)
    click.echo(json.dumps({"os_list": [one]}, indent=2))


@click.command()
@AS_JSON
def recovery(as_json: bool) -> None:
    """NVIDIA modules on USB and what they wait for. Not tried on hardware."""
    from firmware_tools.jetson_recovery import modules

    found = modules()
    if as_json:
        click.echo(json.dumps({"modules": msgspec.to_builtins(found)}))
    for one in found if not as_json else ():
        click.echo(f"{one.port:10} 0955:{one.product} {one.name:18} {one.state}  {one.serial}")
    if not found and not as_json:
        click.echo("no NVIDIA module on USB")
