"""Decode over three processes (gateway and two expert hosts) against llama.cpp in one, same shape, int4 and Q4_0."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from benchmarks.bare_decode import HOSTS, Bare
from benchmarks.dataplane import Fleet, StepTime
from benchmarks.shapes import OLMOE_4, OLMOE_16, SMALL, Shape, prepare_gguf, prepare_shards
from node_agent.wake_latency import AS_IT_IS, hold

SERIES = 5
TOKENS = 48
BLOCKS = (32, 128)
"""Weights to a scale. With float32 scales 5 and 4.25 bits a weight; Q4_0 has 4.5: blocks of 32, float16 scales."""

THREADS = 2
"""Of llama.cpp. A gateway has two for what is worth it, as an agent has (`threads_for`); each host has one."""


def _llama(path: Path, tokens: int) -> list[float]:
    """Milliseconds of each token of one series, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.llama_cpp_baseline", str(path), str(THREADS), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr[-500:])
    return [float(line) for line in done.stdout.split()]


def _ours(fleet: Fleet, request: int, tokens: int) -> list[float]:
    fleet.begin(request, [5], tokens + 1)
    times = fleet.wait(request, tokens + 1)
    fleet.forget(request)
    return [float(ms) for ms in np.diff(times) * 1e3]


def _breakdown(steps: list[StepTime], total: float) -> str:
    """Of `total` ms from one token's arrival at the client to the next one's."""
    table = np.array([step[2:] for step in steps]) / 1e3
    trunk, expert, head, link, queue, _ = np.median(table, axis=0)
    other = total - trunk - expert - head - link - queue
    critical = np.median(table[:, :3].sum(axis=1))  # of each token; medians of its parts do not add up to it
    return (
        f"  where a token's {total:.2f} ms go: trunk {trunk:.2f}, slower host's experts {expert:.2f}, head {head:.2f}, "
        f"links {link:.2f}, queue at the host {queue:.2f}, gate and the rest {other:.2f}; "
        f"{total / critical:.2f} x its critical-path onnxruntime time"
    )


def _compare(name: str, fleet: Fleet, bare: Bare, gguf: Path) -> None:
    """Interleaved series, so that a busy moment meets all; medians, and the fastest tenth of the tokens."""
    ours: list[float] = []
    theirs: list[float] = []
    least: list[float] = []
    inside: list[float] = []
    for series in range(SERIES):
        ours += _ours(fleet, series, TOKENS)[8:]
        theirs += _llama(gguf, TOKENS)[8:]
        times, runtimes = bare.decode(TOKENS)
        least += times[8:]
        inside += runtimes[8:]
    steps = fleet.take_steps("g")[0]
    middle = [float(np.median(side)) for side in (ours, theirs, least)]
    best = [float(np.percentile(side, 10)) for side in (ours, theirs, least)]
    print(
        f"{name}: ours {middle[0]:.2f} ms/token ({1e3 / middle[0]:.1f}/s), llama.cpp {middle[1]:.2f} "
        f"({1e3 / middle[1]:.1f}/s), rate {middle[1] / middle[0]:.2f} of it; fastest tenth {best[0]:.2f} and "
        f"{best[1]:.2f} ms, {best[1] / best[0]:.2f} (target 0.75; {len(ours)} tokens each, interleaved)"
    )
    print(_breakdown(steps, middle[0]))
    sessions = float(np.median(inside))
    print(
        f"  the same sessions over plain sockets and nothing else: {middle[2]:.2f} ms, rate "
        f"{middle[1] / middle[2]:.2f} of llama.cpp's (fastest tenth {best[1] / best[2]:.2f}), "
        f"{middle[2] / sessions:.2f} x its critical-path onnxruntime time; ours takes "
        f"{middle[0] / middle[2]:.2f} times as long\n"
        f"  that onnxruntime time alone: {sessions:.2f} ms, rate {middle[1] / sessions:.2f} of llama.cpp's"
    )


def _kill(shape: Shape, fleet: Fleet) -> None:
    """SIGKILL to one of the two hosts in the middle of a generation."""
    request, tokens = 10_000, 3 * TOKENS
    fleet.begin(request, [5], tokens)
    fleet.wait(request, TOKENS)
    killer = threading.Thread(target=fleet.kill, args=("h2",))
    killer.start()
    times = np.array(fleet.wait(request, tokens))
    killer.join()
    gap = float(np.diff(times)[TOKENS - 1 :].max()) * 1e3
    after = float(np.median(np.diff(times)[-TOKENS // 2 :])) * 1e3
    print(
        f"{shape.name}, host killed at token {TOKENS}: all {tokens} tokens came; "
        f"longest wait {gap:.0f} ms, then {after:.2f} ms/token on the host that is left (llama.cpp's RPC client aborts)"
    )


def run() -> None:
    """Needs the extra `bench`; HIL_BENCH_FULL=1 adds all 16 layers (12 GB of memory, 5 GB of disk). With
    HIL_BENCH_AWAKE=1 no core sleeps, whoever is measured."""
    if importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None:
        print("left out: the baseline is not installed; pip install -e '.[bench]' (llama.cpp is compiled)")
        return
    awake = hold(Path("/"), 0 if os.environ.get("HIL_BENCH_AWAKE") else AS_IT_IS)
    if awake.facts:
        print("no core sleeps meanwhile (wake_latency_us 0), for all that is measured")
    for shape in (OLMOE_4, SMALL, *((OLMOE_16,) if os.environ.get("HIL_BENCH_FULL") else ())):
        copies = 1 if shape is OLMOE_16 else 2
        for block in BLOCKS:
            shards = prepare_shards(shape, block)
            fleet = Fleet(shards, ("g",), HOSTS, copies, own_cores=True)
            bare = Bare(shards)
            try:
                _compare(f"{shape.name}, blocks of {block}", fleet, bare, prepare_gguf(shape))
                if copies > 1 and block == BLOCKS[0]:
                    _kill(shape, fleet)
            finally:
                bare.close()
                fleet.close()
    awake.close()
