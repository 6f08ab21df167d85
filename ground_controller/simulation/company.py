"""The model nodes of a fleet that has real ones too: a data plane of their own, calculated tick by tick.

They are under the run's plans and clock and send evidence like everybody, but frames pass among themselves only, for
requests of their own. `Company` is told what happened on the ground and answers with what arrives there.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.inbox import Arrival
from ground_controller.mixed import model_boards
from ground_controller.preparation import Prepared
from ground_controller.simulation.agenda import Agenda, Window
from ground_controller.simulation.board_model import Calibration
from ground_controller.simulation.client import SimClient
from ground_controller.simulation.constellation import Constellation
from ground_controller.simulation.traces import Trace, record_traces
from hil_config.wire.orders import SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan

_KINDS = {
    "TokenArrived": "model_token", "AttemptBegan": "model_attempt", "RequestBegan": "model_request_begin",
    "RequestEnded": "model_request_end",
}  # fmt: skip


class Turn(NamedTuple):
    """What a tick decided. `until_s`: the host second up to which the model nodes go on, under this plan; `scenario_s`
    now, and `rate` (0: paused). `route`: gateways for requests that begin meanwhile, None where no ring stands."""

    until_s: float
    scenario_s: float
    rate: float
    plan: SelectionPlan
    duties: tuple[tuple[str, SetDuty], ...]
    route: tuple[str, ...] | None
    powers: tuple[tuple[str, SetPower], ...] = ()


class LiveWindow(Window):
    """Host seconds to scenario seconds as the run's clock goes: it may stand still, or jump."""

    def __init__(self, tick_s: float, rate: float) -> None:
        super().__init__(tick_s, 1, rate)
        self._mark = (0.0, 0.0, rate)

    def mark(self, at_s: float, scenario_s: float, rate: float) -> None:
        """From now on."""
        self._mark = (at_s, scenario_s, rate)

    def scenario_s(self, at_s: float) -> float:
        began_s, scenario_s, rate = self._mark
        return scenario_s + (at_s - began_s) * rate


class Company:
    """Args:

    anchor_ns: the ground's clock at host second 0, which is that of the model nodes too.
    """

    def __init__(
        self, prepared: Prepared, calibration: Calibration, anchor_ns: int, traces: tuple[Trace, ...] | None = None
    ) -> None:
        self._p = prepared
        self._traces = record_traces(prepared) if traces is None else traces
        campaign, control = prepared.campaign, prepared.campaign.control
        self._arrived: list[Arrival] = []
        self._agenda = Agenda()
        self._window = LiveWindow(control.tick_s, campaign.orbit.rate)
        self._anchor_ns = anchor_ns
        self._fleet = Constellation(
            prepared, calibration, self._agenda, self._window, self._arrived.append, anchor_ns,
            model_boards(prepared.bench),
        )  # fmt: skip
        self._route: tuple[str, ...] | None = None
        self._client = SimClient(
            self._agenda, lambda _avoid: self._route, self._record, self._fleet.begin, self._fleet.cancel,
            prepared.manifest.model.end_of_text, control.token_timeout_s,
        )  # fmt: skip
        self._fleet.token, self._fleet.refused = self._client.token, self._client.refused
        self._next_request = 1
        for node in self._fleet.nodes.values():
            node.say_online()

    def _record(self, event: msgspec.Struct) -> None:
        at_ns = self._anchor_ns + round(self._agenda.now_s * 1e9)
        self._arrived.append(Arrival(at_ns, _KINDS[type(event).__name__], "", "", 0, msgspec.json.encode(event)))

    def take(self, turn: Turn) -> list[Arrival]:
        """Go on until the next tick; everything that arrives at the ground by then."""
        self._window.mark(self._agenda.now_s, turn.scenario_s, turn.rate)
        self._fleet.plan(turn.plan)
        for node, order in turn.duties:
            if node in self._fleet.nodes:
                self._fleet.duty(node, order)
        for node, mode in turn.powers:
            if node in self._fleet.nodes:
                self._fleet.power(node, mode)
        self._route = turn.route
        self._client.watch()
        self._collect()
        self._begin()
        self._agenda.run_until(turn.until_s)
        self._fleet.hand_in()
        arrived = self._arrived[:]
        self._arrived.clear()
        return arrived

    def _begin(self) -> None:
        """Keep the workload's number of requests in flight."""
        workload = self._p.campaign.workload
        while self._client.running < workload.modelled_concurrency:
            number, self._next_request = self._next_request, self._next_request + 1
            index = (self._p.campaign.seed + number - 1) % len(self._traces)
            prompt, trace = self._p.prompts[index], self._traces[index]
            self._record(RequestBegan(number, prompt.domain, prompt.text, trace.prompt))
            self._client.begin(number, trace)

    def _collect(self) -> None:
        end = self._p.manifest.model.end_of_text
        for request, reason in self._client.take_ended():
            text = str(self._p.tokenizer.decode([t for t in request.tokens if t != end]))
            self._record(RequestEnded(request.id, tuple(request.tokens), text, reason))

    def leave(self) -> list[Arrival]:
        """The orbit is over: what ends with it."""
        self._client.stop_all("the replayed orbit ended")
        self._collect()
        self._fleet.report_links()
        return self._arrived[:]
