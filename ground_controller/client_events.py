"""What happens to requests at the client, past tense: recorded before anything follows from it."""

from __future__ import annotations

import msgspec


class TokenArrived(msgspec.Struct, frozen=True):
    """One token at the client. `since_us`: since the token before it, or since the request began (the first)."""

    request: int
    attempt: int
    position: int
    token: int
    logprob: float
    margin: float
    degraded: tuple[str, ...]
    first: bool
    since_us: float


class RequestBegan(msgspec.Struct, frozen=True):
    """`want`: the most tokens that are asked for; 0 where the record does not say."""

    request: int
    domain: str
    prompt: str
    prompt_tokens: tuple[int, ...]
    want: int = 0


class AttemptBegan(msgspec.Struct, frozen=True):
    """`reason` is empty for the first attempt; `waited_us` since the last sign of progress."""

    request: int
    attempt: int
    gateways: tuple[str, ...]
    reason: str
    waited_us: float


class RequestEnded(msgspec.Struct, frozen=True):
    request: int
    tokens: tuple[int, ...]
    text: str
    reason: str
