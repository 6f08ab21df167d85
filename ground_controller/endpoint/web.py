"""Who may reach the web server, and its life: from the run's word that it is there to the run's end."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ground_controller.endpoint.app import Endpoint
from ground_controller.endpoint.run_link import RunLink
from ground_controller.live.access import Access, is_loopback
from hil_config.errors import EnvironmentFault, SafetyRefusal

LEAST_TOKEN = 16


def read_token(path: Path) -> str:
    """The bearer token in a file that only its owner may read.

    Raises:
        EnvironmentFault: it cannot be read.
        SafetyRefusal: others may read it, or it is too short.
    """
    make = f"(umask 077; openssl rand -hex 32 > {path})"
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path}: cannot be read: {error}", make) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SafetyRefusal(f"{path}: mode {stat.S_IMODE(mode):04o}, wanted 0600", f"chmod 600 {path}")
    if len(token) < LEAST_TOKEN:
        raise SafetyRefusal(f"{path}: {len(token)} characters, wanted at least {LEAST_TOKEN}", make)
    return token


def _access(host: str, token: str) -> Access:
    """SafetyRefusal if others could use the bench without a token."""
    if not is_loopback(host) and not token:
        raise SafetyRefusal(
            f"--host {host}: whoever reaches it could use the bench", "give --token-file, or stay on 127.0.0.1"
        )
    return Access.of(host, token)


async def serve(folder: Path, host: str, port: int, token: str, told: Callable[[str, RunLink], None]) -> bool:
    """Serve the run in `folder` until it ends. `told` hears the address once it takes requests.

    Returns:
        Whether the run left, and nobody ended the endpoint.
    """
    access = _access(host, token)
    link = await RunLink.open(folder)
    try:
        listening = _listen(host, port)
        server = uvicorn.Server(uvicorn.Config(
            Endpoint(link, access).app(), log_level="warning", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=2,
        ))  # fmt: skip
        end = asyncio.create_task(_end_with(link, server))
        shown = f"[{host}]" if ":" in host else host
        told(f"http://{shown}:{listening.getsockname()[1]}/v1", link)
        await server.serve(sockets=[listening])
        end.cancel()
        return link.over.is_set()
    finally:
        await link.close()


async def _end_with(link: RunLink, server: uvicorn.Server) -> None:
    await link.over.wait()
    server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise EnvironmentFault(f"{host}:{port}: {error.strerror}", "choose another --port") from error
