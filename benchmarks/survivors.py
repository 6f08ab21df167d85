"""A bench of node processes that are killed outright, and a client that must never notice more than a pause."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.dataplane import RUN, Fleet
from ground_controller.attempts import Avoid
from ground_controller.client import Client
from ground_controller.client_events import AttemptBegan, TokenArrived
from hil_config.wire.manifest import Precision

GATEWAYS, HOSTS = ("g1", "g2"), ("h1", "h2", "h3")
HANG_S = 60.0


class Survived(NamedTuple):
    """One generation during which a node was killed: its tokens, the longest wait, and new attempts with reasons."""

    tokens: list[int]
    longest_ms: float
    degraded: int
    attempts: list[str]


class Survivors:
    """Two gateways that hold the whole trunk, three hosts that hold every expert twice."""

    def __init__(self, shards: Path, precision: Precision) -> None:
        self._events: list[msgspec.Struct] = []
        self._came = threading.Condition()
        self.alive = set(GATEWAYS)
        self.addresses: dict[str, tuple[str, int]] = {}
        self.client = Client(RUN, self.addresses, self._route, self._record, -1, 2.0)
        self.fleet = Fleet(shards, GATEWAYS, HOSTS, 2, 1, precision, {"ground": self.client.address})
        self.addresses.update(self.fleet.addresses)
        self._request = 0

    def _record(self, event: msgspec.Struct) -> None:
        with self._came:
            self._events.append(event)
            self._came.notify_all()

    def _route(self, avoid: Avoid) -> tuple[str, ...] | None:
        for name in sorted(GATEWAYS, key=lambda g: (g in avoid, g)):
            if name in self.alive:
                return (name,)
        return None

    def generate(self, count: int, victim: str = "", at: int = 5) -> Survived:
        """A generation; `victim` gets SIGKILL once `at` tokens have come. TimeoutError if it hangs."""
        self._request += 1
        self._events.clear()
        self.client.begin(self._request, [1, 10, 11, 12], count)
        end_s = time.monotonic() + HANG_S
        killed = False
        while self.client.running:
            if victim and not killed and len(self._tokens()) >= at:
                self.fleet.kill(victim)
                self.fleet.processes[victim].join(10.0)
                self.alive.discard(victim)
                self.client.node_lost(victim)
                killed = True
            self.client.watch()
            if time.monotonic() > end_s:
                raise TimeoutError(f"{len(self._tokens())} of {count} tokens after {HANG_S:g} s, {victim} was killed")
            with self._came:
                self._came.wait(0.01)
        tokens = self._tokens()
        attempts = [e.reason for e in self._events if isinstance(e, AttemptBegan)][1:]
        waits = np.array([t.since_us for t in tokens if not t.first]) / 1e3
        return Survived([t.token for t in tokens], float(waits.max()), sum(bool(t.degraded) for t in tokens), attempts)

    def _tokens(self) -> list[TokenArrived]:
        return [e for e in list(self._events) if isinstance(e, TokenArrived)]

    def revive(self, name: str) -> None:
        """Start it again at its old address; it proves its shards and is taken back by the others."""
        self.fleet.revive(name)
        end_s = time.monotonic() + HANG_S
        while any(name in self.fleet.unreachable(other) for other in (*GATEWAYS, *HOSTS) if other != name):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{name} is back, but not taken back after {HANG_S:g} s")
            with self._came:
                self._came.wait(0.05)
        if name in GATEWAYS:
            self.alive.add(name)

    def close(self) -> None:
        self.client.close()
        self.fleet.close()
