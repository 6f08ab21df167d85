"""The model nodes beside the real ones of a run: what its loop tells them, and what comes back with the next tick."""

from __future__ import annotations

from collections.abc import Callable

from ground_controller.decision import Decision
from ground_controller.inbox import Arrival
from ground_controller.policies.view import View
from ground_controller.preparation import Prepared
from ground_controller.routes import choose_route
from ground_controller.simulation.company import Turn
from ground_controller.simulation.company_process import CompanyProcess
from hil_config.clock import Clock
from hil_config.wire.orders import SetPower


class Beside:
    """Args:

    names: the model nodes. put: takes what arrives at the ground.
    """

    def __init__(
        self, prepared: Prepared, process: CompanyProcess, names: frozenset[str], put: Callable[[Arrival], None]
    ) -> None:
        self._nodes = prepared.setting.nodes
        self._tick_s = prepared.campaign.control.tick_s
        self._process = process
        self._names = names
        self._put = put

    def begin(self, anchor_ns: int) -> None:
        """The run's clock is anchored here, on the ground's own; `wait_ready` was called before."""
        self._process.begin(anchor_ns)

    def wait_ready(self) -> None:
        self._process.wait_ready()

    def go_on(self, ticks: int, decision: Decision, view: View, clock: Clock) -> None:
        """Calculate up to the next tick, `ticks` after the anchor, while it comes."""
        duties = tuple((n, d) for n, d in zip(self._nodes, decision.duties, strict=True) if d is not None)
        powers = tuple((node, order) for node, order in decision.orders if isinstance(order, SetPower))
        route = choose_route(view, among=self._names)
        rate = 0.0 if clock.paused else clock.rate
        turn = Turn(ticks * self._tick_s, decision.scenario_s, rate, decision.plan, duties, route, powers)
        self._process.turn(turn)

    def arrive(self) -> None:
        """What the last turn brought; waits for it."""
        for arrival in self._process.collect():
            self._put(arrival)

    def leave(self) -> None:
        """The orbit is over."""
        self.arrive()
        for arrival in self._process.leave():
            self._put(arrival)
