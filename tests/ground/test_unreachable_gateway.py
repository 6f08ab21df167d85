"""A gateway that says it is there and takes no connection: its requests go on over another one."""

from __future__ import annotations

import socket
import threading
import time

import msgspec

from ground_controller.client import Client
from ground_controller.client_events import AttemptBegan


def test_what_cannot_be_reached_is_avoided_where_there_is_another() -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    nobody = closed.getsockname()[:2]
    closed.close()
    node = socket.create_server(("127.0.0.1", 0))
    events: list[msgspec.Struct] = []
    client = Client(
        "run", {"a": nobody, "b": node.getsockname()[:2]}, lambda avoid: ("b",) if "a" in avoid else ("a",),
        events.append, 0, 60.0,
    )  # fmt: skip
    try:
        client.begin(1, [1, 2, 3], 5)
        deadline, pause = time.monotonic() + 20.0, threading.Event()
        while (attempts := [one for one in events if isinstance(one, AttemptBegan)])[-1].gateways != ("b",):
            assert time.monotonic() < deadline, attempts
            pause.wait(0.01)
            client.watch()
    finally:
        client.close()
        node.close()
    assert [(one.gateways, one.reason) for one in attempts] == [(("a",), ""), (("b",), "gateway a cannot be reached")]
