"""What requests may hold, and text that comes in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ground_controller.endpoint.shapes import Refusal, Wanted, parse
from ground_controller.endpoint.text import TextStream
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint


def _parsed(chat: bool, **data: Any) -> Wanted:
    return parse(json.dumps({"model": "m", **data}).encode(), "m", chat=chat)


def test_what_is_wanted() -> None:
    assert _parsed(False, prompt="a") == Wanted("a", 16, False, False, ())
    assert _parsed(False, prompt=["a"], max_tokens=3, n=1, seed=4, top_p=None) == Wanted(
        "a", 3, False, False, ("seed",)
    )
    assert _parsed(False, prompt=[1, 2], stream=True, stream_options={"include_usage": True}) == Wanted(
        [1, 2], 16, True, True, ()
    )
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": parts}]
    assert _parsed(True, messages=messages, max_completion_tokens=5) == Wanted("a\nbc", 5, False, False, ())
    assert _parsed(True, messages=messages).most is None
    assert _parsed(True, messages=messages, max_completion_tokens=None, max_tokens=5).most == 5


@pytest.mark.parametrize(
    ("chat", "data", "param"),
    [
        (False, {}, "prompt"), (False, {"prompt": ["a", "b"]}, "prompt"), (False, {"prompt": [True]}, "prompt"),
        (False, {"prompt": "a", "messages": []}, "messages"), (False, {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        (False, {"prompt": "a", "max_tokens": True}, "max_tokens"), (False, {"prompt": "a", "echo": True}, "echo"),
        (True, {"messages": []}, "messages"), (True, {"messages": ["a"]}, "messages[0].content"),
        (True, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        (True, {"messages": [{"role": "user", "content": ""}]}, "messages"),
        (True, {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, "tools"),
        (False, {"prompt": "a", "stream_options": 3}, "stream_options"), (False, {"prompt": "a", "model": 3}, "model"),
        (False, {"prompt": "a", "stream": "yes"}, "stream"),
    ],
)  # fmt: skip
def test_what_is_refused(chat: bool, data: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        _parsed(chat, **data)
    assert (caught.value.status, caught.value.body["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[1]", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"model": "m", "prompt": "\\ud800 x"}', b'{"model": "\\udfff", "prompt": "a"}',
    ],
)  # fmt: skip
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(Refusal):
        parse(body, "m", chat=False)


def test_text_comes_whole_whatever_the_tokens() -> None:
    tokenizer = read_tokenizer(reference_checkpoint())
    text = "Ünïcode: 空 and 🛰️, then plain."
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    stream = TextStream(tokenizer, 0)
    pieces = [stream.push(token) for token in [*tokens, 0]]
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "".join(pieces) + stream.rest() == str(tokenizer.decode(tokens))
    assert pieces.count("") > 1  # some characters need several tokens
