"""Loops compiled by numba where it is installed (extra `fast`); every one has a numpy or plain twin beside it.

`HIL_COMPILED=0` in the environment chooses the twins. Both give the same numbers; tests hold them to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _numba() -> Callable[..., Any] | None:
    if os.environ.get("HIL_COMPILED") == "0":
        return None
    try:
        from numba import njit
    except ImportError:
        return None
    compiler: Callable[..., Any] = njit
    return compiler


_NJIT = _numba()

COMPILED: bool = _NJIT is not None
"""Whether `compiled` compiles. Callers choose their plain twin where it does not."""


def compiled(function: _Function) -> _Function:
    """`function` as machine code, cached on disk between processes, releasing the GIL; itself without numba. Where
    nobody may write (a package of root's, a user without a home) each process compiles for itself.

    No fast-math: sums keep the order they are written in, so compiled and plain results are equal.
    """
    if _NJIT is None:
        return function
    try:
        result: _Function = _NJIT(cache=True, nogil=True)(function)
    except RuntimeError:  # numba's, of no place for a cache
        result = _NJIT(nogil=True)(function)
    return result
