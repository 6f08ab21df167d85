"""A prompt longer than a frame may be goes to its gateway in several steps, of which the last asks for a token."""

from __future__ import annotations

import socket

import numpy as np

from ground_controller.client import Client
from hil_config.wire.frames import MAX_ROWS, FrameDecoder, Hello, Step


def test_a_prompt_of_more_tokens_than_a_frame_has_rows_is_sent_in_pieces() -> None:
    node = socket.create_server(("127.0.0.1", 0))
    prompt = [token % 1000 for token in range(2 * MAX_ROWS + 100)]
    client = Client("run", {"a": node.getsockname()[:2]}, lambda avoid: ("a",), lambda event: None, 0, 60.0)
    try:
        client.begin(1, prompt, 5)
        connection, _ = node.accept()
        decoder, steps = FrameDecoder(), list[Step]()
        with connection:
            while sum(step.rows for step in steps) < len(prompt):
                decoder.receive(connection.recv(1 << 16))
                while (frame := decoder.next_frame()) is not None:
                    if isinstance(frame, Step):
                        steps.append(frame)
                    else:
                        assert isinstance(frame, Hello)
    finally:
        client.close()
        node.close()
    assert [(step.start, step.remaining) for step in steps] == [(0, 0), (MAX_ROWS, 0), (2 * MAX_ROWS, 5)]
    assert np.concatenate([step.tokens for step in steps]).tolist() == prompt
