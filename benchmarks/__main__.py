"""Run every benchmark, or those named on the command line, and print their ratios."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "frames",
    "secure",
    "shaper",
    "gate",
    "experts",
    "decode",
    "batching",
    "peer_decode",
    "flash",
    "telemetry",
    "agent_idle",
    "routing",
    "orbits",
    "horizon",
    "loop",
    "policies",
    "heat_ramp",
    "simulate",
    "endpoint",
    "dashboard",
    "report",
)


def main() -> None:
    """`python -m benchmarks [NAME ...]`; each benchmark prints its own lines."""
    for name in sys.argv[1:] or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        print(f"== {(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
        benchmark.run()
        print(flush=True)


if __name__ == "__main__":
    main()
