"""The dashboard under load: processor share of its server and of the page's main thread, beside their budgets.

A journal of 200 boards grows as a run's would: samples at 10 Hz, a decision each half second, tokens with the gateways'
records. `hil dashboard` watches it in a process of its own, and a headless Chromium shows the page. Server: its
processor seconds (psutil). Page: processor seconds of the renderer's main thread in tasks (DevTools, `threadTicks`).
Decisions, samples and tokens are drawn, in the real formats; the constellation is a compiled Walker shell.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import psutil

from benchmarks.browser import Browser, find_browser
from ground_controller.client_events import RequestBegan, TokenArrived
from ground_controller.decision import FIELDS, Decision, NodeBlocks, encode_decision
from ground_controller.journal import Entry, Journal
from ground_controller.live.sky import NAME as SCHEDULE
from ground_controller.schedules import compile_orbit
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_campaign
from hil_config.schema.orbit import Shell
from hil_config.wire import messages as m
from hil_config.wire.manifest import ModelCard
from hil_config.wire.plan import LayerPlan, SelectionPlan, Share
from hil_config.wire.provenance import modelled
from hil_config.wire.schedule_file import encode_schedule
from models.build import model_card
from models.checkpoint import read_checkpoint
from models.locate import reference_checkpoint

BOARDS, HZ, TICK_S, RATE = 200, 10, 0.5, 10.0
TOKENS_A_TICK, REQUESTS = 20, 8
WARM_S, LONG_S = 12.0, 30.0
SERVER_MOST, PAGE_MOST = 0.05, 0.20
MAP_PX = (1366, 657)


class Shares(NamedTuple):
    """Of one core, and of the page's main thread: all its tasks, of these script, layout and styles."""

    server: float
    page: float
    script: float
    layout: float
    wall_s: float
    records: int


class Growing:
    """Writes the journal. `batch`: readings in a record (10: one record a second, as agents send them)."""

    def __init__(self, folder: Path, batch: int) -> None:
        self._batch = batch
        self._rng = np.random.default_rng(1)
        self.nodes = tuple(f"n{i:03d}" for i in range(BOARDS))
        campaign, self._card = _campaign(), model_card(read_checkpoint(reference_checkpoint()))
        self._journal = Journal.create(folder)
        (folder / SCHEDULE).write_bytes(encode_schedule(compile_orbit(campaign).factual))
        for key, value in _meta(campaign, self._card, self.nodes).items():
            self._journal.set_meta(key, value)
        self._plan = _plan(self.nodes, self._card)
        self._columns = {name: self._rng.uniform(0.2, 1.0, BOARDS) for name in FIELDS}
        self._columns |= {name: np.ones(BOARDS, np.bool_) for name in ("alive", "in_service")}
        self._columns["temperature_c"] = self._rng.uniform(40.0, 58.0, BOARDS)
        self._tick, self._seq = 0, itertools.count(1)
        self._began_s = time.monotonic()
        quantity = m.Quantity("power_w", "W", float(HZ), modelled("drawn for a benchmark"))
        self._commit([("status", node, m.Status(node=node, boot_id="b", state="serving", quantities=(quantity,)))
                      for node in self.nodes])  # fmt: skip
        self._commit(
            [("request_begin", "", RequestBegan(n, "prose", "It was", (1, 2))) for n in range(1, REQUESTS + 1)]
        )

    def _commit(self, bodies: list[tuple[str, str, msgspec.Struct]]) -> int:
        entries = []
        for kind, node, body in bodies:
            data = encode_decision(body) if isinstance(body, Decision) else msgspec.json.encode(body)
            boot, seq = ("b", next(self._seq)) if isinstance(body, m.Record) else ("", 0)
            scenario_s = self._tick * TICK_S * RATE
            entries.append(Entry(self._tick, scenario_s, time.monotonic_ns(), kind, node, boot, seq, data))
        return len(self._journal.commit(entries))

    def tick(self) -> int:
        """What arrives in half a second, then the decision; returns how many records of nodes there were."""
        told: list[tuple[str, str, msgspec.Struct]] = []
        for i, node in enumerate(self.nodes):
            for _ in range(self._due(i)):
                power = tuple(self._rng.uniform(2.0, 4.0, self._batch).round(4).tolist())
                told.append(
                    ("samples", node, self._record(node, m.SampleBatch((1,) * self._batch, {"power_w": power})))
                )
        for n in range(TOKENS_A_TICK):
            request = n % REQUESTS + 1
            at = self._tick * TOKENS_A_TICK + n
            told.append(("token", self.nodes[0], self._record(self.nodes[0], self._step(request, at, 0))))
            told.append(("token", self.nodes[1], self._record(self.nodes[1], self._step(request, at, 2))))
            told.append(("client_token", "", TokenArrived(request, 1, at, 200 + n, -1.0, 0.5, (), False, 9e4)))
        count = self._commit(told)
        for name in ("power_w", "temperature_c", "charge", "calls_per_s"):  # every figure of every node moves
            self._columns[name] = self._columns[name] * self._rng.uniform(0.98, 1.02, BOARDS)
        decision = Decision(
            self._tick, self._tick * TICK_S * RATE, NodeBlocks.of(**self._columns), (None,) * BOARDS, None,
            msgspec.structs.replace(self._plan, version=self._tick + 1),
        )  # fmt: skip
        self._commit([("decision", "", decision)])
        self._tick += 1
        return count

    def _due(self, node: int) -> int:
        """Records of a node in this tick: boards hand in their batches at different moments of the second."""
        a_tick = HZ * TICK_S / self._batch
        return int(a_tick) if a_tick >= 1.0 else int((self._tick + node) % round(1.0 / a_tick) == 0)

    def _record(self, node: str, body: m.SampleBatch | m.TokenEvidence) -> m.Record:
        return m.Record(node=node, boot_id="b", seq=1, mono_ns=1, wall_ns=1, body=body)

    def _step(self, request: int, at: int, first: int) -> m.TokenEvidence:
        """Two layers, two experts each."""
        layers = []
        for layer in (first, first + 1):
            picks = self._rng.choice(self._card.experts, 2, replace=False).astype("<i2").tobytes()
            scores = self._rng.random(self._card.experts).astype("<f4").tobytes()
            hosts = np.zeros(2, "<i2").tobytes()
            layers.append(m.LayerEvidence(layer, scores, picks, hosts, b"\1" * BOARDS, 0, 0, 1, 1, 1, 1, 1, 1))
        return m.TokenEvidence(request, 1, at, 1, 1, False, 1, 1.0, 1.0, 5, 1.0, (), tuple(layers))

    def run_for(self, duration_s: float) -> int:
        """Ticks on time for so long."""
        records, end_s = 0, time.monotonic() + duration_s
        while time.monotonic() < end_s:
            due_s = self._began_s + (self._tick + 1) * TICK_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            records += self.tick()
        return records

    def close(self) -> None:
        self._journal.close()


def _campaign() -> Campaign:
    """Twenty planes of ten satellites, for ten minutes of orbit."""
    intent = load_campaign(default_path("campaign"))
    shell = Shell(name="w", altitude_km=550, inclination_deg=53, planes=20, per_plane=10, phasing=1)
    names = tuple(f"w-P{p:02d}S{s:02d}" for p in range(20) for s in range(10))
    changes = {"shells": (shell,), "satellites": names, "step_s": 10.0, "max_range_km": 3000.0}
    return intent.model_copy(update={"orbit": intent.orbit.model_copy(update=changes)})


def _meta(campaign: Campaign, card: ModelCard, nodes: tuple[str, ...]) -> dict[str, str]:
    return {
        "campaign": campaign.model_dump_json(), "began_utc": "2024-10-21T08:20:00Z",
        "bench": msgspec.json.encode({"boards": [{"name": node} for node in nodes]}).decode(),
        "model_card": msgspec.json.encode(card).decode(),
    }  # fmt: skip


def _plan(nodes: tuple[str, ...], card: ModelCard) -> SelectionPlan:
    """Two replicas of each expert, spread over the bench."""
    layers = tuple(
        LayerPlan(
            (0.01,) * card.experts,
            tuple((Share((7 * e + layer) % BOARDS, 0.5), Share((11 * e + layer + 5) % BOARDS, 0.5))
                  for e in range(card.experts)),
            (-1,) * card.experts,
        )
        for layer in range(card.layers)
    )  # fmt: skip
    return SelectionPlan(1, 1, 0.0, 5.0, "drawn", "a benchmark", 1.0, 1.0, 1, 2, 0.0, nodes, (), layers)


def measure(folder: Path, batch: int) -> Shares:
    """Shares over `LONG_S`, after `WARM_S` in which page and server settle."""
    program = find_browser()
    if program is None:
        raise SystemExit("no Chromium here: apt install chromium")
    growing = Growing(folder / "run", batch)
    server = psutil.Popen(
        [sys.executable, "-m", "hil_config.door", "dashboard", str(folder / "run"), "--port", "0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        server.stdout.readline()
        address = server.stdout.readline().strip()
        growing.run_for(2.0)
        with Browser(program, folder / "profile", *MAP_PX) as browser:
            browser.ask("Performance.disable")
            browser.ask("Performance.enable", timeDomain="threadTicks")
            browser.open(address)
            growing.run_for(WARM_S)
            assert browser.run("document.querySelectorAll('#nodes tr').length") == BOARDS, browser.problems
            browser.run("document.querySelector('#nodes tr').click()")
            count = int(browser.run("document.getElementById('count').textContent"))
            before, cpu_s, begin_s = browser.metrics(), _spent_s(server), time.monotonic()
            records = growing.run_for(LONG_S)
            after, spent_s, wall_s = browser.metrics(), _spent_s(server) - cpu_s, time.monotonic() - begin_s
            shown = int(browser.run("document.getElementById('count').textContent")) - count
            assert shown >= TOKENS_A_TICK * (LONG_S / TICK_S - 4), f"the page fell behind: {shown} tokens"
            assert browser.problems == []
        page, script, layout, styles = (
            (after[name] - before[name]) / wall_s
            for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
        )
        return Shares(spent_s / wall_s, page, script, layout + styles, wall_s, records)
    finally:
        server.terminate()
        server.communicate(timeout=20.0)
        growing.close()


def _spent_s(process: psutil.Popen) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run() -> None:
    """As agents send them, one record a board and second; then one a reading, ten times as many."""
    for batch, what in ((HZ, "a record a second"), (1, "a record a reading")):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            s = measure(Path(name), batch)
        print(
            f"{BOARDS} boards x {HZ} Hz, {what} ({s.records / s.wall_s:.0f} records/s with tokens): "
            f"server {s.server:.1%} of a core, {s.server / SERVER_MOST:.2f} of its {SERVER_MOST:.0%}; "
            f"page {s.page:.1%} of its main thread (script {s.script:.1%}, layout and styles {s.layout:.1%}), "
            f"{s.page / PAGE_MOST:.2f} of its {PAGE_MOST:.0%}",
            flush=True,
        )
