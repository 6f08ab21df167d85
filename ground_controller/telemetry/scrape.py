"""Serves /metrics over HTTP to Prometheus and nothing else to nobody else."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ground_controller.fleet.summaries import Summaries
from ground_controller.live.access import Access
from ground_controller.telemetry.exposition import CONTENT_TYPE, exposition
from hil_config.errors import EnvironmentFault

PATH = "/metrics"
REQUEST_S = 10.0


class Scraped(ThreadingHTTPServer):
    """`serve_forever` until `shutdown`. With port 0 `server_address` tells which one it got.

    Raises:
        EnvironmentFault: the address cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, summaries: Summaries, access: Access) -> None:
        self.summaries = summaries
        self.access = access
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise EnvironmentFault(f"{host}:{port}: {error.strerror}", "choose another --port or --host") from error

    def page(self) -> str:
        heard = self.summaries
        return exposition(heard.bench, heard.heard(), heard.connected, heard.unread(), time.monotonic())


class _Handler(BaseHTTPRequestHandler):
    server: Scraped
    timeout = REQUEST_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        access = self.server.access
        if not access.knows_host(self.headers.get("Host", "")):
            self._answer(403, "text/plain", "this Host is not this machine\n")
        elif not access.knows_token(given if kind == "Bearer" else ""):
            self._answer(401, "text/plain", "wanted: Authorization: Bearer TOKEN\n")
        elif self.path.partition("?")[0] != PATH:
            self._answer(404, "text/plain", f"only {PATH} is here\n")
        else:
            self._answer(200, CONTENT_TYPE, self.server.page())

    def _answer(self, code: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every second is no news."""
