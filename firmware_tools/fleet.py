"""One piece of work on many boards at once, with one summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import click
import msgspec

from hil_config.errors import HilError

_T = TypeVar("_T")
AT_ONCE = 16


class Outcome(msgspec.Struct, Generic[_T], frozen=True):
    """What became of one board: a result or an error."""

    board: str
    result: _T | None = None
    error: str = ""
    hint: str = ""
    exit_code: int = 0


def on_all(
    boards: Sequence[str],
    work: Callable[[str], _T],
    at_once: int = AT_ONCE,
    stop: Callable[[], None] | None = None,
) -> tuple[Outcome[_T], ...]:
    """Do `work(board)` for every board; one that fails with a HilError does not stop the others.

    Args:
        stop: called on Ctrl-C; it makes `work` end soon.
    """

    begun: set[str] = set()

    def one(board: str) -> Outcome[_T]:
        begun.add(board)
        try:
            return Outcome(board, work(board))
        except HilError as error:
            return Outcome(board, None, error.message, error.hint, error.exit_code)
        finally:
            begun.discard(board)

    if len(boards) == 1:
        return (one(boards[0]),)
    with ThreadPoolExecutor(max(1, min(at_once, len(boards))), "board") as pool:
        try:
            return tuple(pool.map(one, boards))
        except KeyboardInterrupt:
            if stop is not None:
                stop()
            how = "by itself" if stop is None else "at its next step"
            click.echo(f"\nstopping: what was begun on {', '.join(sorted(begun))} ends {how}", err=True)
            raise


def on_all_rolling(
    boards: Sequence[str], work: Callable[[str], _T], batch: int | None, keep_going: bool = False
) -> tuple[tuple[Outcome[_T], ...], tuple[str, ...]]:
    """As `on_all`, `batch` boards at a time (None: all at once); a failure lets its batch end and begins no other,
    unless `keep_going`.

    Returns:
        (outcomes of the boards that were begun, boards that were not)
    """
    size = batch or max(1, len(boards))
    done: list[Outcome[_T]] = []
    for at in range(0, len(boards), size):
        outcomes = on_all(boards[at : at + size], work)
        done.extend(outcomes)
        if any(one.error for one in outcomes) and not keep_going:
            return tuple(done), tuple(boards[at + size :])
    return tuple(done), ()


def worst(outcomes: Sequence[Outcome[_T]]) -> HilError | None:
    """One error for all that failed, with the exit code of the first; None if none did."""
    failed = [one for one in outcomes if one.error]
    if not failed:
        return None
    if len(outcomes) == 1:
        error = HilError(failed[0].error, failed[0].hint)
    else:
        lines = [f"{len(failed)} of {len(outcomes)} boards failed"]
        lines += [f"  {one.board}: {one.error}" + (f" (hint: {one.hint})" if one.hint else "") for one in failed]
        error = HilError("\n".join(lines), f"again for those alone: {' '.join(one.board for one in failed)}")
    error.exit_code = failed[0].exit_code
    return error
