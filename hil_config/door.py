"""The `hil` command: one door, whose groups are imported only when they are used.

Here, and only here, errors become messages and exit codes.
"""

from __future__ import annotations

import codecs
import importlib
import io
import math
import os
import sys
import traceback
from importlib import metadata
from typing import TYPE_CHECKING, NoReturn

from hil_config.errors import EXIT_INTERRUPT, EXIT_UNEXPECTED, EnvironmentFault, HilError, UsageError

if TYPE_CHECKING:
    import click

PACKAGE = "spacemoe-hil"
OLDEST_PYTHON = (3, 11)
"""Of the controller; pip installs it for 3.10 as well, which boards have."""

OURS = ("hil_config", "models", "node_agent", "ground_controller", "firmware_tools")

GROUPS: dict[str, tuple[str, str]] = {
    "bench": ("firmware_tools.cli:bench", "Look at a bench and at what this machine has."),
    "flash": ("firmware_tools.flash.cli:flash", "Write images to the disks of boards and prove them."),
    "firstboot": ("firmware_tools.firstboot.cli:firstboot", "Prepare flashed cards for their first boot."),
    "power": ("firmware_tools.power.cli:power", "Switch boards on and off, and prove it."),
    "console": ("firmware_tools.console.cli:console", "Talk to a board over its serial line."),
    "provision": ("firmware_tools.provision.cli:provision", "Enrol boards and see their agents come up."),
    "config": ("ground_controller.cli.config:config", "Check and describe bench and campaign files."),
    "models": ("models.cli:models", "Build, show and verify model shards."),
    "schedule": ("ground_controller.cli.schedule:schedule", "Compile and look at link schedules."),
    "twin": ("ground_controller.cli.twin:twin", "Look at the satellite twin and fit it to a board."),
    "campaign": ("ground_controller.cli.campaign:campaign", "Run and replay campaigns."),
    "serve": ("ground_controller.cli.serve:serve_command", "Put an OpenAI-compatible endpoint in front of a run."),
    "simulate": ("ground_controller.cli.simulate:simulate_command", "Run a campaign on model nodes."),
    "calibrate": ("ground_controller.cli.calibrate:calibrate_command", "Fit board models to a run on real nodes."),
    "fidelity": ("ground_controller.cli.calibrate:fidelity_command", "Compare a run on boards with its simulation."),
    "dashboard": ("ground_controller.cli.dashboard:dashboard", "Show a run in the browser."),
    "top": ("ground_controller.cli.top:top", "Show in the terminal how a run stands."),
    "explain": ("ground_controller.cli.explain:explain", "Say why a token used these experts on these hosts."),
    "control": ("ground_controller.cli.control:control", "Pause, seek, step or disturb a running campaign."),
    "sweep": ("ground_controller.cli.sweep:sweep_command", "Simulate over policies, seeds and parameters."),
    "study": ("ground_controller.cli.study:study", "Answer a question by many modelled runs."),
    "compare": (
        "ground_controller.cli.compare:compare_command",
        "Tell runs apart, with intervals, or say that one cannot.",
    ),
    "report": ("ground_controller.cli.report:report", "Write the report of a run."),
    "metrics": ("ground_controller.cli.metrics:metrics_command", "Serve a bench's live summaries to Prometheus."),
    "export": ("ground_controller.cli.export:export", "Write the tables of a run for other programs."),
}


def _missing(error: ModuleNotFoundError) -> EnvironmentFault:
    """The error of a library that is not installed; a missing module of ours is a defect and goes on."""
    name = (error.name or "").partition(".")[0]
    if not name or name in OURS:
        raise error
    return EnvironmentFault(
        f"the Python package that provides {name!r} is not installed in {sys.prefix}",
        f"{sys.executable} -m pip install '{PACKAGE}[ground]'",
    )


def _resolve(target: str) -> click.Command:
    module, _, name = target.partition(":")
    if module.startswith("ground_controller") and sys.version_info < OLDEST_PYTHON:
        found, wanted = (".".join(map(str, one)) for one in (sys.version_info[:3], OLDEST_PYTHON))
        raise EnvironmentFault(
            f"this command wants Python {wanted} or newer, {sys.prefix} has {found}",
            f"install {PACKAGE}[ground] for a newer one; what a board needs of this one is hil-agent",
        )
    command: click.Command = getattr(importlib.import_module(module), name)
    _prepare(command)
    return command


def _prepare(command: click.Command) -> None:
    """Let a group's help wrap what its commands do, which click cuts at the width of the terminal; and let no option be
    nan, which lies within every range of click's, or infinite."""
    import click

    for param in command.params:
        if isinstance(param.type, click.types.FloatParamType) and param.callback is None:
            param.callback = _finite
    for sub in command.commands.values() if isinstance(command, click.Group) else ():
        sub.short_help = sub.short_help or sub.get_short_help_str(limit=1_000)
        _prepare(sub)


def _finite(context: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        import click

        raise click.BadParameter(f"{value} is no number", context, param)
    return value


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown (run from a source tree that is not installed)"


def _command() -> click.Group:
    """The group of `GROUPS`; `hil --help` shows the table and imports none of them."""
    import click

    class Door(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(GROUPS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return _resolve(GROUPS[cmd_name][0]) if cmd_name in GROUPS else None

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, line) for name, (_, line) in GROUPS.items()])

    door = Door(
        name="hil",
        help="Boards serve the experts of a language model inside a replayed orbit.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(_version(), prog_name="hil", message="%(prog)s %(version)s")(door)


def run(arguments: list[str]) -> int:
    """Act on a command line and return the exit code; what went wrong is told on stderr."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
        return code
    except HilError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPT
    except BrokenPipeError:
        # Whoever read our output has gone (`hil ... | head`); without this Python complains at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # the one place: what nobody expected is shown whole
        traceback.print_exc()
        print(f"error: unexpected, in hil {_version()}: please report the lines above", file=sys.stderr)
        return EXIT_UNEXPECTED


def _invoke(arguments: list[str]) -> int:
    try:
        import click

        try:
            result = _command().main(args=arguments, prog_name="hil", standalone_mode=False)
        except click.ClickException as error:
            raise _usage(error) from error
        except click.Abort as error:
            raise KeyboardInterrupt from error
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> UsageError:
    """click's complaint in our form. A group without a command complains with its whole help text."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else "hil --help"
    message = error.format_message()
    if context and message == context.get_help():
        return UsageError(f"{context.command_path}: which command?\n{message}", hint)
    return UsageError(message, hint)


def _shown(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of a file's name that are no text as they are; what the encoding has no character for as ?."""
    assert isinstance(error, UnicodeEncodeError)
    found = (ord(one) - 0xDC00 for one in error.object[error.start : error.end])
    return bytes(byte if 0x80 <= byte <= 0xFF else ord("?") for byte in found), error.end


def main() -> NoReturn:
    """Entry point of `hil`. Nothing that a terminal cannot show ends a command."""
    codecs.register_error(PACKAGE, _shown)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=PACKAGE)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
