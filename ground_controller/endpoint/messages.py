"""What run and web server say to each other over the run's Unix socket: JSON lines, told apart by `type`.

The run says `Described` once; then the server asks and withdraws, and the run answers each `Ask` with `Refused`, or
with `Begun`, its `Tokens` and `Ended`.
"""

from __future__ import annotations

import msgspec

SOCKET = "requests.sock"
MOST_LINE = 16 << 20


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class Described(_Said, frozen=True, tag="described"):
    """The run and its model. `tokenizer` is the JSON of the `tokenizers` library."""

    run: str
    model: str
    context: int
    end_of_text: int
    began_unix_s: int
    tokenizer: str


class Ask(_Said, frozen=True, tag="ask"):
    """`id` is the server's; `prompt` is what the record shows, `tokens` what the gateways get."""

    id: int
    prompt: str
    tokens: tuple[int, ...]
    want: int


class Withdraw(_Said, frozen=True, tag="withdraw"):
    """Nobody waits for it any more."""

    id: int


class Begun(_Said, frozen=True, tag="begun"):
    """`request` is its number in the run's record: `hil explain` knows it by that."""

    id: int
    request: int


class TokenSaid(_Said, frozen=True, tag="token"):
    id: int
    token: int
    degraded: tuple[str, ...] = ()


class Ended(_Said, frozen=True, tag="ended"):
    """`reason`: `length`, `end of text`, or why it was broken off."""

    id: int
    reason: str


class Refused(_Said, frozen=True, tag="refused"):
    """`busy`: the queue is full, later it may not be. Otherwise the request itself is wrong."""

    id: int
    busy: bool
    reason: str


FromServer = Ask | Withdraw
FromRun = Described | Begun | TokenSaid | Ended | Refused

_FROM_SERVER: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)
_FROM_RUN: msgspec.json.Decoder[FromRun] = msgspec.json.Decoder(FromRun)


def line(message: FromServer | FromRun) -> bytes:
    """One message as a line."""
    return msgspec.json.encode(message) + b"\n"


def from_server(data: bytes) -> FromServer:
    """msgspec.ValidationError or DecodeError (both ValueError) if it is none."""
    return _FROM_SERVER.decode(data)


def from_run(data: bytes) -> FromRun:
    return _FROM_RUN.decode(data)
