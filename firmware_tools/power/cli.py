"""`hil power`: switch boards, and prove that off is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.fleet import on_all, worst
from firmware_tools.power.job import Action, act
from firmware_tools.state import State


@click.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD... on|off|cycle|status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@BENCH_OPTION
def power(boards: tuple[str, ...], as_json: bool, bench_file: Path) -> None:
    """Switch boards on or off, cycle them, or ask. `all` means every board but model boards.

    Off counts only with proof: the console is silent, the agent's last will has come, no port answers.
    """
    *names, action = boards
    if action not in ("on", "off", "cycle", "status") or not names:
        raise click.UsageError(f"{action!r} is not on, off, cycle or status; wanted: hil power BOARD... ACTION")
    bench, chosen = boards_of(bench_file, tuple(names))
    state, by_name = State(bench_file), {board.name: board for board in chosen}
    outcomes = on_all(
        list(by_name),
        lambda name: act(by_name[name], bench, cast(Action, action), state, lambda words: click.echo(words, err=True)),
    )
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(outcomes)}))
    for one in outcomes if not as_json else ():
        if one.result is not None:
            proof = one.result
            seen = "; ".join(f"{e.witness}: {e.detail}" for e in proof.evidence)
            state_word = {"off": "off", "cycle": "off and on again"}.get(proof.switched, proof.switched)
            if action in ("off", "cycle"):
                nothing = f", NOT proved: {seen or 'nothing on this board could tell'}"
                state_word += f", proved ({seen})" if proof.proved else nothing
            boot = f", boot {proof.boot_id}" if proof.boot_id else ""
            click.echo(f"{one.board}: {state_word}{boot}")
    error = worst(outcomes)
    if error is not None:
        raise error
