"""A frame that is due and not out yet is overtaken by none that would be due at once."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from hil_config.wire.frames import Cancel, FrameDecoder, Hello, encode_frame
from hil_config.wire.link_state import LinkState
from node_agent.crew import Crew
from node_agent.link.outgoing import UNSHAPED, OutgoingLink


def test_nothing_overtakes_what_the_links_thread_is_about_to_send() -> None:
    state = LinkState(0.005, 1e9, 0.0, True)
    server, crew = socket.create_server(("127.0.0.1", 0)), Crew()
    hello = encode_frame(Hello("a", "run", "boot"))
    link = OutgoingLink("b", server.getsockname()[:2], hello, lambda: state, lambda peer, reason: None)
    link.open()
    reader, decoder = server.accept()[0], FrameDecoder()
    reader.settimeout(10.0)
    crew.start("link", link.work)
    try:
        with ThreadPoolExecutor(1) as sender, link._sock_lock:  # as if the socket were full for a moment
            assert link.send(encode_frame(Cancel(1, 1)))
            while link._shaper.next_s() is not None:
                pass  # until the thread has it
            state = UNSHAPED
            assert sender.submit(link.send, encode_frame(Cancel(2, 1))).result(10.0), "it waits for the thread"
        got: list[int] = []
        while len(got) < 2:
            while (frame := decoder.next_frame()) is not None:
                got += [frame.request] if isinstance(frame, Cancel) else []
            if len(got) < 2:
                decoder.receive(reader.recv(1 << 16))
        assert got == [1, 2]
        assert link.take_count().frames == 2
    finally:
        link.close()
        crew.dismiss()
        reader.close()
        server.close()
