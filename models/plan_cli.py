"""`hil models plan`: what a model needs on which boards, from its config.json alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from hil_config.errors import ConfigError, UsageError
from hil_config.wire.manifest import Precision

PRECISIONS = click.Choice(["fp32", "fp16", "int8", "int4"])


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--boards", "boards", multiple=True, default=("raspberry-pi-5=8", "jetson-orin-nano=4"), show_default=True,
    metavar="PROFILE=COUNT", help="Boards of a profile; repeat for several kinds.",
)  # fmt: skip
@click.option("--precision", type=PRECISIONS, default="int4", show_default=True, help="Of the experts.")
@click.option("--trunk-precision", type=PRECISIONS, default="int8", show_default=True, help="Of everything else.")
@click.option("--gateways", type=int, default=2, show_default=True, help="Boards that share the trunk.")
@click.option("--positions", type=int, default=4096, show_default=True, help="Key-value cache, all requests together.")
@click.option("--copies", type=int, default=1, show_default=True, help="Replicas of every expert.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def plan(
    config: Path | None, boards: tuple[str, ...], precision: Precision, trunk_precision: Precision, gateways: int,
    positions: int, copies: int, as_json: bool,
) -> None:  # fmt: skip
    """Print who would hold what of the model in CONFIG (a config.json or its folder; default: the reference model).

    Sizes are computed, not measured. No weights are needed. Ends with exit code 2 if it does not fit.
    """
    from models.config_file import read_json
    from models.families import describe
    from models.locate import reference_checkpoint
    from models.shard_plan import plan_boards

    given = config or reference_checkpoint()
    path = given / "config.json" if given.is_dir() else given
    d = describe(path, read_json(path))
    found = plan_boards(d, _boards(boards), precision, trunk_precision, gateways, positions, copies)
    if as_json:
        click.echo(json.dumps({"model": d.family, "fits": found.fits, **asdict(found)}))
    else:
        shared = " and a shared one" if d.always_on else ""
        click.echo(
            f"{d.family}: {d.decoder_layers} layers, {d.layers} of them with {d.router.experts} experts of "
            f"{d.expert.width}{shared}, top {d.router.top_k}, hidden {d.hidden}\n"
            f"shards {_gb(found.disk_bytes)}: experts {_gb(found.expert_bytes)} {precision}, "
            f"trunk {_gb(found.trunk_bytes)} {trunk_precision}; {copies} of each expert, cache of {positions} positions"
        )
        table = Table("board", "trunk layers", "experts", "GB used", "GB usable", "GB free")
        for board in found.boards:
            sizes = [f"{size / 1e9:.2f}" for size in (board.used_bytes, board.usable_bytes, board.free_bytes)]
            table.add_row(board.name, _ranges(board.layers), str(len(board.experts)), *sizes)
        Console().print(table)
    if not found.fits:
        short = [board.name for board in found.boards if board.free_bytes < 0]
        raise UsageError(
            f"{path}: does not fit: {', '.join(short)} would lack memory",
            "add --boards, lower --precision, --trunk-precision, --positions or --copies",
        )


def _boards(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """(name, memory in bytes) of each board of `profile=count` texts."""
    from hil_config.schema.profiles import load_profile, profile_names

    out: list[tuple[str, int]] = []
    for text in texts:
        name, _, count = text.partition("=")
        if not count.isdigit() or not 1 <= int(count) <= 1000:
            raise UsageError(f"--boards {text!r}: wanted PROFILE=COUNT", f"profiles: {', '.join(profile_names())}")
        try:
            profile = load_profile(name)
        except ConfigError as error:
            raise UsageError(
                f"--boards {text!r}: no such profile", f"profiles: {', '.join(profile_names())}"
            ) from error
        out += [(f"{name}-{n}", profile.memory_mb * 1_000_000) for n in range(1, int(count) + 1)]
    return out


def _ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 -> 0-2, 5."""
    runs = [list(run) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{r[0][1]}-{r[-1][1]}" if len(r) > 1 else str(r[0][1]) for r in runs) or "-"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
