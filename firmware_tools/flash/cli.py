"""`hil flash`: write an image to a board's card or disk and prove it."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from firmware_tools.bench_file import BENCH_OPTION, boards_of
from firmware_tools.flash.disk import System
from firmware_tools.flash.job import Job, Order, Plan, Receipt, confirm, disk_of
from firmware_tools.fleet import Outcome, on_all, worst
from firmware_tools.reservation import check_free
from firmware_tools.state import State
from hil_config.errors import HilError, UsageError


@click.command()
@click.argument("boards", nargs=-1, required=True, metavar="BOARD...")
@click.option("--image", required=True, help="File or http(s) address: .img, .xz, .zst, .gz, .zip.")
@click.option("--sha256", default="", help="Hash as published, of the file or of the unpacked image.")
@click.option("--bmap", default="", help="Block map; the one beside the image is found by itself.")
@click.option("--no-bmap", is_flag=True, help="Write every block.")
@click.option("--dry-run", is_flag=True, help="Show what would be written where, and stop.")
@click.option("--yes", multiple=True, metavar="ID", help="Do not ask: the exact id of the disk in the bench file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@BENCH_OPTION
def flash(
    boards: tuple[str, ...], image: str, sha256: str, bmap: str, no_bmap: bool, dry_run: bool, yes: tuple[str, ...],
    as_json: bool, bench_file: Path,
) -> None:  # fmt: skip
    """Write an image to the disks of boards, read it back and leave receipts. `all`: every board but model boards.

    Run it again after a cut or a failure: it goes on where it was and repairs what is wrong.
    """
    _, chosen = boards_of(bench_file, boards)
    state, order = State(bench_file), Order(image, sha256, bmap, not no_bmap)
    jobs = {}
    for board in chosen:
        disk = disk_of(board.name, board.disk)
        jobs[board.name] = Job(
            board.name, disk, int(board.disk.max_gb * 1e9) if board.disk else 0, order, state, System()
        )
    plans = {name: job.plan() for name, job in jobs.items()}
    if dry_run:
        _show_plans(list(plans.values()), as_json)
        return
    for name, plan in plans.items():
        check_free(name, state)
        confirm(plan, yes, _ask)
    outcomes = _run(jobs, plans, _again(boards, order, bench_file))
    if as_json:
        click.echo(json.dumps({"boards": msgspec.to_builtins(outcomes, enc_hook=str)}))
    for one in outcomes:
        if one.result and not as_json:
            click.echo(_sentence(*one.result))
    error = worst(outcomes)
    if error is not None:
        raise error


def _again(boards: tuple[str, ...], order: Order, bench_file: Path) -> str:
    """The same command, as it can be typed."""
    words = ["hil", "flash", *boards, "--image", order.source, "--bench", str(bench_file)]
    words += ["--sha256", order.sha256] if order.sha256 else []
    words += ["--bmap", order.bmap] if order.bmap else []
    return shlex.join(words if order.use_bmap else [*words, "--no-bmap"])


def _run(jobs: dict[str, Job], plans: dict[str, Plan], again: str) -> tuple[Outcome[tuple[Receipt, Path]], ...]:
    stopping = threading.Event()
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:

        def work(name: str) -> tuple[Receipt, Path]:
            tasks: dict[str, TaskID] = {}

            def show(phase: str, done: int, total: int | None) -> None:
                if stopping.is_set():
                    raise HilError(f"board {name}: stopped", again)
                if phase not in tasks:
                    tasks[phase] = bars.add_task(f"{name} {phase}", total=total)
                bars.update(tasks[phase], completed=done)

            return jobs[name].run(plans[name], show)

        try:
            return on_all(list(jobs), work, stop=stopping.set)
        except KeyboardInterrupt:
            click.echo(f"\nstopped; no board that is not done will boot. To go on: {again}", err=True)
            raise


def _ask(question: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            question.replace("Type", "On a terminal one types"), "in a script: --yes ID, the disk's exact id"
        )
    return str(click.prompt(question, err=True))


def _show_plans(plans: list[Plan], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"dry_run": True, "boards": msgspec.to_builtins(plans)}))
        return
    for plan in plans:
        size = "unknown until unpacked" if plan.size is None else f"{plan.size} bytes"
        click.echo(f"{plan.board}: {plan.disk.described()}")
        click.echo(f"  image    {plan.image} (packing {plan.packing}), {size}")
        click.echo(f"  sha256   {plan.sha256}")
        if plan.bmap:
            click.echo(f"  bmap     {plan.bmap}: {plan.bytes_to_write} bytes matter")
        if plan.resumes_at:
            click.echo(f"  resumes  up to byte {plan.resumes_at} is compared and only repaired")
        click.echo(f"  confirm  type {plan.board}, or --yes {plan.disk_id}")


def _sentence(receipt: Receipt, path: Path) -> str:
    result = receipt.result
    rate = result.written / 1e6 / result.write_s if result.write_s else 0.0
    proof = "read back from the medium" if result.readback == "direct" else "read back, perhaps from memory"
    kept = f", {result.kept / 1e6:.1f} MB were there" if result.kept else ""
    return (
        f"{receipt.board}: {result.written / 1e6:.1f} MB written at {rate:.0f} MB/s{kept}, {proof} in "
        f"{result.verify_s:.1f} s and equal; receipt {path}"
    )
