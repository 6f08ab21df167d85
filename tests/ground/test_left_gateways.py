"""A request that begins again over other gateways is cancelled at those that it leaves."""

from __future__ import annotations

import select
import socket

from ground_controller.client import Client
from hil_config.wire.frames import Cancel, Frame, FrameDecoder, Hello, Refusal, Step, encode_frame


def _read(connection: socket.socket, decoder: FrameDecoder) -> Frame:
    """The next frame but for the greeting."""
    while True:
        while (frame := decoder.next_frame()) is not None:
            if not isinstance(frame, Hello):
                return frame
        data = connection.recv(1 << 16)
        assert data, "the client hung up"
        decoder.receive(data)


def test_the_gateway_that_a_request_leaves_is_told() -> None:
    """It went on to the end for nobody, and kept what it had of the request for as long as it had room."""
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in "ab")
    ways = iter((("a",), ("b",)))
    addresses = {"a": first.getsockname()[:2], "b": second.getsockname()[:2]}
    client = Client("run", addresses, lambda avoid: next(ways), lambda event: None, 0, 60.0)
    try:
        client.begin(1, [5, 6, 7], 5)
        before, reader = first.accept()[0], FrameDecoder()
        before.settimeout(10.0)
        with before, socket.create_connection(client.address) as back:
            begun = _read(before, reader)
            assert isinstance(begun, Step) and begun.attempt == 1
            back.sendall(encode_frame(Hello("a", "run", "a")) + encode_frame(Refusal(0, 1, 1, "a is out of service")))
            while not select.select([second], [], [], 0.01)[0]:
                client.watch()
            left = _read(before, reader)
            assert isinstance(left, Cancel) and (left.request, left.attempt) == (1, 1)
            with second.accept()[0] as after:
                again = _read(after, FrameDecoder())
                assert isinstance(again, Step) and again.attempt == 2, "and nothing is cancelled where it goes on"
    finally:
        client.close()
        first.close()
        second.close()
