"""`hil metrics`: a bench's live summaries for Prometheus."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from ground_controller.fleet.summaries import Summaries
from ground_controller.live.access import Access, read_token
from ground_controller.telemetry.scrape import PATH, Scraped
from hil_config.errors import UsageError
from hil_config.schema.load import load_bench
from hil_config.tls import TlsFiles, identity_files

PORT = 9478


@click.command("metrics")
@click.argument("bench_file", type=click.Path(path_type=Path))
@click.option("--broker", help="HOST:PORT of the broker, instead of the bench file's.")
@click.option("--identity", type=click.Path(path_type=Path), help="Certificate to show the broker. Default: monitor's.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File (mode 0600) with the token to be shown.")
def metrics_command(
    bench_file: Path, broker: str | None, identity: Path | None, host: str, port: int, token_file: Path | None
) -> None:
    """Serve /metrics: power, temperature, tokens and spool of each node of a bench, as they are now.

    It is a process of its own that listens at the broker and sends nothing. On loopback it asks nobody; any other
    address needs --token-file (Prometheus: authorization, credentials_file).
    """
    bench = load_bench(bench_file)
    access = Access.of(host, "" if token_file is None else read_token(token_file))
    place = _place(broker, bench.broker.host, bench.broker.port)
    summaries = Summaries(bench.bench, _tls(identity, bench.identity))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Scraped(host, port, summaries, access)
    try:
        summaries.start(*place)
        click.echo(f"http://{host}:{server.server_address[1]}{PATH}")
        server.serve_forever()
    except KeyboardInterrupt:
        pass  # how one leaves
    finally:
        server.server_close()
        summaries.stop()


def _tls(own: Path | None, bench: str | None) -> TlsFiles | None:
    if own is not None:
        return identity_files(own)
    return None if bench is None else identity_files(Path(bench) / "monitor")


def _place(given: str | None, host: str, port: int) -> tuple[str, int]:
    if given is not None:
        name, _, number = given.rpartition(":")
        if not name or not number.isdigit():
            raise UsageError(f"--broker {given}: wanted HOST:PORT, like 127.0.0.1:1883")
        return name, int(number)
    if not port:
        raise UsageError(
            "the bench's broker has port 0: each run has a broker of its own, on a port that is not known beforehand",
            "write a fixed broker.port into the bench file, or give --broker HOST:PORT",
        )
    return host, port
