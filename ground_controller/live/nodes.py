"""Each node's state, why it is in it, and its numbers with their provenance."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from ground_controller.journal import Entry
from ground_controller.live.run_facts import RunFacts
from ground_controller.live.tick_seen import TickSeen
from hil_config.wire import messages as m
from hil_config.wire.provenance import modelled

State = Literal["waiting", "serving", "no new work", "out of service", "dead"]
_NO_READING = modelled("idle power of the board's profile: no reading yet")
_MEASURED_COLUMN, _MODEL_COLUMN = "power_w", "power_cpu_power_model_w"
SILENT_PERIODS = 3.0
"""A board whose watts have not come for so many of their periods is silent: what it said last is not of now."""

BATCH_S = 1.0
"""Boards hand over about a second of samples at once."""

KEPT_BATCHES = 16
"""Of each node: a slow instrument has batches of its own, between those of the others."""


class Change(NamedTuple):
    """What a node's state or source of power became, with the entry that made it so.

    `reading`: its watts are not of now any more; `value` is the orbit second of the last ones, "" if they come again.
    """

    id: int
    scenario_s: float
    node: int
    what: Literal["state", "power", "reading"]
    value: str
    cause: str


class NodeRow(msgspec.Struct, frozen=True):
    """`power_by`: provenance of the watts; of a dead or silent node there are none, but `last_read_s`, the orbit second
    of the last. Temperature and charge: the twin's, which goes on."""

    node: str
    satellite: str
    state: State
    cause: str
    power_w: float | None
    power_by: str
    last_read_s: float | None
    temperature_c: float | None
    charge: float | None
    sunlit: float | None
    calls_per_s: float | None


class Reading(NamedTuple):
    """The newest value of one column that a node reports; None where there is none now, with the reason in `absent`.

    `at_s`: the orbit second at which it came, None for what never came.
    """

    name: str
    value: float | None
    unit: str
    provenance: str
    absent: str
    at_s: float | None


class _Power(msgspec.Struct, frozen=True):
    power_w: tuple[float | None, ...] | msgspec.UnsetType = msgspec.UNSET
    power_cpu_power_model_w: tuple[float | None, ...] | msgspec.UnsetType = msgspec.UNSET


class _Samples(msgspec.Struct, frozen=True):
    columns: _Power


class _SampleRecord(msgspec.Struct, frozen=True):
    body: _Samples


_samples = msgspec.json.Decoder(_SampleRecord)


class Nodes:
    """Takes entries in order. `changes` is kept whole: with it the state at any earlier entry is known."""

    def __init__(self, facts: RunFacts, kills: dict[str, float]) -> None:
        self._facts = facts
        self._kills = kills
        self._index = {name: i for i, name in enumerate(facts.nodes)}
        self._boot: dict[int, str] = {}
        self._quantities: dict[int, dict[str, m.Quantity]] = {}
        count = len(facts.nodes)
        self._batches = [deque[Entry](maxlen=KEPT_BATCHES) for _ in range(count)]
        self._state: list[State] = ["waiting"] * count
        self._refusing: list[str] = [""] * count
        self._column, self._power_by = [""] * count, [""] * count
        self._measured, self.silent = [True] * count, [False] * count
        self._patience_ns = [0.0] * count
        self._read: list[tuple[int, float] | None] = [None] * count
        self.changes: list[Change] = []

    def take(self, number: int, entry: Entry) -> None:
        """A `status` or `samples` entry; others pass by."""
        index = self._index.get(entry.node)
        if index is None:
            return
        if entry.kind == "status":
            self._take_status(number, entry, index, m.decode(entry.body, m.Status))
        elif entry.kind == "samples" and entry.boot_id == self._boot.get(index, entry.boot_id):
            self._take_samples(number, entry, index)

    def take_tick(self, number: int, host_ns: int, seen: TickSeen) -> None:
        """What the tick decided of a node changes its state; by its time a board may have become silent."""
        for index, read in enumerate(self._read):
            if read is not None and host_ns - read[0] > self._patience_ns[index]:
                self._fall_silent(number, seen.scenario_s, index)
        service, alive = seen.column("in_service"), seen.column("alive")
        for index, duty in enumerate(seen.duties):
            if duty is not None:
                self._refusing[index] = "" if duty.in_service else duty.reason
        for index in range(len(self._state)):
            if not alive[index]:
                continue  # its status said so, with the reason
            state: State = "out of service" if self._refusing[index] else "serving" if service[index] else "no new work"
            if state != self._state[index]:
                self._change(number, seen.scenario_s, index, state, self._why(state, index, seen))

    def _why(self, state: State, index: int, seen: TickSeen) -> str:
        if state == "out of service":
            return self._refusing[index]
        if state == "serving":
            return "" if self._state[index] == "waiting" else "within limits again"
        limits, temperature_c = self._facts.limits, float(seen.column("temperature_c")[index])
        if temperature_c > limits.temperature_soft_c:
            return f"twin: {temperature_c:.1f} C is over the soft limit of {limits.temperature_soft_c:g} C"
        charge = float(seen.column("charge")[index])
        if charge < limits.charge_soft:
            return f"twin: charge {charge:.1%} is under the soft limit of {limits.charge_soft:.1%}"
        return "not far enough within the soft limits yet"

    def _take_status(self, number: int, entry: Entry, index: int, status: m.Status) -> None:
        boot = self._boot.get(index, "")
        if status.state == "offline":
            if boot not in {"", status.boot_id}:
                return  # the will of an earlier boot
            self._change(number, entry.scenario_s, index, "dead", self._why_dead(entry, status))
            self._fall_silent(number, entry.scenario_s, index)
        else:
            if boot and boot != status.boot_id:
                self._refusing[index] = ""
                self._fall_silent(number, entry.scenario_s, index)
            cause = f"started again as boot {status.boot_id}" if boot and boot != status.boot_id else ""
            self._boot[index] = status.boot_id
            self._quantities[index] = {quantity.name: quantity for quantity in status.quantities}
            if cause or self._state[index] == "dead":
                self._change(number, entry.scenario_s, index, "waiting", cause or "is back")
            self._tell_power(number, entry, index)

    def _why_dead(self, entry: Entry, status: m.Status) -> str:
        if entry.node in self._kills:
            return f"was made to fail at {self._kills[entry.node]:g} s of the orbit"
        if status.agent_version:
            return "its agent ended in order"
        return "lost without a word: the broker sent its last will"

    def _take_samples(self, number: int, entry: Entry, index: int) -> None:
        """Which watts count is judged as the world does: a batch that lacks `power_w` is of other instruments."""
        self._batches[index].append(entry)
        columns = _samples.decode(entry.body).body.columns
        measured, model = columns.power_w, columns.power_cpu_power_model_w
        if isinstance(measured, tuple):
            self._measured[index] = any(value is not None for value in measured)
        column, values = (_MEASURED_COLUMN, measured) if self._measured[index] else (_MODEL_COLUMN, model)
        if not isinstance(values, tuple) or all(value is None for value in values):
            return
        self._read[index] = entry.host_ns, entry.scenario_s
        if self.silent[index] and self._state[index] != "dead":
            self.silent[index] = False
            self.changes.append(Change(number, entry.scenario_s, index, "reading", "", ""))
        if column != self._column[index]:
            self._column[index] = column
            self._tell_power(number, entry, index)

    def _tell_power(self, number: int, entry: Entry, index: int) -> None:
        column = self._column[index]
        if column:
            described = self._quantities.get(index, {}).get(column)
            period_s = 1.0 / described.hz if described and described.hz > 0.0 else BATCH_S
            self._patience_ns[index] = SILENT_PERIODS * max(period_s, BATCH_S, self._facts.tick_s) * 1e9
            by = str(described.provenance if described else modelled("the node did not describe this column"))
            before, self._power_by[index] = self._power_by[index], by
            if by != before:
                cause = f"was {before}" if before else ""
                self.changes.append(Change(number, entry.scenario_s, index, "power", by, cause))

    def _change(self, number: int, scenario_s: float, index: int, state: State, cause: str) -> None:
        self._state[index] = state
        self.changes.append(Change(number, scenario_s, index, "state", state, cause))

    def _fall_silent(self, number: int, scenario_s: float, index: int) -> None:
        """Once, and only who has said something."""
        read = self._read[index]
        if read is not None and not self.silent[index]:
            self.silent[index] = True
            self.changes.append(Change(number, scenario_s, index, "reading", f"{read[1]}", ""))

    def readings(self, index: int) -> tuple[Reading, ...]:
        """What the board of a node said last, every column that it describes."""
        if not self._batches[index]:
            return ()
        newest: dict[str, tuple[float | None, str, float]] = {}
        for entry in self._batches[index]:
            batch = m.decode(entry.body, m.Record).body
            assert isinstance(batch, m.SampleBatch)
            for name, values in batch.columns.items():
                if values:
                    newest[name] = values[-1], batch.absent.get(name, ""), entry.scenario_s
        found = []
        for name, one in self._quantities.get(index, {}).items():
            value, absent, at_s = newest.get(name, (None, "", None))
            found.append(Reading(name, value, one.unit, str(one.provenance), absent, at_s))
        return tuple(found)

    def rows(self, seen: TickSeen | None, until: int | None = None) -> tuple[NodeRow, ...]:
        """Of all nodes, with the numbers of a tick and the states after entry `until` (None: the newest)."""
        facts = self._facts
        count = len(facts.nodes)
        states: list[str] = ["waiting"] * count
        causes, power_by = [""] * count, [str(_NO_READING)] * count
        last_read_s: list[float | None] = [None] * count
        for change in self.changes:
            if until is not None and change.id > until:
                break
            if change.what == "state":
                states[change.node], causes[change.node] = change.value, change.cause
            elif change.what == "reading":
                last_read_s[change.node] = float(change.value) if change.value else None
            else:
                power_by[change.node] = change.value
        names = ("power_w", "temperature_c", "charge", "sunlit", "calls_per_s")
        found = [np.round(seen.column(name), 4).tolist() if seen else [None] * count for name in names]
        gone = [states[i] == "dead" or last_read_s[i] is not None for i in range(count)]
        return tuple(
            NodeRow(
                facts.nodes[i], facts.satellites[i], states[i], causes[i],  # type: ignore[arg-type]
                None if gone[i] else found[0][i], "" if gone[i] else power_by[i], last_read_s[i],
                found[1][i], found[2][i], found[3][i], found[4][i],
            )
            for i in range(count)
        )  # fmt: skip
