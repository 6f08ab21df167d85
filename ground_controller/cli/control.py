"""`hil control`: steer a run that is under way."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ground_controller.steering import Request, ask
from hil_config.errors import HilError, UsageError
from hil_config.wire.link_fault import LinkFault

_RUN = click.argument("run", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group()
def control() -> None:
    """Pause, resume, seek, step or disturb a run that is under way; RUN is its folder."""


def _steer(run: Path, request: Request, as_json: bool) -> None:
    answer = ask(run, request)
    if as_json:
        told = {"action": request.action, "scenario_s": answer.scenario_s, "paused": answer.paused}
        click.echo(json.dumps(told))
        return
    state = "paused" if answer.paused else "running"
    click.echo(f"{request.action}: {state} at scenario second {answer.scenario_s:.3f}")


@control.command("pause")
@_RUN
@_JSON
def pause_command(run: Path, as_json: bool) -> None:
    """Hold scenario time: links keep their state, the twin stands still, generation goes on."""
    _steer(run, Request("pause"), as_json)


@control.command("resume")
@_RUN
@_JSON
def resume_command(run: Path, as_json: bool) -> None:
    """Let scenario time go on from where it stands."""
    _steer(run, Request("resume"), as_json)


@control.command("seek")
@_RUN
@click.argument("second", type=float)
@_JSON
def seek_command(run: Path, second: float, as_json: bool) -> None:
    """Jump to a scenario second. The twin does not live through what is skipped."""
    _steer(run, Request("seek", second), as_json)


@control.command("step")
@_RUN
@click.option("--by", "by_s", type=float, default=0.0, help="Scenario seconds; one tick if left out.")
@_JSON
def step_command(run: Path, by_s: float, as_json: bool) -> None:
    """While paused: go on by so many scenario seconds and stay paused. The twin lives through them."""
    _steer(run, Request("step", by_s), as_json)


@control.command("fault")
@_RUN
@click.option("--from", "source", default="", help="A satellite; any if left out.")
@click.option("--to", "target", default="", help="The other one; any if left out. Both ways.")
@click.option("--start", "start_s", type=float, default=0.0, help="Scenario second.")
@click.option("--end", "end_s", type=float, default=None, help="Scenario second; never if left out.")
@click.option("--down", is_flag=True, help="An outage.")
@click.option("--rate-factor", type=float, default=1.0, help="Multiplies the rate, above 0 to 1.")
@click.option("--extra-delay-ms", type=float, default=0.0, help="Added to the delay.")
@click.option("--extra-loss", type=float, default=0.0, help="Share of frames lost besides the schedule's.")
@_JSON
def fault_command(
    run: Path, source: str, target: str, start_s: float, end_s: float | None, down: bool, rate_factor: float,
    extra_delay_ms: float, extra_loss: float, as_json: bool,
) -> None:  # fmt: skip
    """Disturb links over the schedule, on all nodes, until it ends."""
    if not down and (rate_factor, extra_delay_ms, extra_loss) == (1.0, 0.0, 0.0):
        raise UsageError("fault: nothing would change", "say --down, --rate-factor, --extra-delay-ms or --extra-loss")
    try:
        fault = LinkFault(source, target, start_s, end_s, not down, rate_factor, extra_delay_ms / 1e3, extra_loss)
    except HilError as error:
        raise UsageError(error.message, "hil control fault --help") from error
    _steer(run, Request("fault", fault=fault), as_json)
