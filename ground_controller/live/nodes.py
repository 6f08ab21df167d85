"""Each node's state, why it is in it, and its numbers with their provenance."""

from __future__ import annotations

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
_MODEL_COLUMN = "power_cpu_power_model_w"


class Change(NamedTuple):
    """What a node's state or source of power became, with the entry that made it so."""

    id: int
    scenario_s: float
    node: int
    what: Literal["state", "power"]
    value: str
    cause: str


class NodeRow(msgspec.Struct, frozen=True):
    """`power_by`: provenance of the watts; of a dead node there are none. Temperature and charge: the twin's."""

    node: str
    satellite: str
    state: State
    cause: str
    power_w: float | None
    power_by: str
    temperature_c: float | None
    charge: float | None
    sunlit: float | None
    calls_per_s: float | None


class Reading(NamedTuple):
    """The newest value of one column that a node reports; None where there is none now, with the reason in `absent`."""

    name: str
    value: float | None
    unit: str
    provenance: str
    absent: str


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
        self._last_samples: dict[int, bytes] = {}
        count = len(facts.nodes)
        self._state: list[State] = ["waiting"] * count
        self._refusing: list[str] = [""] * count
        self._column, self._power_by = [""] * count, [""] * count
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

    def take_tick(self, number: int, seen: TickSeen) -> None:
        """What the tick decided of a node changes its state."""
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
        else:
            if boot and boot != status.boot_id:
                self._refusing[index] = ""
            cause = f"started again as boot {status.boot_id}" if boot and boot != status.boot_id else ""
            self._boot[index] = status.boot_id
            self._quantities[index] = {quantity.name: quantity for quantity in status.quantities}
            if self._state[index] == "dead":
                self._change(number, entry.scenario_s, index, "waiting", cause or "is back")
            self._tell_power(number, entry, index)

    def _why_dead(self, entry: Entry, status: m.Status) -> str:
        if entry.node in self._kills:
            return f"was made to fail at {self._kills[entry.node]:g} s of the orbit"
        if status.agent_version:
            return "its agent ended in order"
        return "lost without a word: the broker sent its last will"

    def _take_samples(self, number: int, entry: Entry, index: int) -> None:
        self._last_samples[index] = entry.body
        columns = _samples.decode(entry.body).body.columns
        measured, model = columns.power_w, columns.power_cpu_power_model_w
        if isinstance(measured, tuple) and any(value is not None for value in measured):
            column = "power_w"
        elif isinstance(model, tuple):
            column = _MODEL_COLUMN
        else:
            return
        if column != self._column[index]:
            self._column[index] = column
            self._tell_power(number, entry, index)

    def _tell_power(self, number: int, entry: Entry, index: int) -> None:
        column = self._column[index]
        if column:
            described = self._quantities.get(index, {}).get(column)
            by = str(described.provenance if described else modelled("the node did not describe this column"))
            before, self._power_by[index] = self._power_by[index], by
            if by != before:
                cause = f"was {before}" if before else ""
                self.changes.append(Change(number, entry.scenario_s, index, "power", by, cause))

    def _change(self, number: int, scenario_s: float, index: int, state: State, cause: str) -> None:
        self._state[index] = state
        self.changes.append(Change(number, scenario_s, index, "state", state, cause))

    def readings(self, index: int) -> tuple[Reading, ...]:
        """What the board of a node said last, every column that it describes."""
        body = self._last_samples.get(index)
        if body is None:
            return ()
        batch = m.decode(body, m.Record).body
        assert isinstance(batch, m.SampleBatch)
        newest = {name: values[-1] for name, values in batch.columns.items() if values}
        return tuple(
            Reading(name, newest.get(name), one.unit, str(one.provenance), batch.absent.get(name, ""))
            for name, one in self._quantities.get(index, {}).items()
        )

    def rows(self, seen: TickSeen | None, until: int | None = None) -> tuple[NodeRow, ...]:
        """Of all nodes, with the numbers of a tick and the states after entry `until` (None: the newest)."""
        facts = self._facts
        count = len(facts.nodes)
        states: list[str] = ["waiting"] * count
        causes, power_by = [""] * count, [str(_NO_READING)] * count
        for change in self.changes:
            if until is not None and change.id > until:
                break
            if change.what == "state":
                states[change.node], causes[change.node] = change.value, change.cause
            else:
                power_by[change.node] = change.value
        names = ("power_w", "temperature_c", "charge", "sunlit", "calls_per_s")
        found = [np.round(seen.column(name), 4).tolist() if seen else [None] * count for name in names]
        return tuple(
            NodeRow(
                facts.nodes[i], facts.satellites[i], states[i], causes[i],  # type: ignore[arg-type]
                None if states[i] == "dead" else found[0][i], power_by[i] if states[i] != "dead" else "",
                found[1][i], found[2][i], found[3][i], found[4][i],
            )
            for i in range(count)
        )  # fmt: skip
