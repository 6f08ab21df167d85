"""SHA-512 crypt, `$6$`, as /etc/shadow takes it everywhere: Drepper, "Unix crypt using SHA-256 and SHA-512", 2007.

Python's own `crypt` is gone since 3.13. Step numbers are those of the specification.
"""

from __future__ import annotations

import hashlib
import secrets

ROUNDS = 5000
_SIGNS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha512_crypt(password: str, salt: str | None = None) -> str:
    """The shadow string of a password with the default 5000 rounds. `salt`: at most 16 of `_SIGNS`."""
    salt = salt if salt is not None else "".join(secrets.choice(_SIGNS) for _ in range(16))
    key, grain = password.encode(), salt.encode()[:16]
    b = hashlib.sha512(key + grain + key).digest()  # 4-8
    a = hashlib.sha512(key + grain)  # 1-3
    a.update(_stretched(b, len(key)))  # 9-10
    length = len(key)
    while length:  # 11
        a.update(b if length & 1 else key)
        length >>= 1
    digest = a.digest()  # 12
    p = _stretched(hashlib.sha512(key * len(key)).digest(), len(key))  # 13-16
    s = _stretched(hashlib.sha512(grain * (16 + digest[0])).digest(), len(grain))  # 17-20
    for number in range(ROUNDS):  # 21
        c = hashlib.sha512(p if number & 1 else digest)
        if number % 3:
            c.update(s)
        if number % 7:
            c.update(p)
        c.update(digest if number & 1 else p)
        digest = c.digest()
    return f"$6${grain.decode()}${_encoded(digest)}"


def _stretched(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """Step 22: three bytes to four signs, in an order of its own."""
    out = []
    first, second, third = 0, 21, 42
    for _ in range(21):
        value = digest[first] << 16 | digest[second] << 8 | digest[third]
        out += [_SIGNS[value >> shift & 63] for shift in (0, 6, 12, 18)]
        first, second, third = second + 1, third + 1, first + 1
    return "".join(out) + _SIGNS[digest[63] & 63] + _SIGNS[digest[63] >> 6]
