"""`hil-agent`: the one command of a board. Standard library only at the door, so that it starts anywhere."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from pathlib import Path

from hil_config.errors import EXIT_INTERRUPT, EXIT_UNEXPECTED, HilError
from node_agent import VERSION

SWITCH_S = 0.0005


def _run(args: argparse.Namespace) -> int:
    from node_agent.config import read_config
    from node_agent.log import start_log
    from node_agent.starts import Starts, state_folder

    config = read_config(args.config)
    start_log(config.log_level)
    starts = Starts(state_folder(config))  # before onnxruntime is loaded: that alone can end the process
    try:
        from node_agent.service import Agent

        # A thread that computes in Python hands over the interpreter after this long; the default of 5 ms would be
        # added to every frame that becomes due meanwhile.
        sys.setswitchinterval(SWITCH_S)
        agent = Agent(config, starts)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        agent.serve()
    except HilError:
        starts.was_refused()
        raise
    return 0


def _sensors(args: argparse.Namespace) -> int:
    from node_agent.config import read_config
    from node_agent.sensors.listing import as_json, as_table, look

    listing = look(read_config(args.config))
    print(as_json(listing) if args.json else as_table(listing))
    return 0


def _self_test(args: argparse.Namespace) -> int:
    from node_agent.config import read_config
    from node_agent.self_test import self_test, show

    return show(self_test(read_config(args.config), frozenset(args.skip)), args.json)


def _unit(args: argparse.Namespace) -> int:
    name = "hil-agent-jetson.service" if args.jetson else "hil-agent.service"
    name = "hil-agent.tmpfiles.conf" if args.tmpfiles else name
    print((Path(__file__).parent / "systemd" / name).read_text(), end="")
    return 0


def _install(args: argparse.Namespace) -> int:
    from node_agent.install import report

    report(args.root, args.jetson, args.check)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hil-agent", description="Serves expert shards and reports telemetry.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="serve until told to stop")
    run.set_defaults(work=_run)
    sensors = commands.add_parser("sensors", help="what this board can measure, and what it lacks")
    sensors.set_defaults(work=_sensors)
    test = commands.add_parser(
        "self-test", help="check clock, spool, sensors, one real shard, identity, port, links and broker"
    )
    test.add_argument("--skip", action="append", default=[], metavar="CHECK", help="leave out a check (repeatable)")
    test.set_defaults(work=_self_test)
    for command in (run, sensors, test):
        command.add_argument("--config", type=Path, required=True, help="the agent's JSON configuration")
    for command in (sensors, test):
        command.add_argument("--json", action="store_true", help="one JSON object")
    unit = commands.add_parser("unit", help="print the systemd unit")
    unit.add_argument("--jetson", action="store_true", help="the one for Jetson boards")
    unit.add_argument("--tmpfiles", action="store_true", help="the rules that let it set power modes without root")
    unit.set_defaults(work=_unit)
    install = commands.add_parser("install", help="write systemd's files for an agent in /opt/hil, where they differ")
    install.add_argument("--jetson", action="store_true", help="for a Jetson board")
    install.add_argument("--check", action="store_true", help="write nothing; exit code 9 if something differs")
    install.add_argument("--root", type=Path, default=Path("/"), help="root of the system to install into")
    install.set_defaults(work=_install)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = _parser().parse_args(argv)
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
    except Exception:  # the one place: what nobody expected is shown whole
        traceback.print_exc()
        print(f"error: unexpected, in hil-agent {VERSION}: please report the lines above", file=sys.stderr)
        return EXIT_UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
