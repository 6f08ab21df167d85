"""`hil serve`: an OpenAI-compatible endpoint in front of a run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from ground_controller.endpoint.run_link import RunLink
from ground_controller.endpoint.web import read_token, serve


@click.command("serve")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, help="Port to listen at; 0: a free one.")
@click.option(
    "--token-file", type=click.Path(path_type=Path),
    help="File of mode 0600 with the bearer token that clients must show. Needed beyond loopback.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, once requests are taken.")
def serve_command(folder: Path, host: str, port: int, token_file: Path | None, as_json: bool) -> None:
    """Take OpenAI requests for the run in FOLDER, until it ends.

    The run must take requests: `workload.arrivals: requests` in its campaign file.
    """
    token = "" if token_file is None else read_token(token_file)

    def told(address: str, link: RunLink) -> None:
        said = link.described
        if as_json:
            click.echo(json.dumps({"base_url": address, "model": said.model, "run": said.run, "token": bool(token)}))
            return
        click.echo(f"serving {said.model} of run {said.run} at {address}; Ctrl-C ends the endpoint, not the run")
        click.echo(f"try it   curl {address}/completions -H 'content-type: application/json' -d "
                   f"'{{\"model\": \"{said.model}\", \"prompt\": \"The\"}}'")  # fmt: skip

    if asyncio.run(serve(folder, host, port, token, told)):
        click.echo(f"the run takes no more requests, so the endpoint ends: hil top {folder} says why", err=True)
