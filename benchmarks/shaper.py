"""The user-space shaper against its schedule: delay, rate, loss and outage, one way between two processes.

Both processes read the same monotonic clock, so the one-way error includes everything after the schedule: the shaper's
own lateness, the socket, and the wake-up of the reader. Celestial's published ping file (52,490 round trips) has a
median error of +1.00 ms and a p99 of 2.34 ms. Where the system allows it, both processes run under real-time priority,
as link threads of a board's service do: what is measured is the link, and not who else wants the processor.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from hil_config.wire.frames import ExpertReply, Frame, Hello, encode_frame
from hil_config.wire.link_state import LinkState
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.outgoing import OutgoingLink
from node_agent.link.timer import hurry_thread

CELESTIAL_US = (1000.0, 2340.0)
DELAYS_MS = (1.0, 5.0, 12.05, 25.0)
RATES_MBIT_S = (1.0, 10.0, 50.0, 100.0)
LOSSES = (0.01, 0.10)
SMALL, LARGE = 64, 2048
INF = float("inf")


def _far(pipe: Connection) -> None:
    """Notes when each frame (its `call` is its number) came."""
    hurry_thread()
    crew = Crew()
    arrived: dict[int, float] = {}

    def handle(peer: str, frame: Frame, received_s: float) -> None:
        if isinstance(frame, ExpertReply):
            arrived[frame.call] = time.monotonic()

    listener = Listener(crew, "127.0.0.1", 0, lambda hello: "", handle, lambda peer, reason: None)
    crew.start("listener", listener.work)
    pipe.send(listener.address)
    while pipe.recv() == "report":
        pipe.send(dict(arrived))
        arrived.clear()
    listener.close()
    crew.dismiss()


class _Line:
    """One shaped link to the far process."""

    def __init__(self, pipe: Connection, address: tuple[str, int], state: Callable[[], LinkState], seed: str) -> None:
        self._pipe = pipe
        hello = encode_frame(Hello("near", "bench", "boot"))
        self.link = OutgoingLink("far", address, hello, state, lambda peer, reason: None, seed=seed)
        self.link.open()
        self._thread = threading.Thread(target=self.link.work)
        self._thread.start()
        self.sent: dict[int, float] = {}

    def send(self, number: int, width: int) -> bool:
        frame = encode_frame(ExpertReply(number, 0, 0.0, 0.0, 1, width, np.ones((1, width), np.float32)))
        self.sent[number] = time.monotonic()
        return self.link.send(frame)

    def finish(self, wait_s: float) -> dict[int, float]:
        """Arrivals, when everything under way has had time to come."""
        time.sleep(wait_s)
        self._pipe.send("report")
        arrived: dict[int, float] = self._pipe.recv()
        self.link.close()
        self._thread.join(5.0)
        return arrived


def frame_bits(width: int) -> int:
    return 8 * len(encode_frame(ExpertReply(1, 0, 0.0, 0.0, 1, width, np.ones((1, width), np.float32))))


def _delay(line: _Line, delay_s: float, frames: int = 500) -> None:
    chance = np.random.default_rng(1)
    begun_cpu = time.process_time()
    for n in range(frames):
        line.send(n, SMALL)
        time.sleep(float(chance.uniform(0.0, 0.004)))
    cpu_us = (time.process_time() - begun_cpu) / frames * 1e6
    arrived = line.finish(delay_s + 0.1)
    assert len(arrived) == frames
    error = np.array([arrived[n] - line.sent[n] - delay_s for n in range(frames)]) * 1e6
    p50, p99 = np.percentile(error, (50, 99))
    own = line.link.take_count().errors_us
    low, high = np.percentile(error, 5), error.max()
    print(f"delay {delay_s * 1e3:5.2f} ms: error one way median {p50:+.0f}, p99 {p99:+.0f}, p5 {low:+.0f}, "
          f"max {high:+.0f} us, of which the shaper's own median {np.median(own):+.0f}, p99 "
          f"{np.percentile(own, 99):+.0f};\n  both ways, ratio to Celestial's: median {2 * p50 / CELESTIAL_US[0]:.2f}, "
          f"p99 {2 * p99 / CELESTIAL_US[1]:.2f}; {cpu_us:.0f} us of CPU a frame", flush=True)  # fmt: skip


def _rate(line: _Line, rate_bit_s: float) -> None:
    frames = max(20, int(rate_bit_s * 1.0 / frame_bits(LARGE)))
    for n in range(frames):
        line.send(n, LARGE)
    scheduled_s = frames * frame_bits(LARGE) / rate_bit_s
    arrived = line.finish(scheduled_s + 0.2)
    assert len(arrived) == frames
    took_s = max(arrived.values()) - line.sent[0]
    late = np.array([arrived[n] - line.sent[0] - (n + 1) * frame_bits(LARGE) / rate_bit_s for n in range(frames)]) * 1e6
    print(f"rate {rate_bit_s / 1e6:5.0f} Mbit/s: achieved {frames * frame_bits(LARGE) / took_s / 1e6:.2f} "
          f"({100 * (scheduled_s / took_s - 1):+.2f} %), frames late by {np.median(late):.0f} us, p99 "
          f"{np.percentile(late, 99):.0f} us", flush=True)  # fmt: skip


def _loss(make: Callable[[], _Line], loss: float, frames: int = 5000) -> None:
    fates = []
    for _ in range(2):
        line = make()
        for n in range(frames):
            line.send(n, SMALL)
        fates.append(set(line.finish(0.5)))
    lost = frames - len(fates[0])
    print(f"loss {100 * loss:.0f} %: {lost} of {frames} lost ({100 * lost / frames:.2f} %); the same seed again loses "
          f"{'the same frames' if fates[0] == fates[1] else 'OTHER FRAMES'}", flush=True)  # fmt: skip


def _outage(pipe: Connection, address: tuple[str, int]) -> None:
    up = LinkState(0.0125, 50e6, 0.0, True)
    now = [up]
    line = _Line(pipe, address, lambda: now[0], "outage")
    taken: dict[str, list[int]] = {"before": [], "during": [], "after": []}
    for n in range(600):
        phase = "before" if n < 200 else "during" if n < 400 else "after"
        now[0] = up._replace(up=phase != "during")
        if line.send(n, SMALL):
            taken[phase].append(n)
        time.sleep(0.001)
    arrived = line.finish(0.2)
    lines = ", ".join(f"{phase} {sum(n in arrived for n in numbers)} of {len(numbers)} taken frames arrived"
                      for phase, numbers in taken.items())  # fmt: skip
    print(f"outage: {lines}; what was under way when it began arrives", flush=True)


def _changing(pipe: Connection, address: tuple[str, int]) -> None:
    """10 and 50 Mbit/s in turn, ten times a second, under a full queue: nothing is dropped."""
    begun = time.monotonic()

    def state() -> LinkState:
        fast = int((time.monotonic() - begun) * 10) % 2
        return LinkState(0.005, 50e6 if fast else 10e6, 0.0, True)

    line = _Line(pipe, address, state, "changing")
    frames = int(30e6 * 1.0 / frame_bits(LARGE))
    for n in range(frames):
        line.send(n, LARGE)
    arrived = line.finish(1.6)
    took_s = max(arrived.values()) - line.sent[0]
    print(f"rate 10 and 50 Mbit/s in turn every 0.1 s: {len(arrived)} of {frames} frames, mean "
          f"{len(arrived) * frame_bits(LARGE) / took_s / 1e6:.1f} Mbit/s (30 scheduled)", flush=True)  # fmt: skip


def run() -> None:
    """Each case has a link of its own to one far process."""
    urgent = hurry_thread()
    try:
        _cases(urgent)
    finally:
        if urgent:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _cases(urgent: bool) -> None:
    how = "both under real-time priority" if urgent else "at normal priority: other processes' turns are in the tails"
    print(f"two processes, {how}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
    context = multiprocessing.get_context("spawn")
    pipe, far_pipe = context.Pipe()
    far = context.Process(target=_far, args=(far_pipe,))
    far.start()
    address: tuple[str, int] = pipe.recv()

    def line(delay_s: float = 0.0, rate_bit_s: float = INF, loss: float = 0.0) -> _Line:
        return _Line(pipe, address, lambda: LinkState(delay_s, rate_bit_s, loss, True), "bench")

    for delay_ms in DELAYS_MS:
        _delay(line(delay_s=delay_ms / 1e3), delay_ms / 1e3)
    for mbit_s in RATES_MBIT_S:
        _rate(line(rate_bit_s=mbit_s * 1e6), mbit_s * 1e6)
    for loss in LOSSES:
        _loss(lambda loss=loss: line(loss=loss), loss)  # type: ignore[misc]  # binds the loop's value
    _outage(pipe, address)
    _changing(pipe, address)
    pipe.send("end")
    far.join(5.0)
