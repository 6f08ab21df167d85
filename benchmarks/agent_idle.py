"""What an idle agent costs: processor share and memory at 10 Hz and 100 Hz, against the bare interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil

from benchmarks.telemetry import KilledBroker
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from models.build import build_shards
from models.locate import reference_checkpoint

WATCH_S = 20.0


def _cost(folder: Path, port: int, hz: float) -> tuple[float, float]:
    """(percent of one core, resident MB) of an agent that serves nobody."""
    fields = {
        "node": f"idle{hz:g}", "bench": "idle", "broker_host": "127.0.0.1", "broker_port": port,
        "data_host": "127.0.0.1", "data_port": 0, "shards": str(folder / "shards"), "spool": str(folder / "spool"),
        "sample_hz": hz,
        "power_model": {"profile": "raspberry-pi-4b", "idle_w": 2.7, "per_core_w": 0.925, "cores": 4, "cpu_scale": 4.0},
    }  # fmt: skip
    path = folder / f"agent-{hz:g}.json"
    path.write_text(json.dumps(fields))
    fleet = MqttFleet("idle", 1, Inbox())
    fleet.start("127.0.0.1", port)
    process = subprocess.Popen([sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)])
    try:
        fleet.wait_online((f"idle{hz:g}",), 60.0)
        seen = psutil.Process(process.pid)
        pause = threading.Event()
        pause.wait(3.0)
        before = seen.cpu_times()
        pause.wait(WATCH_S)
        after = seen.cpu_times()
        spent = after.user + after.system - before.user - before.system
        return float(spent) / WATCH_S * 100.0, seen.memory_info().rss / 1e6
    finally:
        process.terminate()
        process.wait(20.0)
        fleet.stop()


def run() -> None:
    """Prints one line a rate."""
    code = "import onnxruntime, numpy, psutil, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    bare = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 1e3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_shards(reference_checkpoint(), folder / "shards", ("int8",))
        broker = KilledBroker(folder)
        try:
            for hz in (10.0, 100.0):
                percent, memory_mb = _cost(folder, broker.port, hz)
                print(
                    f"idle agent at {hz:g} Hz: {percent:.2f} % of one core, {memory_mb:.0f} MB resident; an "
                    f"interpreter with onnxruntime loaded {bare:.0f} MB, ratio {memory_mb / bare:.2f}",
                    flush=True,
                )
        finally:
            broker.stop()
