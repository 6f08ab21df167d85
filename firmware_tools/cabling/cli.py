"""`hil bench identify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of

if TYPE_CHECKING:
    from firmware_tools.cabling.identify import By, Identified


@click.command()
@click.argument("board")
@click.option("--by", type=click.Choice(["cut", "load"]), help="Switch it off and on, or keep it busy.")
@BENCH_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def identify(board: str, by: str | None, bench_file: Path, as_json: bool) -> None:
    """Prove the cabling of one board: console, power port, meter channel, network port and agent are the same one.

    Cut or loaded, it alone may fall silent and its channel alone may move. What nothing could prove is said.
    """
    from firmware_tools.cabling.identify import identify as prove
    from firmware_tools.state import State

    bench, (found,) = boards_of(bench_file, (board,))
    way = cast("By", by or ("cut" if found.power is not None else "load"))
    done = prove(found, bench, State(bench_file), way, lambda words: click.echo(f"{board}: {words}", err=True))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done)))
        return
    for line in _lines(done):
        click.echo(line)


def _lines(done: Identified) -> list[str]:
    proved = []
    if done.switch:
        others = f"; {', '.join(done.others_alive)} lived on" if done.others_alive else ""
        proved.append(f"switch {done.switch} and console {done.console} are one board{others}")
    if done.channel is not None:
        one = done.channel
        others = f"; those of {', '.join(one.others_still)} stood still" if one.others_still else ""
        proved.append(
            f"meter channel {one.name} followed: {one.before_w:.2f} W, {one.during_w:.2f} W, {one.after_w:.2f} W "
            f"({one.provenance}){others}"
        )
    if done.port:
        proved.append(f"network port {done.port} has {done.mac}, over {' and '.join(done.ways)}")
    if done.boot_after:
        proved.append(f"agent's boot {done.boot_before} -> {done.boot_after}")
    return [*(f"{done.board}: {one}" for one in proved), *(f"{done.board}: NOT proved: {one}" for one in done.unproved)]
