"""`hil dashboard`: a run in the browser, while it goes on or afterwards."""

from __future__ import annotations

from pathlib import Path

import click

from ground_controller.journal import Journal
from ground_controller.live.access import Access, is_loopback, new_token, read_token
from ground_controller.live.run_facts import run_to_watch
from ground_controller.live.server import listen, serve

PORT = 8470


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File (mode 0600) with the token to be shown.")
def dashboard(run: Path | None, host: str, port: int, token_file: Path | None) -> None:
    """Show RUN in the browser: map, nodes, text, experts, events with causes.

    Without RUN it is the newest run under runs/; of a folder of runs, the newest in it. It is a process of its own
    that reads the run's journal; the run does not notice it. On loopback it asks nobody; on any other address for the
    token in --token-file, or for one that is made up and printed once.
    """
    folder = run_to_watch(run)
    Journal.read(folder, watch=True).close()
    made_up = not is_loopback(host) and token_file is None
    token = new_token() if made_up else read_token(token_file) if token_file is not None else ""
    access = Access.of(host, token)
    server = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{server.getsockname()[1]}/"
    click.echo(f"{folder}\n{address}{f'#token={token}' if made_up else ''}")
    if not access.loopback:
        click.echo(
            "warning: the connection is not encrypted; over a network you do not trust use an SSH tunnel", err=True
        )
    try:
        serve(folder, access, server)
    except KeyboardInterrupt:
        pass  # how one leaves
