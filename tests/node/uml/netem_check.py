"""Runs inside user-mode-linux, as its only program: shapes a veth with the netem backend and prints what came of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from typing import Any

from hil_config.errors import EnvironmentFault
from hil_config.wire.link_state import DOWN, LinkState
from node_agent.link.netem import Netem, Target

NEAR, FAR = "10.9.0.1", "10.9.0.2"
DATA, MANAGEMENT = 7000, 22


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _tc(*words: str) -> None:
    subprocess.run(["tc", *words], check=True)


def _echo(port: int) -> None:
    """In the far network: answers each byte with one, and counts what it is sent after a letter R."""
    code = (
        "import socket,sys\n"
        f"s = socket.create_server(('{FAR}', {port}))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    c, _ = s.accept()\n"
        "    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
        "    while (d := c.recv(65536)):\n"
        "        if d[:1] == b'p': c.sendall(b'p')\n"
        "        elif d[-1:] == b'e': c.sendall(b'e')\n"
    )
    process = subprocess.Popen(["ip", "netns", "exec", "far", sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()


def _pings(port: int, count: int = 30) -> list[float]:
    """Round trips of one byte in ms."""
    times = []
    with socket.create_connection((FAR, port), 10.0) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            begin = time.monotonic()
            sock.sendall(b"p")
            sock.recv(1)
            times.append((time.monotonic() - begin) * 1e3)
    return sorted(times)


def _mbit_s(seconds: float, rate_bit_s: float) -> float:
    size = int(rate_bit_s * seconds / 8)
    with socket.create_connection((FAR, DATA), 10.0) as sock:
        begin = time.monotonic()
        sock.sendall(b"x" * (size - 1) + b"e")
        sock.recv(1)
        return 8 * size / (time.monotonic() - begin) / 1e6


def check() -> dict[str, Any]:
    _ip("netns", "add", "far")
    _ip("link", "add", "data0", "type", "veth", "peer", "name", "data1", "netns", "far")
    _ip("addr", "add", f"{NEAR}/24", "dev", "data0")
    _ip("link", "set", "data0", "up")
    _ip("-n", "far", "addr", "add", f"{FAR}/24", "dev", "data1")
    _ip("-n", "far", "link", "set", "data1", "up")
    _echo(DATA)
    _echo(MANAGEMENT)
    result: dict[str, Any] = {"before": subprocess.check_output(["tc", "qdisc", "show", "dev", "data0"], text=True)}
    netem = Netem("data0", {"b": Target(FAR, DATA), "c": Target("10.9.0.3", DATA)})
    netem.start()
    result["delay"] = {}
    for delay_ms in (1.0, 12.05, 25.0):
        changed = netem.apply({"b": LinkState(delay_ms / 1e3, 50e6, 0.0, True), "c": DOWN})
        times = _pings(DATA)
        result["delay"][str(delay_ms)] = {
            "changed": changed, "min_ms": times[0], "median_ms": times[len(times) // 2],
            "read_ms": netem.read()["b"].delay_s * 1e3, "management_ms": _pings(MANAGEMENT)[15],
        }  # fmt: skip
    result["rate"] = {}
    for mbit_s in (1.0, 10.0):
        netem.apply({"b": LinkState(0.001, mbit_s * 1e6, 0.0, True)})
        result["rate"][str(mbit_s)] = _mbit_s(2.0, mbit_s * 1e6)
    result["slow"] = {}
    for bit_s in (1004.0, 12.0, 3.0, 2399.9):
        try:
            netem.apply({"b": LinkState(0.001, bit_s, 0.0, True)})
            result["slow"][str(bit_s)] = netem.read()["b"].rate_bit_s
        except EnvironmentFault as error:
            result["slow"][str(bit_s)] = error.message
    netem.apply({"b": LinkState(0.001, 50e6, 0.10, True)})
    netem.apply({"b": LinkState(0.002, 50e6, 0.10, True)})
    result["loss_after_delay_change"] = netem.read()["b"].loss
    result["down"] = netem.read()["c"].loss
    _tc("qdisc", "change", "dev", "data0", "handle", "10:", "parent", "5a1:10", "netem", "delay", "9ms")
    try:
        netem.verify()
        result["meddled"] = "not noticed"
    except EnvironmentFault as error:
        result["meddled"] = error.message
    again = Netem("data0", {"b": Target(FAR, DATA)})  # as after a crash: our own leftovers are taken over
    again.start()
    again.stop()
    result["after"] = subprocess.check_output(["tc", "qdisc", "show", "dev", "data0"], text=True)
    result["unshaped_ms"] = _pings(DATA)[15]
    _tc("qdisc", "add", "dev", "data0", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "1s")
    try:
        netem.start()
        result["foreign"] = "taken over"
    except EnvironmentFault as error:
        result["foreign"] = error.message
    return result


if __name__ == "__main__":
    print("RESULT " + json.dumps(check()), flush=True)
