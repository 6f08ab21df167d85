"""What the record of a real run says of its boards' work: times, rows, watts, by kind of board and power mode.

Steps that went through a layer together share all of its times; they are put together again by these, so that rows are
those of the batch. One of them would not do: of thousands of steps some take the same trunk time to the nanosecond.
What a gateway's step took beyond its named parts counts as `gate`. Work during which a board's mode changed, or was not
the one ordered, is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import numpy as np

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.report.energy import node_power
from ground_controller.simulation.mode_times import ModeTimes
from ground_controller.telemetry.scenario_time import ScenarioTime
from ground_controller.telemetry.sources import quantities
from hil_config.errors import InvalidRunError
from hil_config.wire.manifest import Precision
from hil_config.wire.messages import (
    LayerEvidence,
    LinkReport,
    NodeEvent,
    Quantity,
    Record,
    SampleBatch,
    TokenEvidence,
    decode,
)  # fmt: skip
from hil_config.wire.orders import SetPower
from hil_config.wire.plan import SelectionPlan

_NS = 1_000_000_000
Key = tuple[str, str]
"""A board profile as the bench names it, and a power mode."""
Second = tuple[str, str, int]
"""A run, a node, and a second of the ground's clock, which all of them share."""
_WHERE = {"local": "local processes that share the cores of one machine", "virtual": "emulated boards"}


Times = tuple[float, ...]


def _times(layer: LayerEvidence) -> Times:
    """Those of a layer, which all steps of a batch share."""
    return layer.trunk_us, layer.serialise_us, layer.link_us, layer.queue_us, layer.expert_us, layer.combine_us


class Seen:
    """Measurements of one profile in one mode. `done`: (second, kind of work, rows), whose energy `watts` are of."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = defaultdict(list)
        self.us: dict[str, list[float]] = defaultdict(list)
        self.hop_us: list[float] = []
        self.load_us: list[float] = []
        self.done: list[tuple[Second, str, int]] = []
        self.watts: list[tuple[Second, float]] = []
        self.idle_w: list[float] = []
        self.runs: dict[str, None] = {}
        self.where: dict[str, None] = {}
        self.power: dict[str, Quantity] = {}
        self.precisions: dict[Precision, None] = {}

    def add(self, kind: str, rows: float, us: float) -> None:
        self.rows[kind].append(rows)
        self.us[kind].append(us)

    @property
    def count(self) -> int:
        """Measurements of times in all."""
        return sum(map(len, self.us.values()))


class RunReader:
    """Adds a run to what was seen, by profile and mode.

    Raises:
        InvalidRunError: a simulated run: there is nothing to calibrate from.
    """

    def __init__(self, journal: Journal, folder: Path, seen: dict[Key, Seen]) -> None:
        if journal.meta("simulated", ""):
            raise InvalidRunError(
                f"{folder}: this run was simulated: there is nothing to calibrate from",
                "give a run on boards or local agents: hil campaign run",
            )
        self._journal = journal
        # A folder's name is not enough: in every variant of a matrix there is an `s1`.
        self._run = f"{journal.meta('run')} ({journal.meta('began_utc')})"
        self._seen = seen
        bench = msgspec.json.decode(journal.meta("bench"))
        self._profile: dict[str, str] = {board["name"]: board["profile"] for board in bench["boards"]}
        self._kind: dict[str, str] = {board["name"]: board.get("kind", "local") for board in bench["boards"]}
        self._precision: Precision = msgspec.json.decode(journal.meta("campaign"))["model"]["precision"]
        self._scheduled = self._scheduled_us()
        self._plans: dict[int, SelectionPlan] = {}
        self._when = ScenarioTime(journal)
        self._modes = ModeTimes(journal, self._when)
        self._power = quantities(journal).get("power_w", {})

    def read(self) -> None:
        """Everything that the run says."""
        self._orders()
        self._steps()
        self._samples()

    def _of(self, node: str, begin_ns: int, end_ns: int) -> Seen | None:
        """Where measurements of a node during a time of the ground's clock belong; None where its mode was not one."""
        mode = self._modes.over(node, begin_ns, end_ns)
        if mode is None:
            return None
        found = self._seen[self._profile[node], mode]
        found.runs[self._run] = None
        found.where[_WHERE.get(self._kind[node], "boards")] = None
        found.precisions[self._precision] = None
        if node in self._power:
            found.power.setdefault(f"{node} in {self._run}", self._power[node])
        return found

    def _scheduled_us(self) -> dict[tuple[str, str], float]:
        """Mean scheduled delay with serialisation of every directed link, from the shapers' reports."""
        total: dict[tuple[str, str], list[float]] = defaultdict(list)
        for entry in self._journal.entries("links"):
            body = decode(entry.body, Record).body
            assert isinstance(body, LinkReport)
            if body.frames:  # otherwise it only says what was refused, or became of earlier ones
                total[entry.node, body.peer].append(body.scheduled_us)
        return {pair: float(np.mean(values)) for pair, values in total.items()}

    def _orders(self) -> None:
        """Plans that ask for precisions, and how long orders to load and drop took."""
        given: dict[tuple[str, str], list[int]] = defaultdict(list)
        for entry in self._journal.entries("decision", "event"):
            if entry.kind == "decision":
                decision = msgspec.json.decode(entry.body, type=Decision)
                if any(layer.precision for layer in decision.plan.layers):
                    self._plans[decision.plan.version] = decision.plan
                for node, order in decision.orders:
                    if not isinstance(order, SetPower):
                        given[node, msgspec.json.encode(order.experts).decode()].append(entry.host_ns)
                continue
            event = decode(entry.body, Record).body
            if isinstance(event, NodeEvent) and event.name == "ShardsChanged":
                began = given.get((entry.node, str(event.details.get("held"))))
                ended_ns = self._when.host_ns(entry.node, event.mono_ns, entry.boot_id)
                if began and ended_ns > began[-1]:
                    began_ns = began.pop()
                    seen = self._of(entry.node, began_ns, ended_ns)
                    if seen is not None:
                        seen.load_us.append((ended_ns - began_ns) / 1e3)

    def _steps(self) -> None:
        batches: dict[tuple[str, int, Times], list[tuple[TokenEvidence, int, int]]] = defaultdict(list)
        heads: set[tuple[str, float, Times]] = set()
        for entry in self._journal.entries("token"):
            body = decode(entry.body, Record).body
            assert isinstance(body, TokenEvidence)
            ended_ns = self._when.host_ns(entry.node, body.mono_ns, entry.boot_id)
            seen = self._of(entry.node, ended_ns - round(body.total_us * 1e3), ended_ns)
            head = (entry.node, body.head_us, _times(body.layers[-1]) if body.layers else ())
            if seen is not None and body.head_us and head not in heads:
                heads.add(head)  # once for all that went through it together
                seen.add("head", 1, body.head_us)
                seen.done.append((self._second(entry.node, ended_ns), "head", 1))
            named = body.head_us
            for i, layer in enumerate(body.layers):
                batches[entry.node, layer.layer, _times(layer)].append((body, i, ended_ns))
                named += layer.trunk_us + layer.serialise_us + layer.link_us + layer.queue_us + layer.expert_us
            if seen is not None and body.rows == 1 and body.layers:
                seen.add("gate", 1, max(0.0, body.total_us - named) / len(body.layers))
        for (node, _, _), members in batches.items():
            self._batch(node, members)

    def _second(self, node: str, host_ns: int) -> Second:
        return self._run, node, host_ns // _NS

    def _rows(self, version: int, layer: int, host: int, experts: list[int]) -> Counter[str]:
        """Expert rows by precision that a host served."""
        plan = self._plans.get(version)
        if plan is None:
            return Counter({self._precision: len(experts)})
        wanted = plan.layers[layer].precisions()
        return Counter(wanted.get((expert, host), self._precision) for expert in experts)

    def _batch(self, node: str, members: list[tuple[TokenEvidence, int, int]]) -> None:
        """A layer of steps that went through it together, each with the instant of its end."""
        nodes = tuple(self._profile)
        rows = sum(body.rows for body, _, _ in members)
        first, index, ended_ns = members[0]
        layer, span = first.layers[index], (ended_ns - round(first.total_us * 1e3), ended_ns)
        hosts = np.concatenate([np.frombuffer(body.layers[i].hosts, "<i2") for body, i, _ in members])
        picks = np.concatenate([np.frombuffer(body.layers[i].picks, "<i2") for body, i, _ in members])
        remote = sorted({int(h) for h in hosts if h >= 0 and nodes[h] != node})
        seen = self._of(node, *span)
        here = self._second(node, ended_ns)
        if seen is not None:
            seen.add("trunk", rows, layer.trunk_us)
            if remote:
                seen.add("frame", rows, layer.serialise_us / len(remote))
            # What the model would have been busy with, so that its energy is the measured one over the same work.
            seen.done += [(here, "trunk", rows), (here, "gate", rows), *((here, "frame", rows) for _ in remote)]
        for host in sorted({int(h) for h in hosts if h >= 0}):
            there = self._of(nodes[host], *span)
            if there is None:
                continue
            did = self._rows(first.plan_version, layer.layer, host, picks[hosts == host].tolist())
            at = self._second(nodes[host], ended_ns)
            there.done += [(at, f"expert {precision}", count) for precision, count in did.items()]
            if host in remote:
                there.done.append((at, "frame", rows))
            # A call at two precisions says nothing of either.
            if remote == [host] and layer.expert_us > 0.0 and len(did) == 1:
                ((precision, count),) = did.items()
                there.add(f"expert {precision}", count, layer.expert_us)
        if seen is not None and len(remote) == 1 and layer.expert_us > 0.0:
            out, back = (self._scheduled.get(pair) for pair in ((node, nodes[remote[0]]), (nodes[remote[0]], node)))
            if out is not None and back is not None:
                seen.hop_us.append((layer.link_us - out - back) / 2)

    def _samples(self) -> None:
        for entry in self._journal.entries("samples"):
            body = decode(entry.body, Record).body
            assert isinstance(body, SampleBatch)
            read = [w for w in body.columns.get("power_w", ()) if w is not None]
            if not read or not body.mono_ns:
                continue
            ends = (body.mono_ns[at] for at in (0, len(body.mono_ns) // 2, -1))
            begin_ns, middle_ns, end_ns = (self._when.host_ns(entry.node, one, entry.boot_id) for one in ends)
            seen = self._of(entry.node, begin_ns, end_ns)
            if seen is not None:
                seen.watts.append((self._second(entry.node, middle_ns), float(np.mean(read))))
        for node, power in node_power(self._journal).items():
            if power.idle is not None and power.idle.watts is not None and len(power.clock_ns):
                seen = self._of(node, *(int(power.clock_ns[at]) - power.offset_ns for at in (0, -1)))
                if seen is not None:
                    seen.idle_w.append(power.idle.watts)
