"""The dashboard's web server: static files, one WebSocket for each page, and explanations of tokens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from ground_controller.explain import explain_token
from ground_controller.live.access import Access
from ground_controller.live.hub import Hub, Page
from ground_controller.live.messages import Ask
from hil_config.errors import EnvironmentFault, HilError

PAGE = Path(__file__).parent / "page"
TOKEN_S = 10.0
"""A page has this long to show its token."""

MOST_ASK_BYTES = 4096
NO_TOKEN, NOT_UNDERSTOOD = 4401, 4400
"""Close codes of the WebSocket, from the range for applications."""

_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Door:
    """Asks every request for its Host, and every WebSocket for its Origin, before anything else looks at it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not self._access.knows_host(host) or not self._access.knows_origin(origin, host):
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def sent(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]  # type: ignore[misc]
        await send(message)

    return sent  # type: ignore[return-value]  # starlette's Message is a MutableMapping of Any


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    response = Response("this name or origin is not of this machine's dashboard\n", 403, media_type="text/plain")
    await response(scope, receive, send)


class Dashboard:
    """The application over one run folder. `failure`: why following the journal ended, if it did; then `stop` was
    called."""

    def __init__(self, folder: Path, access: Access) -> None:
        self.failure: BaseException | None = None
        self.stop: Callable[[], None] = lambda: None
        self._hub = Hub(folder)
        self._access = access
        self._explaining = asyncio.Semaphore(1)

    def app(self) -> ASGIApp:
        routes = [
            Route("/", self._index),
            Route("/why/{number:int}", self._why),
            WebSocketRoute("/live", self._live),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
        return Door(Starlette(routes=routes, lifespan=self._life), self._access)

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._hub.watch())
        watching.add_done_callback(self._watched)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def _watched(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.stop()

    async def _index(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def _why(self, request: Request) -> Response:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if not self._access.knows_token(given if kind.lower() == "bearer" else ""):
            return _json({"error": "no valid token"}, 401)
        try:
            async with self._explaining:  # it reads the whole record
                found = await asyncio.to_thread(explain_token, self._hub.folder, request.path_params["number"])
        except HilError as error:
            return _json({"error": error.message, "hint": error.hint}, 404)
        return _json(found)

    async def _live(self, socket: WebSocket) -> None:
        await socket.accept()
        page = Page()
        tasks: list[asyncio.Task[None]] = []
        try:
            if self._access.token and not await self._has_token(socket):
                await socket.close(NO_TOKEN)
                return
            tasks += [asyncio.create_task(_send(socket, page)), asyncio.create_task(self._hub.join(page))]
            while True:
                await self._hub.answer(page, await _ask(socket))
        except WebSocketDisconnect:
            pass
        except ValueError:  # msgspec's errors
            await socket.close(NOT_UNDERSTOOD)
        finally:
            self._hub.leave(page)
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, WebSocketDisconnect):
                    await task

    async def _has_token(self, socket: WebSocket) -> bool:
        try:
            first = await asyncio.wait_for(_ask(socket), TOKEN_S)
        except (TimeoutError, ValueError):
            return False
        return self._access.knows_token(first.token)


async def _ask(socket: WebSocket) -> Ask:
    text = await socket.receive_text()
    if len(text) > MOST_ASK_BYTES:
        raise ValueError("too long")
    return msgspec.json.decode(text, type=Ask)


async def _send(socket: WebSocket, page: Page) -> None:
    while True:
        message = await page.waiting.get()
        await socket.send_text(message.decode())


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; EnvironmentFault where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "give another --port, or --port 0 for any free one"
        raise EnvironmentFault(f"{host} port {port}: cannot listen there: {error.strerror}", hint) from error


def serve(folder: Path, access: Access, server: socket.socket) -> None:
    """Until a signal ends it; InvalidRunError where the journal turns out to be damaged."""
    dashboard = Dashboard(folder, access)
    config = uvicorn.Config(
        dashboard.app(), log_level="warning", access_log=False, ws="websockets-sansio",
        ws_max_size=MOST_ASK_BYTES, ws_per_message_deflate=False, timeout_graceful_shutdown=2, lifespan="on",
    )  # fmt: skip
    running = uvicorn.Server(config)
    dashboard.stop = lambda: setattr(running, "should_exit", True)
    running.run(sockets=[server])
    if dashboard.failure is not None:
        raise dashboard.failure
