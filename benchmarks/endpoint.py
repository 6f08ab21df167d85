"""The OpenAI endpoint under locust: what the endpoint adds to the time of a request, and how full the bench is.

The run's own record has when each generation began and ended at its client, locust when the answer was there: both of
the same requests in one run, so that their ratio is the endpoint's and not the machine's.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from ground_controller.client_events import RequestBegan, RequestEnded, TokenArrived
from ground_controller.journal import Journal
from hil_config.schema.load import default_path

LOCUSTFILE = Path(__file__).parent / "locust_endpoint.py"
USERS, SECONDS, CONCURRENCY = 4, 40, 4
HIL = (sys.executable, "-m", "hil_config.door")


def run() -> None:
    """Start a bench and the endpoint, let locust drive it, and print the ratio."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        campaign = home / "campaign.yaml"
        asked = f"concurrency: {CONCURRENCY}\n  arrivals: requests"
        text = default_path("campaign").read_text().replace("concurrency: 6", asked)
        campaign.write_text(text.replace("rate: 10 ", "rate: 1 "))
        folder = home / "run"
        bench = subprocess.Popen(
            [*HIL, "campaign", "run", str(default_path("bench")), str(campaign), "--out", str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(folder / "requests.sock", bench)
            _drive(folder, home)
        finally:
            bench.send_signal(signal.SIGINT)
            bench.wait(60.0)
        _tell(folder, home / "locust_stats.csv")


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120.0
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the run did not begin: no {path}")
        time.sleep(0.2)


def _drive(folder: Path, home: Path) -> None:
    endpoint = subprocess.Popen(
        [*HIL, "serve", str(folder), "--port", "0", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert endpoint.stdout is not None
    told = json.loads(endpoint.stdout.readline())
    try:
        subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "-u", str(USERS),
             "-r", str(USERS), "-t", f"{SECONDS}s", "-H", told["base_url"].removesuffix("/v1"), "--csv",
             str(home / "locust"), "--only-summary"],
            env={**os.environ, "HIL_MODEL": told["model"]}, check=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=SECONDS + 60.0,
        )  # fmt: skip
    finally:
        endpoint.send_signal(signal.SIGINT)
        endpoint.wait(30.0)


def _tell(folder: Path, stats: Path) -> None:
    journal = Journal.read(folder)
    try:
        begun = ((e.host_ns, msgspec.json.decode(e.body, type=RequestBegan)) for e in journal.entries("request_begin"))
        began = {one.request: host_ns for host_ns, one in begun}
        heard = ((e.host_ns, msgspec.json.decode(e.body, type=TokenArrived)) for e in journal.entries("client_token"))
        tokens = [(one.request, host_ns) for host_ns, one in heard]
        ends = [msgspec.json.decode(e.body, type=RequestEnded) for e in journal.entries("request_end")]
        whole = {one.request for one in ends if one.reason in {"length", "end of text"}}
    finally:
        journal.close()
    last = dict(tokens)  # the last one of each request stays
    inside_ms = [(last[number] - began[number]) / 1e6 for number in whole]
    with stats.open(newline="") as file:
        row = next(one for one in csv.DictReader(file) if one["Name"] == "Aggregated")
    outside_ms, inside = float(row["Average Response Time"]), float(np.mean(inside_ms))
    span_s = (max(last.values()) - min(began.values())) / 1e9
    print(f"{USERS} users for {SECONDS} s: {row['Request Count']} requests, {row['Failure Count']} failed, "
          f"{len(whole)} whole in the record, {len(tokens) / span_s:.1f} tokens/s")  # fmt: skip
    print(f"mean time of a request: {outside_ms:.0f} ms at locust, {inside:.0f} ms at the run's client: "
          f"x {outside_ms / inside:.3f}; median and p95 at locust {row['50%']} and {row['95%']} ms")  # fmt: skip
