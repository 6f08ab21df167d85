"""`hil-agent`: the one command of a board. Standard library only at the door, so that it starts anywhere."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from hil_config.errors import EXIT_INTERRUPT, HilError
from node_agent import VERSION
from node_agent.config import read_config

SWITCH_S = 0.0005


def _run(args: argparse.Namespace) -> int:
    from node_agent.service import Agent  # onnxruntime loads here, not for --help

    # A thread that computes in Python hands over the interpreter after this long; the default of 5 ms would be
    # added to every frame that becomes due meanwhile.
    sys.setswitchinterval(SWITCH_S)
    agent = Agent(read_config(args.config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.serve()
    return 0


def _sensors(args: argparse.Namespace) -> int:
    from node_agent.sensors.listing import as_json, as_table, look

    listing = look(read_config(args.config))
    print(as_json(listing) if args.json else as_table(listing))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hil-agent", description="Serves expert shards and reports telemetry.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, work, text in (
        ("run", _run, "serve until told to stop"),
        ("sensors", _sensors, "what this board can measure, and what it lacks"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, required=True, help="the agent's JSON configuration")
        command.set_defaults(work=work)
        if name == "sensors":
            command.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(argv)
    try:
        return int(args.work(args))
    except HilError as error:
        print(
            f"error: {error.message}",
            *([f"hint: {error.hint}"] if error.hint else []),
            sep="\n",
            file=sys.stderr,
        )
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPT


if __name__ == "__main__":
    sys.exit(main())
