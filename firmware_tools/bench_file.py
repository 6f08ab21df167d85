"""Commands that work on boards find the bench file and its boards here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from hil_config.errors import UsageError

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

_F = TypeVar("_F", bound=Callable[..., object])

BENCH_OPTION = click.option(
    "--bench",
    "bench_file",
    type=click.Path(path_type=Path),
    default=Path("bench.yaml"),
    show_default=True,
    envvar="HIL_BENCH",
    help="The bench file.",
)


def boards_of(bench_file: Path, names: tuple[str, ...]) -> tuple[Bench, tuple[Board, ...]]:
    """The named boards; `all` stands for every board but model boards, which are no things to work on.

    Raises:
        ConfigError: see `load_bench`. UsageError: no such board, or none at all.
    """
    from hil_config.schema.load import load_bench

    bench = load_bench(bench_file)
    known = {board.name: board for board in bench.boards}
    if names == ("all",):
        real = tuple(board for board in bench.boards if board.kind != "model")
        if not real:
            raise UsageError(f"{bench_file} has model boards alone", "name one of another kind")
        return bench, real
    for name in names:
        if name not in known:
            raise UsageError(f"{bench_file} has no board {name!r}", f"boards: {', '.join(known)}, or all")
    return bench, tuple(known[name] for name in dict.fromkeys(names))
