"""`hil bench`: what the machine has, what a bench holds, how to start its broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from firmware_tools.bench_cli import imager_list, recovery, release, reserve, virtual
from firmware_tools.cabling.cli import identify
from firmware_tools.characterise.cli import characterise
from firmware_tools.identity_cli import identity, init
from firmware_tools.jetson.cli import jetson
from hil_config.errors import EnvironmentFault, UsageError

JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group()
def bench() -> None:
    """Look at a bench and at what this machine has."""


for _command in (init, identity, reserve, release, virtual, identify, characterise, imager_list, recovery, jetson):
    bench.add_command(_command)


@bench.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True, help="TCP port on 127.0.0.1.")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="For its configuration and log.")
@click.option("--identity", type=click.Path(path_type=Path), help="Identity folder of the bench: TLS and access list.")
@click.option("--bench", "bench_name", help="Name of the bench, with --identity.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --identity.")
@JSON_FLAG
def broker(port: int, folder: Path, identity: Path | None, bench_name: str | None, host: str, as_json: bool) -> None:
    """Write the configuration of a private MQTT broker and say how to start it. Does not start it.

    Fetches Mosquitto, without root, if the machine has none.
    """
    from firmware_tools.broker import prepare_broker
    from firmware_tools.broker_access import Access
    from firmware_tools.identity import BROKER

    access = None
    if identity is None and (bench_name or host != "127.0.0.1"):
        raise UsageError("--bench and --host without --identity", "without TLS a broker is for this machine alone")
    if identity is not None:
        if not bench_name:
            raise UsageError("--identity without --bench", "name the bench: the access list is for its topics alone")
        access = Access(bench_name, identity / BROKER, host)
    recipe = prepare_broker(port, folder, _tell, access)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(recipe)))
        return
    click.echo(recipe.typed())


@bench.command("local-identity")
@click.argument("names", nargs=-1, required=True, metavar="BOARD...")
@click.option("--identity", type=click.Path(path_type=Path), required=True, help="Identity folder of the bench.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder per board is made in it.")
def local_identity(names: tuple[str, ...], identity: Path, out: Path) -> None:
    """Make two-day certificates, keys and all, for agents that run on this machine."""
    from firmware_tools.local_identity import issue_local

    issue_local(identity, names, out)
    click.echo(f"certificates for {', '.join(names)} in {out}, for two days", err=True)


def _tell(sentence: str) -> None:
    """To a person who waits; a program that reads our stderr wants only an error there."""
    if sys.stderr.isatty():
        click.echo(sentence, err=True)


@bench.command()
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder that runs will be kept in.")
@click.option("--bench", "bench_file", type=click.Path(path_type=Path), help="Look at the boards of this bench, too.")
@JSON_FLAG
@click.pass_context
def doctor(context: click.Context, runs: Path, bench_file: Path | None, as_json: bool) -> None:
    """Say what this machine has of what a bench needs, and what to type for the rest."""
    from firmware_tools.doctor import examine

    checks = examine(runs)
    if bench_file is not None:
        from firmware_tools.doctor_boards import examine_boards
        from firmware_tools.state import State
        from hil_config.schema.load import load_bench

        checks += examine_boards(load_bench(bench_file), State(bench_file))
    sound = all(check.ok for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": sound, "checks": msgspec.to_builtins(checks)}))
    else:
        for check in checks:
            click.echo(f"{'ok     ' if check.ok else 'MISSING'}  {check.name:<12} {check.found}")
            if not check.ok:
                click.echo(f"{'':22} do: {check.do}")
    context.exit(0 if sound else EnvironmentFault.exit_code)


@bench.command("list")
@click.argument("bench_file", type=click.Path(path_type=Path), metavar="BENCH.yaml")
@JSON_FLAG
def list_boards(bench_file: Path, as_json: bool) -> None:
    """Show the boards of a bench file with the numbers of their profiles."""
    from hil_config.schema.load import load_bench
    from hil_config.schema.profiles import load_profile

    content = load_bench(bench_file)
    boards = [(board, load_profile(board.profile)) for board in content.boards]
    if as_json:
        rows = [{**board.model_dump(mode="json"), "profile": p.model_dump(mode="json")} for board, p in boards]
        broker_at = content.broker.model_dump(mode="json")
        click.echo(json.dumps({"bench": content.bench, "broker": broker_at, "boards": rows}))
        return
    table = Table("board", "profile", "data plane", title=content.bench, box=box.SIMPLE)
    for title in ("idle W", "W/core", "cores", "experts"):
        table.add_column(title, justify="right")
    for board, p in boards:
        numbers = (f"{p.idle_w:g}", f"{p.per_core_w:g}", str(p.cores), str(p.expert_slots))
        table.add_row(board.name, p.name, f"{board.address}:{board.data_port or 'any'}", *numbers)
    Console(file=sys.stdout).print(table)
    click.echo("power figures are modelled; `source` in the profile says where they are from")
