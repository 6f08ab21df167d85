"""`hil top`: a run in the terminal, while it goes on or afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from ground_controller.live.follower import Follower
from ground_controller.live.run_facts import run_to_watch
from ground_controller.live.terminal import screen
from hil_config.errors import InvalidRunError


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--once", is_flag=True, help="Print how it stands and end.")
@click.option("--every", "every_s", type=click.FloatRange(0.1), default=0.5, show_default=True, help="Seconds.")
def top(run: Path | None, once: bool, every_s: float) -> None:
    """Show how RUN stands: nodes, tokens a second, what happened and why.

    Without RUN it is the newest run under runs/; of a folder of runs, the newest in it. It reads the
    journal alone; a run does not notice it. It ends when the run does, or with Ctrl-C.
    """
    folder = run_to_watch(run)
    console = Console()
    follower = Follower.open(folder)
    once = once or not console.is_terminal
    while follower is None:
        if once:
            raise InvalidRunError(f"{folder}: the run has not begun yet", f"hil top {folder}")
        time.sleep(every_s)
        follower = Follower.open(folder)
    try:
        _read_all(follower)
        if not once and not follower.ended:
            _follow(follower, console, every_s)
        height = 1_000 if once else console.height - 1
        console.print(screen(follower.facts, follower.now(), follower.quiet_s, follower.rate, console.width, height))
    finally:
        follower.close()


def _read_all(follower: Follower) -> None:
    while follower.read():
        pass


def _follow(follower: Follower, console: Console, every_s: float) -> None:
    """On the terminal's other screen, until the run ends or a person interrupts."""
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not follower.ended:
                _read_all(follower)
                shown = screen(
                    follower.facts, follower.now(), follower.quiet_s, follower.rate, console.width, console.height
                )
                live.update(shown, refresh=True)
                time.sleep(every_s)
        _read_all(follower)
    except KeyboardInterrupt:
        pass  # how one leaves; the last state is printed
