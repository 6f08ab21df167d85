"""Board models from the record of a real run: times from the gateways' evidence, watts from the power samples.

Steps that went through a layer together share one trunk time; they are put together again by it, so that rows are
those of the batch. Times are fitted as base + a time a row, over medians of equal rows (a median does not mind a busy
moment). What a gateway's step took beyond its named parts counts as `gate`. Watts above idle are one figure for the
board: its mean power above idle over its mean share of time that the fitted work takes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.simulation.board_model import BoardModel, Calibration, Work, WorkKind, default_board
from ground_controller.telemetry.sources import by_provenance, combined, quantities
from hil_config.errors import InvalidRunError
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.manifest import Precision
from hil_config.wire.messages import NodeEvent, Record, SampleBatch, TokenEvidence, decode
from hil_config.wire.plan import SelectionPlan

_NS = 1_000_000_000
LEAST = 50
"""Measurements of a kind of work that a fit needs."""

F64 = NDArray[np.float64]


class Line(NamedTuple):
    """us = base + row x rows; `residual`: root mean square of (median / fitted - 1) weighted by samples."""

    base_us: float
    row_us: float
    residual: float
    samples: int


def fit_line(rows: list[float], us: list[float]) -> Line:
    """Non-negative line through the medians of equal rows, weighted by their numbers; InvalidRunError if too few."""
    if len(us) < LEAST:
        raise InvalidRunError(
            f"{len(us)} measurements of a kind of work, wanted at least {LEAST}", "calibrate from a longer run"
        )
    groups: dict[float, list[float]] = defaultdict(list)
    for n, value in zip(rows, us, strict=True):
        groups[n].append(value)
    x = np.array(sorted(groups))
    y = np.array([float(np.median(groups[n])) for n in x])
    weight = np.sqrt(np.array([len(groups[n]) for n in x], np.float64))
    slope = 0.0
    if len(x) > 1:
        slope = max(0.0, float(np.polyfit(x, y, 1, w=weight)[0]))
    base = max(0.0, float(np.average(y - slope * x, weights=weight**2)))
    fitted = np.maximum(base + slope * x, 1e-9)
    residual = float(np.sqrt(np.average((y / fitted - 1.0) ** 2, weights=weight**2)))
    return Line(base, slope, residual, len(us))


class _Seen:
    """Measurements of one profile."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = defaultdict(list)
        self.us: dict[str, list[float]] = defaultdict(list)
        self.hop_us: list[float] = []
        self.load_us: list[float] = []
        self.done: list[tuple[str, int, str, int]] = []

    def add(self, kind: str, rows: float, us: float) -> None:
        self.rows[kind].append(rows)
        self.us[kind].append(us)


def calibrate_run(folder: Path) -> Calibration:
    """Board models of the profiles that took part in a finished run on real nodes.

    Raises:
        InvalidRunError: a simulated run, or one with too little in it.
    """
    journal = Journal.read(folder)
    try:
        if journal.meta("simulated", ""):
            raise InvalidRunError(f"{folder}: this run was simulated: there is nothing to calibrate from", "use a run")
        return _Fit(journal, folder).calibration()
    finally:
        journal.close()


class _Fit:
    def __init__(self, journal: Journal, folder: Path) -> None:
        self._journal = journal
        self._folder = folder
        bench = msgspec.json.decode(journal.meta("bench"))
        self._profile: dict[str, str] = {board["name"]: board["profile"] for board in bench["boards"]}
        self._local = {board["name"] for board in bench["boards"] if board.get("kind", "local") == "local"}
        self._precision: Precision = msgspec.json.decode(journal.meta("campaign"))["model"]["precision"]
        self._scheduled = self._scheduled_us()
        self._plans: dict[int, SelectionPlan] = {}
        self._seen: dict[str, _Seen] = defaultdict(_Seen)

    def _scheduled_us(self) -> dict[tuple[str, str], float]:
        """Mean scheduled delay with serialisation of every directed link, from the shapers' reports."""
        total: dict[tuple[str, str], list[float]] = defaultdict(list)
        for entry in self._journal.entries("links"):
            body = decode(entry.body, Record).body
            total[entry.node, body.peer].append(body.scheduled_us)  # type: ignore[union-attr]
        return {pair: float(np.mean(values)) for pair, values in total.items()}

    def calibration(self) -> Calibration:
        nodes = tuple(self._profile)
        self._orders()
        batches: dict[tuple[str, int, float], list[tuple[TokenEvidence, int, int]]] = defaultdict(list)
        heads: set[tuple[str, float]] = set()
        for entry in self._journal.entries("token"):
            body = decode(entry.body, Record).body
            assert isinstance(body, TokenEvidence)
            seen = self._seen[self._profile[entry.node]]
            if body.head_us and (entry.node, body.head_us) not in heads:
                heads.add((entry.node, body.head_us))  # once for all that went through it together
                seen.add("head", 1, body.head_us)
                seen.done.append((entry.node, body.mono_ns // _NS, "head", 1))
            named = body.head_us
            for i, layer in enumerate(body.layers):
                batches[entry.node, layer.layer, layer.trunk_us].append((body, i, entry.host_ns))
                named += layer.trunk_us + layer.serialise_us + layer.link_us + layer.queue_us + layer.expert_us
            if body.rows == 1 and body.layers:
                seen.add("gate", 1, max(0.0, body.total_us - named) / len(body.layers))
        for (node, _, trunk_us), members in batches.items():
            self._batch(node, trunk_us, members, nodes)
        if sum(len(seen.us["trunk"]) for seen in self._seen.values()) < LEAST:
            raise InvalidRunError(f"{self._folder}: hardly any tokens in it", "calibrate from a longer run")
        power = quantities(self._journal).get("power_w")
        by = str(combined(by_provenance(power).items())) if power else "no power"
        boards = tuple(self._board(load_profile(name), seen) for name, seen in sorted(self._seen.items()))
        run = self._journal.meta("run")
        # Waiting for each other's cores is in the times already where several local boards were measured at once.
        return Calibration(f"fitted to run {run} ({self._journal.meta('began_utc')}); power {by}", boards)

    def _orders(self) -> None:
        """Plans that ask for precisions, and how long orders to load and drop took."""
        given: dict[tuple[str, str], list[int]] = defaultdict(list)
        for entry in self._journal.entries("decision", "event"):
            if entry.kind == "decision":
                decision = msgspec.json.decode(entry.body, type=Decision)
                if any(layer.precision for layer in decision.plan.layers):
                    self._plans[decision.plan.version] = decision.plan
                for node, order in decision.orders:
                    given[node, msgspec.json.encode(order.experts).decode()].append(entry.host_ns)
                continue
            event = decode(entry.body, Record).body
            if isinstance(event, NodeEvent) and event.name == "ShardsChanged":
                began = given.get((entry.node, str(event.details.get("held"))))
                if began and event.mono_ns > began[-1]:
                    self._seen[self._profile[entry.node]].load_us.append((event.mono_ns - began.pop()) / 1e3)

    def _rows(self, version: int, layer: int, host: int, experts: list[int]) -> Counter[str]:
        """Expert rows by precision that a host served."""
        plan = self._plans.get(version)
        if plan is None:
            return Counter({self._precision: len(experts)})
        wanted = plan.layers[layer].precisions()
        return Counter(wanted.get((expert, host), self._precision) for expert in experts)

    def _batch(
        self, node: str, trunk_us: float, members: list[tuple[TokenEvidence, int, int]], nodes: tuple[str, ...]
    ) -> None:
        seen = self._seen[self._profile[node]]
        rows = sum(body.rows for body, _, _ in members)
        seen.add("trunk", rows, trunk_us)
        first, index, _ = members[0]
        layer = first.layers[index]
        hosts = np.concatenate([np.frombuffer(body.layers[i].hosts, "<i2") for body, i, _ in members])
        remote = sorted({int(h) for h in hosts if h >= 0 and nodes[h] != node})
        if remote:
            seen.add("frame", rows, layer.serialise_us / len(remote))
        # What the model would have been busy with, so that its energy is the measured one over the same work.
        second = int(first.mono_ns // _NS)
        seen.done += [(node, second, "trunk", rows), (node, second, "gate", rows)]
        picks = np.concatenate([np.frombuffer(body.layers[i].picks, "<i2") for body, i, _ in members])
        did: dict[int, Counter[str]] = {}
        for host in sorted({int(h) for h in hosts if h >= 0}):
            there = self._seen[self._profile[nodes[host]]]
            did[host] = self._rows(first.plan_version, layer.layer, host, picks[hosts == host].tolist())
            there.done += [(nodes[host], second, f"expert {p}", n) for p, n in did[host].items()]
            if host in remote:
                seen.done.append((node, second, "frame", rows))
                there.done.append((nodes[host], second, "frame", rows))
        if len(remote) == 1 and layer.expert_us > 0.0:
            there = self._seen[self._profile[nodes[remote[0]]]]
            if len(did[remote[0]]) == 1:  # a call at two precisions says nothing of either
                ((precision, count),) = did[remote[0]].items()
                there.add(f"expert {precision}", count, layer.expert_us)
            peer = nodes[remote[0]]
            out, back = self._scheduled.get((node, peer)), self._scheduled.get((peer, node))
            if out is not None and back is not None:
                seen.hop_us.append((layer.link_us - out - back) / 2)

    def _board(self, profile: BoardProfile, seen: _Seen) -> BoardModel:
        own = f"expert {self._precision}"
        asked = sorted(name for name in seen.us if name.startswith("expert ") and len(seen.us[name]) >= LEAST)
        by_name = {
            name: self._work(profile, seen, name)
            for name in ("trunk", *dict.fromkeys((own, *asked)), "head", "gate", "frame")
        }
        busy: dict[tuple[str, int], float] = defaultdict(float)
        for node, second, name, rows in seen.done:
            busy[node, second] += (by_name.get(name) or by_name[own]).us(rows) * 1e-6
        watts, error = self._watts(profile, busy)
        works = [msgspec.structs.replace(work, watts=round(watts, 4)) for work in by_name.values()]
        hop_us = max(0.0, float(np.median(seen.hop_us))) if seen.hop_us else 0.0
        return BoardModel(
            profile.name,
            profile.idle_w,
            round(hop_us, 2),
            tuple(works),
            profile.cores,
            power_residual_w=round(error, 4),
            load_us=round(float(np.median(seen.load_us)), 1) if seen.load_us else default_board(profile).load_us,
        )

    def _work(self, profile: BoardProfile, seen: _Seen, name: str) -> Work:
        """One kind of work, experts by precision; what such a board was never asked for is the default, 0 samples."""
        kind = cast("WorkKind", name.split(maxsplit=1)[0])
        precision = cast("Precision | Literal['any']", name.rsplit(maxsplit=1)[-1] if kind == "expert" else "any")
        if len(seen.us[name]) < LEAST:
            return default_board(profile).work(kind)
        line = fit_line(seen.rows[name], seen.us[name])
        return Work(
            kind, round(line.base_us, 2), round(line.row_us, 3), 0.0, precision,
            residual=round(line.residual, 4), samples=line.samples,
        )  # fmt: skip

    def _watts(self, profile: BoardProfile, busy_s: dict[tuple[str, int], float]) -> tuple[float, float]:
        """Watts above idle while busy with fitted work, and what remains of a second (root mean square, W)."""
        x, y = [], []
        for entry in self._journal.entries("samples"):
            body = decode(entry.body, Record).body
            assert isinstance(body, SampleBatch)
            read = [w for w in body.columns.get("power_w", ()) if w is not None]
            if self._profile[entry.node] == profile.name and read and body.mono_ns:
                middle = body.mono_ns[len(body.mono_ns) // 2] // _NS
                x.append(busy_s.get((entry.node, int(middle)), 0.0))
                y.append(float(np.mean(read)))
        if len(y) < LEAST:
            raise InvalidRunError(f"{self._folder}: {len(y)} seconds of power, wanted {LEAST}", "use a longer run")
        busy, power = np.array(x), np.array(y)
        # Part of what a board does is in no evidence (telemetry, the clock): it is spread over the work that is.
        watts = max(0.0, float(power.mean() - profile.idle_w) / max(1e-6, float(busy.mean())))
        fitted = profile.idle_w + watts * busy
        return watts, float(np.sqrt(np.mean((power - fitted) ** 2)))
