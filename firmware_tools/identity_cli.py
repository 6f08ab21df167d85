"""`hil bench init` and `hil bench identity`: certificates of a bench."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import msgspec

FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("identity"), show_default=True, help="Identity folder."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command()
@click.argument("bench", metavar="NAME")
@FOLDER
@click.option("--address", multiple=True, help="Address or host name of the broker, for tools that check it.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8883, show_default=True, help="The broker's TLS port.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address on which the broker listens.")
@AS_JSON
def init(bench: str, folder: Path, address: tuple[str, ...], port: int, listen: str, as_json: bool) -> None:
    """Make a bench's certificate authority, the broker's certificate and access list, and the ground's keys.

    Everything private is readable by its owner alone. Nothing is overwritten.
    """
    from firmware_tools.broker import find_mosquitto, prepare_broker
    from firmware_tools.broker_access import Access
    from firmware_tools.identity import BROKER
    from firmware_tools.identity_store import IdentityStore
    from firmware_tools.time_server import how_to_install

    find_mosquitto()  # what is missing is found before anything is made
    store = IdentityStore.create(folder, bench, (*address, listen))
    times = _time_server(folder, listen)
    recipe = prepare_broker(port, folder / BROKER, access=Access(bench, folder / BROKER, listen))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "certificates": msgspec.to_builtins(store.rows()),
                               "broker": msgspec.to_builtins(recipe), "time_server": times}))  # fmt: skip
        return
    click.echo(f"authority of bench {bench} in {folder}: keep this folder, and never copy it to a board")
    click.echo(f"write into the bench file: identity: {folder}")
    click.echo(f"start the broker: {recipe.typed()}")
    if times:
        click.echo(f"keep the boards' time with chrony: {how_to_install(times)}")


def _time_server(folder: Path, listen: str) -> str:
    """Path of what chrony has to be told; empty for boards of this machine, or where the broker has a name only."""
    from firmware_tools.time_server import FILE, server_config
    from hil_config.errors import UsageError
    from hil_config.schema.strict import LOOPBACK

    if listen in LOOPBACK:
        return ""
    try:
        text = server_config(listen)
    except UsageError:
        return ""
    (folder / FILE).write_text(text, encoding="utf-8")
    return str(folder / FILE)


@click.group()
def identity() -> None:
    """List, issue, renew and revoke certificates."""


@identity.command("list")
@FOLDER
@AS_JSON
def list_certificates(folder: Path, as_json: bool) -> None:
    """Every certificate with the days it has left; a warning for those that end soon."""
    from firmware_tools.identity import WARN_DAYS
    from firmware_tools.identity_store import IdentityStore

    now_s = time.time()
    rows = [(one, one.days_left(now_s)) for one in IdentityStore(folder).rows()]
    if as_json:
        table = [{**msgspec.to_builtins(one), "days_left": round(days, 2)} for one, days in rows]
        click.echo(json.dumps({"certificates": table}))
        return
    for one, days in rows:
        state = "revoked" if one.revoked else "ended" if days < 0 else "soon" if days < WARN_DAYS else "ok"
        click.echo(f"{state:8} {one.name:20} {days:7.1f} days left  serial {one.serial}")


@identity.command()
@click.argument("name")
@FOLDER
@AS_JSON
def renew(name: str, folder: Path, as_json: bool) -> None:
    """A new key and certificate for broker, ground or monitor. Boards renew with `hil provision`.

    A broker of this machine shows its new one from then on.
    """
    from firmware_tools.broker_reload import reload_brokers
    from firmware_tools.identity import BROKER
    from firmware_tools.identity_store import IdentityStore

    done = IdentityStore(folder).renew(name)
    told = reload_brokers(folder / BROKER / "crl.pem") if name == BROKER else ()
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(done), "brokers": told}))
        return
    click.echo(f"{name}: {done.days_left(time.time()):.0f} days")
    if told:
        click.echo(f"the broker (process {', '.join(map(str, told))}) shows it from now on")
    elif name == BROKER:
        click.echo("no broker with this identity was found on this machine: restart it where it runs")


@identity.command()
@click.argument("name")
@FOLDER
@AS_JSON
def revoke(name: str, folder: Path, as_json: bool) -> None:
    """Nobody shall believe this party's certificates any more."""
    from firmware_tools.broker_reload import reload_brokers
    from firmware_tools.identity_store import IdentityStore

    done = IdentityStore(folder).revoke(name)
    told = reload_brokers(folder / "broker" / "crl.pem")
    if as_json:
        click.echo(json.dumps({"revoked": msgspec.to_builtins(done), "brokers": told}))
        return
    click.echo(f"{name}: {len(done)} certificates revoked; `hil provision all` brings the list to the boards")
    if told:
        click.echo(
            f"the broker (process {', '.join(map(str, told))}) refuses {name} from now on; a connection that is open "
            "stays until it ends: switch that board off, or restart the broker"
        )
    else:
        click.echo("no broker with this list was found on this machine: restart it where it runs")


@identity.command()
@click.argument("name")
@click.argument("request", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the certificate goes.")
@FOLDER
def issue(name: str, request: Path, out: Path, folder: Path) -> None:
    """Sign a board's certificate request by hand."""
    from firmware_tools.identity import write_private
    from firmware_tools.identity_store import IdentityStore

    write_private(out, IdentityStore(folder).sign(name, request.read_bytes()), 0o644)
    click.echo(f"{name}: certificate in {out}")
