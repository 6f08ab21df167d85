"""The deciding core: time of a decision at 16 and at 1,056 satellites, and lateness of ticks at 10 Hz.

A decision is apply, twin step, view, policy, plan and encoding: `Core.advance` and `encode_decision`, with a second of
power samples of every node and one generation step to apply in each tick. Drawn schedule, modelled nodes, real code.
Times depend on the machine; each line has the ratio to the code before nodes were held by column, which was run once
with this file (`FORMER`, commit 1f450bb, same machine and day). Lateness: the real loop and journal, nodes that talk.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ground_controller.core import Core
from ground_controller.decision import encode_decision
from ground_controller.inbox import Arrival, Inbox
from ground_controller.journal import Entry, Journal
from ground_controller.loop import Loop, TickBegan
from ground_controller.policies.registry import selection_policy
from ground_controller.policies.view import Limits
from ground_controller.preparation import platform_of
from ground_controller.twin import Twin
from ground_controller.world import Setting
from hil_config.clock import PacedClock
from hil_config.schema.platforms import PlatformChoice
from hil_config.units import HostSeconds
from hil_config.wire import messages as m
from hil_config.wire.link_schedule import LIGHT, LINK, LinkSchedule, ScheduleArrays, ScheduleHeader
from hil_config.wire.manifest import ModelCard, Routing
from hil_config.wire.orders import DropShards, LoadShards, SetDuty, SetPower
from hil_config.wire.plan import GatewaySlice, SelectionPlan

POLICIES = ("topk", "battery_life", "lyapunov", "horizon")
LIMITS = Limits(70.0, 80.0, 0.3, 0.2, 3.0, 0.05)
ORBIT_S, CHANGE_S = 5_739.0, 60.0
FORMER: dict[tuple[str, str], float] = {
    ("16 satellites x 4 x 16", "topk"): 1.30,
    ("16 satellites x 4 x 16", "battery_life"): 1.45,
    ("16 satellites x 4 x 16", "lyapunov"): 1.54,
    ("16 satellites x 4 x 16", "horizon"): 9.62,
    ("1,056 satellites x 32 x 8", "topk"): 366.0,
    ("1,056 satellites x 32 x 8", "battery_life"): 366.0,
    ("1,056 satellites x 32 x 8", "lyapunov"): 370.0,
    ("1,056 satellites x 32 x 8", "horizon"): 555.0,
}
"""Median ms of commit 1f450bb."""


@dataclass(frozen=True)
class Scene:
    """A bench to decide for. `every_pair`: the schedule names all pairs, not only those with a gateway."""

    label: str
    nodes: int
    layers: int
    experts: int
    slices: int
    ticks: int
    every_pair: bool = False


SCENES = (
    Scene("16 satellites x 4 x 16", 16, 4, 16, 2, 200),
    Scene("1,056 satellites x 32 x 8", 1_056, 32, 8, 8, 25),
    Scene("1,056, all pairs scheduled", 1_056, 32, 8, 8, 15, every_pair=True),
)


def _names(scene: Scene) -> tuple[str, ...]:
    return tuple(f"sat-{i:04d}" for i in range(scene.nodes))


def _gateways(scene: Scene) -> tuple[GatewaySlice, ...]:
    """The first nodes, a primary and a standby for each slice."""
    names, each = _names(scene), scene.layers // scene.slices
    return tuple(
        GatewaySlice(i * each, (i + 1) * each - 1, (names[2 * i], names[2 * i + 1])) for i in range(scene.slices)
    )


def _schedule(scene: Scene) -> LinkSchedule:
    """Every link changes each `CHANGE_S`, one in fifty is down; every satellite has a day and a night."""
    rng = np.random.default_rng(1)
    names, gates = _names(scene), 2 * scene.slices
    pairs = [
        (i, j)
        for i in range(scene.nodes)
        for j in range(scene.nodes)
        if i != j and (scene.every_pair or i < gates or j < gates)
    ]
    duration = CHANGE_S * (2 if scene.every_pair else 6)
    links = np.zeros((int(duration / CHANGE_S), len(pairs)), LINK)
    links["time_s"] = np.arange(len(links))[:, None] * CHANGE_S
    links["pair"] = np.arange(len(pairs))
    links["delay_s"] = rng.uniform(0.002, 0.05, links.shape)
    links["delay_drift"] = rng.uniform(-1e-6, 1e-6, links.shape)
    links["rate_bit_s"], links["up"] = 1e9, rng.random(links.shape) > 0.02
    lights = np.zeros((2, scene.nodes), LIGHT)
    lights["time_s"] = [[0.0], [duration / 2]]
    lights["satellite"] = np.arange(scene.nodes)
    lights["sunlight"] = rng.random(lights.shape) > 0.37
    arrays = ScheduleArrays(
        links.ravel(), lights.ravel(), np.empty(0), np.empty((0, scene.nodes, 3), np.float32),
        np.empty((0, scene.nodes, 3), np.float32), np.zeros(2, np.uint32), np.empty(0, np.uint32),
    )  # fmt: skip
    header = ScheduleHeader(
        epoch_utc="2026-01-01T00:00:00Z", duration_s=duration, step_s=CHANGE_S, satellites=names,
        pairs=tuple((names[i], names[j]) for i, j in pairs),
    )  # fmt: skip
    return LinkSchedule(header, arrays)


def setting_of(scene: Scene, tick_s: float = 1.0) -> Setting:
    """Two copies of each expert, spread over the bench."""
    rng = np.random.default_rng(2)
    n, names, schedule = scene.nodes, _names(scene), _schedule(scene)
    twin = Twin(platform_of(PlatformChoice()), 1.0)
    table = tuple(tuple(map(float, row)) for row in rng.dirichlet(np.full(scene.experts, 4.0), scene.layers) * 2.0)
    model = ModelCard(
        "drawn", scene.layers, scene.experts, 64, 64, 256, 2, 32, 128, 0, Routing(2, True), table, table
    )  # fmt: skip
    stride = max(1, n // (scene.layers * scene.experts))
    held = [(at * stride % n, (at * stride + n // 2) % n) for at in range(scene.layers * scene.experts)]
    holders = tuple(tuple(held[i : i + scene.experts]) for i in range(0, len(held), scene.experts))
    return Setting(
        nodes=names, satellites=names, schedule=schedule, predicted=schedule, twin=twin,
        twin_start=twin.start(rng.uniform(40, 60, n).tolist(), rng.uniform(0.5, 0.9, n).tolist()), limits=LIMITS,
        model=model, gateways=_gateways(scene),
        holders=holders,
        idle_power_w=(2.6,) * n, energy_per_call_j=(1e-3,) * n, tick_s=tick_s, rate=1.0,
    )  # fmt: skip


def _body(node: str, seq: int, body: m.SampleBatch | m.TokenEvidence) -> bytes:
    return m.encode(m.Record(node=node, boot_id="b1", seq=seq, mono_ns=seq, wall_ns=seq, body=body))


def arrivals(scene: Scene, tick: int) -> list[tuple[str, str, bytes]]:
    """What the nodes say in a tick: (kind, node, body)."""
    rng = np.random.default_rng((tick, 3))
    names, found = _names(scene), []
    watts = rng.uniform(3.0, 6.0, (scene.nodes, 2))
    for name, row in zip(names, watts.tolist(), strict=True):
        found.append(("samples", name, _body(name, tick + 1, m.SampleBatch((1, 2), {"power_w": tuple(row)}))))
    layers = []
    for layer in range(scene.layers):
        picks = rng.permuted(np.tile(np.arange(scene.experts, dtype="<i2"), (4, 1)), axis=1)[:, :2]
        hosts = rng.integers(0, scene.nodes, (4, 2)).astype("<i2")
        scores = rng.random((4, scene.experts)).astype("<f4")
        live = np.ones(scene.nodes, np.uint8).tobytes()
        layers.append(m.LayerEvidence(
            layer, scores.tobytes(), picks.tobytes(), hosts.tobytes(), live, 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0
        ))  # fmt: skip
    step = m.TokenEvidence(1, 1, tick, 4, tick, False, 1, 1.0, 1.0, 5, 1.0, (), tuple(layers))
    found.append(("token", names[0], _body(names[0], 1_000_000 + tick, step)))
    return found


def decision_ms(setting: Setting, scene: Scene, policy: str) -> tuple[float, float, int]:
    """Median and 99th percentile of a decision, and the bytes of its record."""
    core = Core(setting, selection_policy(policy, {}), 1, 5.0)
    taken, size = [], 0
    for tick in range(scene.ticks + 3):
        entries = [Entry(tick, float(tick), 0, kind, node, "b1", 1, body) for kind, node, body in arrivals(scene, tick)]
        start = time.perf_counter()
        size = len(encode_decision(core.advance(tick, float(tick), entries)))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[3:])) * 1e3, float(np.percentile(taken[3:], 99)) * 1e3, size


class _Nowhere:
    """Takes orders for nobody."""

    def plan(self, plan: SelectionPlan) -> None: ...

    def duty(self, node: str, order: SetDuty) -> None: ...

    def shards(self, node: str, order: LoadShards | DropShards) -> None: ...

    def power(self, node: str, order: SetPower) -> None: ...

    def watermark(self, mark: m.Watermark) -> None: ...


def lateness_ms(hz: float = 10.0, ticks: int = 200) -> list[float]:
    """Lateness of each tick of the real loop with its journal; sixteen nodes talk `hz` times a second."""
    scene = SCENES[0]
    core = Core(setting_of(scene, 1.0 / hz), selection_policy("lyapunov", {}), 1, 5.0)
    inbox, done, late = Inbox(), threading.Event(), []

    def talk() -> None:
        for tick in range(2 * ticks):
            for kind, node, body in arrivals(scene, tick):
                seq = 1_000_000 + tick if kind == "token" else tick + 1
                inbox.put(Arrival(time.monotonic_ns(), kind, node, "b1", seq, body))
            if done.wait(1.0 / hz):
                return

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder))
        clock = PacedClock(1.0, HostSeconds(time.monotonic() + 0.2))
        loop = Loop(core, journal, inbox, clock, _Nowhere(), lambda decision: None)
        talker = threading.Thread(target=talk)
        talker.start()
        try:
            for _ in range(ticks):
                loop.run_tick()
        finally:
            done.set()
            talker.join()
        late = [msgspec.json.decode(e.body, type=TickBegan).lateness_s * 1e3 for e in journal.entries("tick")]
        journal.close()
    return late


def run() -> None:
    """Every scene and policy, then lateness."""
    for scene in SCENES:
        setting = setting_of(scene)
        for policy in POLICIES if not scene.every_pair else POLICIES[:1]:
            median, worst, size = decision_ms(setting, scene, policy)
            former = FORMER.get((scene.label, policy))
            ratio = f"   {former / median:6.1f} times faster than before ({former:.2f} ms)" if former else ""
            print(
                f"{scene.label:27s} {policy:13s} p50 {median:7.2f} ms  p99 {worst:7.2f} ms  {size:7d} bytes{ratio}",
                flush=True,
            )
    late = lateness_ms()
    quantiles = np.percentile(late, [50, 99, 100])
    print(
        "10 Hz, 16 satellites: a tick begins late by "
        + ", ".join(f"{q} {v:.2f} ms" for q, v in zip(("p50", "p99", "at most"), quantiles, strict=True))
    )
