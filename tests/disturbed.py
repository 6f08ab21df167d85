"""Messages of any content that their types allow, some of it nearly right. Not a test."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from hil_config.errors import RemoteProtocolError
from hil_config.wire.messages import decode, encode

NUMBERS = (0, 1, 2, 3, 5, -1, 63, 1000, 2**31, 2**40, -(2**62), 2**63 - 1)
AMOUNTS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e17, 1.7e308, -1e300)
TEXTS = ("", "a", "b", "alpha", "nobody", "int8", "x" * 300, "<b>&\"'", "AAAA", "//8A", "AAAAAAAA")


def disturbed(draw: random.Random, data: bytes, within: str = "") -> bytes:
    """The JSON document with a few places changed, in its member `within` where one is named."""
    document = json.loads(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        depth = draw.choice((1, 2, 3, 9))  # most places are deep down
        places = list(_places(document[within] if within else document, depth))
        if places:
            container, key = draw.choice(places)
            container[key] = _another(draw, container[key])
    return json.dumps(document).encode()


def disturb(draw: random.Random, message: msgspec.Struct) -> Any:
    """Another message of its type."""
    while True:
        try:
            return decode(disturbed(draw, encode(message)), type(message))
        except RemoteProtocolError:
            continue


def _places(value: Any, depth: int) -> Iterator[tuple[Any, Any]]:
    """(container, key) of what is in a document, down to some depth."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        if depth > 1:
            yield from _places(value[key], depth - 1)


def _another(draw: random.Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return draw.choice(NUMBERS if isinstance(value, int) else AMOUNTS)
    if isinstance(value, str):
        return draw.choice((*TEXTS, value[: len(value) // 8 * 4]))
    if isinstance(value, list):
        return draw.choice(([], value[1:], value + value[:1], value[::-1]))
    return {} if isinstance(value, dict) else draw.choice((None, 1.0, -5.0))
