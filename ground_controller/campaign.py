"""One run of a campaign: set the stage, replay the orbit, generate text, decide, record, end cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from ground_controller.asking import asking
from ground_controller.client import Client
from ground_controller.clock_keeper import ClockKeeper, Offset
from ground_controller.core import Core
from ground_controller.decision import Decision
from ground_controller.feed import Feed
from ground_controller.finish import finish
from ground_controller.fleet.leftovers import collect
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.fleet.orders import Holders, held_experts
from ground_controller.fleet.outlet import Outlet
from ground_controller.idle import Side, stay_idle
from ground_controller.inbox import Inbox
from ground_controller.interruption import KIND as RESUMED
from ground_controller.interruption import RunResumed
from ground_controller.introduction import Introduction, introduce
from ground_controller.journal import WORK_ENDED, Entry, Journal, check_new
from ground_controller.loop import Loop
from ground_controller.mixed import META as MIXED
from ground_controller.mixed import Mixed, model_boards
from ground_controller.past import Past
from ground_controller.preflight.inputs import schedule, space
from ground_controller.preflight.nodes import clocks, refuse_unready, releases
from ground_controller.preparation import Prepared
from ground_controller.returning import Returning, Standing
from ground_controller.routes import choose_route
from ground_controller.run_lock import RunLock
from ground_controller.run_record import RunRecord, utc_now, write_beginning
from ground_controller.simulation.beside import Beside
from ground_controller.simulation.board_model import DEFAULT, Calibration
from ground_controller.simulation.company_process import CompanyProcess
from ground_controller.simulation.mode_model import mode_uses
from ground_controller.stage import Stage
from ground_controller.steering import Request, Steering, answer_path, leave_request
from hil_config.clock import PacedClock
from hil_config.units import HostSeconds
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.orders import InjectFault, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan

POWER_S = 20.0
"""For a power mode to be set and read back; nvpmodel alone may take ten."""
LEAD_S = 0.5
"""The clock is anchored this far ahead, so that every node knows it before scenario second 0."""


class Progress(NamedTuple):
    """What a progress display shows."""

    scenario_s: float
    duration_s: float
    tokens: int
    decision: Decision


class Run:
    """A run from start to close. Use `run_campaign`."""

    def __init__(
        self, prepared: Prepared, stage: Stage, journal: Journal, folder: Path, show: Callable[[Progress], None]
    ) -> None:
        self._stage = stage
        self._journal = journal
        self._p = prepared
        self._folder = folder
        self._show = show
        self._nodes = stage.nodes
        self._inbox = Inbox()
        self._record = RunRecord(self._inbox)
        self._core = self._new_core()
        self._client: Client | None = None
        self._introduced: Introduction | None = None
        self._returning: Returning | None = None
        self._faults: list[LinkFault] = []
        self._keeper: ClockKeeper | None = None
        self._gone: set[str] = set()
        self._beside: Beside | None = None
        self._fleet: MqttFleet | None = None
        self._in_modes: tuple[str, ...] = ()

    def accompany(self, process: CompanyProcess) -> None:
        """Have the bench's model boards calculated beside the real ones."""
        self._beside = Beside(self._p, process, model_boards(self._p.bench), self._inbox.put)

    def _new_core(self) -> Core:
        return Core(self._p.setting, self._p.policy, self._stage.epoch, self._p.campaign.control.plan_ttl_s)

    def start(self) -> None:
        """Agents, shards, links and clock; then ticks until the end."""
        write_beginning(self._journal, self._folder, self._p, self._stage.epoch)
        fleet = self._stage.open(self._inbox)
        self._core.epoch = self._stage.epoch  # an agent may have reported a higher one
        self._journal.set_meta("epoch", str(self._stage.epoch))
        client = self._prepare(fleet, self._new_core().advance(-1, 0.0, []).plan)
        self._order_modes(fleet)
        self._stay_idle("before", lambda: time.sleep(0.1))
        if self._beside is not None:
            self._beside.wait_ready()
        offsets = {node: fleet.clock_offset_ns(node) for node in self._nodes}
        known = {**dict.fromkeys(self._p.setting.nodes, (0, 0)), **offsets}  # a model node's clock is the ground's
        self._journal.set_meta("clock_offsets_ns", msgspec.json.encode(known).decode())
        anchor_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        self._journal.set_meta("anchor_host_ns", str(anchor_ns))
        if self._beside is not None:
            self._beside.begin(anchor_ns)
        loop = self._anchor(fleet, offsets, anchor_ns, 0.0)
        self._go(loop, Feed(self._p, client, self._record, (asking(self._p, self._folder),)))
        self._finish(fleet, loop)

    def go_on(self, past: Past) -> None:
        """As `start`, from where an earlier controller of this run left off."""
        core, self._record.tokens = past.core, sum(map(len, past.tokens.values()))
        self._core = core
        gone = zip(self._nodes, past.last.column("alive").tolist(), strict=True)
        # Of agents that died with it:
        collect(self._folder / "spool", list(self._stage.local), self._inbox, self._stage.shape)
        fleet = self._stage.open(self._inbox)
        core.epoch = self._stage.epoch
        client = self._prepare(fleet, replace(past.last.plan, epoch=self._stage.epoch), core.held)
        self._order_modes(fleet)
        self._gone = {node for node, alive in gone if not alive and fleet.statuses[node].state == "offline"}
        offsets = {node: fleet.clock_offset_ns(node) for node in self._nodes}
        anchor_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        resumed = RunResumed(
            core.epoch, past.at_s, past.stopped_ns, anchor_ns, self._p.campaign.orbit.rate, offsets,
            {node: fleet.statuses[node].boot_id for node in self._nodes}, self._stage.local, past.under_way, utc_now(),
        )  # fmt: skip
        tick = past.last.tick + 1
        entry = Entry(tick, past.at_s, time.monotonic_ns(), RESUMED, "", "", 0, msgspec.json.encode(resumed))
        self._journal.commit([entry])
        loop = self._anchor(fleet, offsets, anchor_ns, past.at_s, tick, (*past.pending, entry))
        for node in core.world.suspended:
            fleet.tell(node, SetDuty(False, "it was out of service when the controller was interrupted"))
        for fault in past.faults:
            self._inject(fleet, fault)
        asks = asking(self._p, self._folder, len(past.begun), past.ticked_s)
        feed = Feed(self._p, client, self._record, (asks,))
        feed.go_on(past, self._p.campaign.workload.max_new_tokens)
        self._go(loop, feed)
        self._finish(fleet, loop)

    def _order_modes(self, fleet: MqttFleet) -> None:
        """Every board into the power mode that holds now; its answer says that it was read back."""
        held = self._core.world.power_orders()
        orders = {node: held[node] for node in self._nodes if node in held}
        self._fleet, self._in_modes = fleet, tuple(orders)
        if orders:
            fleet.order(self._in_modes, orders, POWER_S)

    def _restore_modes(self) -> None:
        """Every board as it was before the run; who did not say so is on record."""
        there = tuple(node for node in self._in_modes if node not in self._stage.ended())
        self._in_modes = ()
        if there and self._fleet is not None:
            replies = self._fleet.ask(there, {node: SetPower(restore=True) for node in there}, POWER_S)
            left = [node for node in there if node not in replies or not replies[node].ok]
            self._journal.set_meta("modes_left", msgspec.json.encode(left).decode())

    def _outlet(self, fleet: MqttFleet) -> Outlet:
        return Outlet(fleet, self._nodes)

    def _prepare(self, fleet: MqttFleet, plan: SelectionPlan, holders: Holders | None = None) -> Client:
        """Open the client and have every node load what it is to serve."""
        refuse_unready((releases(fleet.statuses, self._nodes),))
        self._introduced = introduce(
            self._p, self._folder.name, self._stage, fleet, plan,
            lambda avoid: choose_route(self._core.view, avoid, self._nodes), self._record.client_event, holders,
        )  # fmt: skip
        self._client, orders, wait_s = self._introduced
        fleet.order(self._nodes, orders, wait_s)
        return self._client

    def _stay_idle(self, side: Side, turn: Callable[[], object]) -> None:
        def watched() -> None:
            turn()
            self._stage.check()

        window = stay_idle(side, self._p.campaign.control.idle_s, watched)
        if window is not None:
            self._inbox.put(window)

    def _anchor(
        self, fleet: MqttFleet, offsets: dict[str, Offset], anchor_ns: int, at_s: float,
        tick: int = 0, pending: tuple[Entry, ...] = (),
    ) -> Loop:  # fmt: skip
        """Give every node the same scenario clock, in its own monotonic time: `at_s` at our `anchor_ns`."""
        refuse_unready((clocks(offsets, self._p.campaign.control.tick_s),))
        rate = self._p.campaign.orbit.rate
        clock = self._clock = PacedClock(rate, HostSeconds(anchor_ns / 1e9), at_s)
        outlet, campaign = self._outlet(fleet), self._p.campaign
        keeper = self._keeper = ClockKeeper(
            fleet, self._stage.epoch, clock, offsets, self._record.clock_checked, campaign.control.clock_check_s
        )
        keeper.announce("start", anchor_ns, at_s, rate)
        keeper.start()
        assert self._introduced is not None
        self._returning = Returning(fleet, *self._introduced, keeper, self._record.board_returned)
        steering = Steering(
            self._folder, clock, campaign.orbit.duration_s, campaign.control.tick_s, self._p.setting.satellites,
            keeper.announce, partial(self._inject, fleet),
        )  # fmt: skip
        next_s = at_s + campaign.control.tick_s * rate if tick else 0.0
        return Loop(
            self._core, self._journal, self._inbox, clock, outlet, self._decided, steering, first=(tick, next_s),
            pending=pending,
        )  # fmt: skip

    def _inject(self, fleet: MqttFleet, fault: LinkFault) -> None:
        """Put a fault on the links of every node, and of those that return."""
        self._faults.append(fault)
        self._outlet(fleet).fault(fault)

    def _standing(self, decision: Decision, node: str) -> Standing:
        """What a node is to be told that knows nothing of the run."""
        world, index = self._core.world, self._p.setting.nodes.index(node)
        orders: list[SetDuty | SetPower | InjectFault] = [InjectFault(fault) for fault in self._faults]
        if node in world.suspended:
            orders.append(SetDuty(False, "it was out of service when its agent was started again"))
        if power := world.power_orders().get(node):
            orders.append(power)
        return Standing(held_experts(self._p, index, self._core.held), decision.plan, tuple(orders))

    def _decided(self, decision: Decision) -> None:
        client = self._client
        assert client is not None
        alive = zip(self._p.setting.nodes, decision.column("alive").tolist(), strict=True)
        gone = {node for node, lives in alive if not lives}.intersection(self._nodes)
        for node in sorted(gone - self._gone):
            client.node_lost(node)
        self._gone = gone
        if self._returning is not None:
            self._returning.look(partial(self._standing, decision))
        self._show(Progress(decision.scenario_s, self._p.campaign.orbit.duration_s, self._record.tokens, decision))

    def _go(self, loop: Loop, feed: Feed) -> None:
        """Ticks until the orbit is replayed or nothing more is asked."""
        client = self._client
        assert client is not None
        try:
            while True:
                if self._beside is not None:
                    self._beside.arrive()
                decision = loop.run_tick()
                self._stage.check()
                if self._beside is not None:
                    self._beside.go_on(loop.tick, decision, self._core.view, self._clock)
                client.watch()
                feed.collect()
                if decision.scenario_s >= self._p.campaign.orbit.duration_s:
                    break
                feed.begin_due(decision.scenario_s)
                if feed.over:
                    break
        finally:
            feed.stop()
        self._journal.set_meta(WORK_ENDED, str(time.monotonic_ns()))
        if self._beside is not None:
            self._beside.leave()
        client.stop_all("the replayed orbit ended")
        feed.collect()

    def _finish(self, fleet: MqttFleet, loop: Loop) -> None:
        """Stay idle if the campaign says so, then let every living node hand in its last record."""
        if self._p.campaign.control.idle_s > 0.0:
            asked = leave_request(self._folder, Request("pause"))  # the orbit is over; the boards stay for a while
            self._stay_idle("after", loop.run_tick)
            answer_path(asked).unlink(missing_ok=True)
        self._restore_modes()
        ended = self._stage.ended()
        alive = tuple(name for name in self._core.world.online if name in self._nodes and name not in ended)
        finish(self._stage, fleet, loop, self._journal, self._inbox, self._folder, alive)

    def close(self) -> None:
        """Put power modes back and stop what talks to the nodes; the stage is closed by whoever opened it."""
        self._restore_modes()
        if self._returning is not None:
            self._returning.close()
        if self._keeper is not None:
            self._keeper.stop()
        if self._client is not None:
            self._client.close()


def run_campaign(
    prepared: Prepared, folder: Path, show: Callable[[Progress], None], take_over: bool = False,
    calibration: Calibration = DEFAULT,
) -> None:  # fmt: skip
    """Execute one run into `folder` (new). Whatever happens, every process that was started is ended.

    Args:
        take_over: the bench from a controller that is not heard any more.
        calibration: of the bench's model boards, where it has some beside real ones.

    Raises:
        SafetyRefusal: another controller commands the bench. Nothing was written then.
    """
    check_new(folder)
    refuse_unready((space(prepared, folder), schedule(prepared)))
    with ExitStack() as opened:
        stage = Stage(prepared, folder)
        opened.callback(stage.close)
        stage.take_command(0, take_over)
        journal = Journal.create(folder)
        opened.callback(journal.close)
        opened.callback(RunLock(folder).release)
        run = Run(prepared, stage, journal, folder, show)
        opened.callback(run.close)
        if names := model_boards(prepared.bench):
            nodes = prepared.setting.nodes
            real = [index for index, node in enumerate(nodes) if node not in names]
            uses = mode_uses(calibration, prepared.profiles, prepared.setting.modes, real)
            mixed = Mixed(tuple(node for node in nodes if node in names), calibration.source, uses)
            journal.set_meta(MIXED, msgspec.json.encode(mixed).decode())
            process = CompanyProcess(prepared, calibration)
            opened.callback(process.close)
            run.accompany(process)
        run.start()
