"""Frame round trip against a bare socket: one expert call and its reply between two processes, 2048 wide."""

from __future__ import annotations

import multiprocessing
import socket
from multiprocessing.connection import Connection
from queue import SimpleQueue

import numpy as np

from benchmarks.median import median_us
from hil_config.wire.frames import ExpertCall, ExpertReply, Frame, Hello, encode_frame
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.outgoing import UNSHAPED, OutgoingLink

WIDTH, ROUNDS, SERIES = 2048, 400, 15


def _link(peer: str, port: int) -> OutgoingLink:
    hello = encode_frame(Hello("bench", "bench", "boot"))
    return OutgoingLink(peer, ("127.0.0.1", port), hello, lambda: UNSHAPED, lambda name, reason: None)


def _frame_echo(pipe: Connection) -> None:
    """The far side: decodes each call, answers with a reply of the same hidden state."""
    crew = Crew()
    links: list[OutgoingLink] = []

    def handle(peer: str, frame: Frame, received_s: float) -> None:
        if isinstance(frame, ExpertCall):
            reply = ExpertReply(frame.call, 0, 0.0, 0.0, frame.rows, frame.width, frame.hidden)
            links[0].send(encode_frame(reply))

    listener = Listener(crew, "127.0.0.1", 0, lambda hello: "", handle, lambda peer, reason: None)
    crew.start("listener", listener.work)
    pipe.send(listener.address[1])
    links.append(_link("near", pipe.recv()))
    pipe.send("ready")
    pipe.recv()
    links[0].close()
    listener.close()
    crew.dismiss()


def _bare_echo(pipe: Connection, ask: int, answer: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = bytes(answer)
        buffer = memoryview(bytearray(ask))
        with connection:
            while _read(connection, buffer):
                connection.sendall(data)


def _read(sock: socket.socket, buffer: memoryview) -> bool:
    at = 0
    while at < len(buffer):
        count = sock.recv_into(buffer[at:])
        if not count:
            return False
        at += count
    return True


def run() -> None:
    """Interleaved series, medians of medians."""
    hidden = np.random.default_rng(0).standard_normal((1, WIDTH)).astype(np.float32)
    call = ExpertCall(1, 1, 0, 1, WIDTH, 2, np.array([[1, 2]], np.int16), np.array([[0.6, 0.4]], np.float32), hidden)
    ask = len(encode_frame(call))
    answer = len(encode_frame(ExpertReply(1, 0, 0.0, 0.0, 1, WIDTH, hidden)))
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    echo = context.Process(target=_frame_echo, args=(far,))
    echo.start()
    bare_near, bare_far = context.Pipe()
    bare = context.Process(target=_bare_echo, args=(bare_far, ask, answer))
    bare.start()
    crew = Crew()
    replies: SimpleQueue[Frame] = SimpleQueue()
    listener = Listener(
        crew,
        "127.0.0.1",
        0,
        lambda hello: "",
        lambda peer, frame, s: replies.put(frame),
        lambda peer, reason: None,
    )
    crew.start("listener", listener.work)
    link = _link("far", near.recv())
    near.send(listener.address[1])
    near.recv()
    sock = socket.create_connection(("127.0.0.1", bare_near.recv()))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data, buffer = bytes(ask), memoryview(bytearray(answer))

    def frame_trip() -> None:
        link.send(encode_frame(call))
        replies.get(timeout=5.0)

    def bare_trip() -> None:
        sock.sendall(data)
        _read(sock, buffer)

    pairs = [(median_us(frame_trip, ROUNDS), median_us(bare_trip, ROUNDS)) for _ in range(SERIES)]
    ours, baseline = (float(np.median(side)) for side in zip(*pairs, strict=True))
    print(f"{ask} bytes there, {answer} back: frames {ours:.0f} us, bare socket {baseline:.0f} us, "
          f"ratio {ours / baseline:.2f} (median of {SERIES} interleaved series)")  # fmt: skip
    near.send("done")
    sock.close()
    link.close()
    listener.close()
    crew.dismiss()
    echo.join(5.0)
    bare.join(5.0)
