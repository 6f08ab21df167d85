"""All model nodes of a run and what connects them: built from a prepared campaign."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ground_controller.client import NAME as CLIENT
from ground_controller.fleet.orders import held_experts, link_acceleration, link_codecs
from ground_controller.inbox import Arrival
from ground_controller.preparation import Prepared
from ground_controller.simulation.agenda import Agenda, Window
from ground_controller.simulation.board_model import Calibration
from ground_controller.simulation.fabric import Fabric
from ground_controller.simulation.gateway import SimGateway, frame_bytes
from ground_controller.simulation.layer_call import Terms
from ground_controller.simulation.mode_model import models_of
from ground_controller.simulation.node import Machine, ModelNode
from ground_controller.simulation.step import SimStep, SimToken
from hil_config.wire import messages as m
from hil_config.wire.frame_types import NO_LINK
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.orders import DropShards, LoadShards, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan

REPORT_S = 5.0
"""Host seconds between reports of the links."""


class Constellation:
    """Model nodes, gateways and links. It is the loop's outlet: plans and duties come to it.

    `only`: these boards of the bench; the others are real. `token` and `refused` are set to the client's by whoever
    makes one.
    """

    def __init__(
        self,
        prepared: Prepared,
        calibration: Calibration,
        agenda: Agenda,
        window: Window,
        put: Callable[[Arrival], None],
        anchor_ns: int,
        only: frozenset[str] | None = None,
    ) -> None:
        self._p = prepared
        self.agenda = agenda
        self._stride = window.stride
        campaign, nodes = prepared.campaign, prepared.setting.nodes
        boost = link_acceleration(campaign)
        self.fabric = Fabric(
            agenda, window, prepared.schedule, dict(zip(nodes, prepared.setting.satellites, strict=True)),
            campaign.orbit.delay_scale / boost, boost, campaign.seed, campaign.links.jitter_s,
            campaign.policies.routing != "direct", campaign.links.relay,
            lambda node, action: self.nodes[node].later(action),
        )  # fmt: skip
        machine = Machine(calibration.shared_cores) if calibration.shared_cores else None
        ordered = prepared.setting.modes
        boards = list(zip(prepared.bench.boards, prepared.profiles, strict=True))
        offered = {p.name: p for b, p in boards if ordered is not None and (only is None or b.name in only)}
        modes = {name: models_of(calibration, profile) for name, profile in offered.items()}
        self.nodes = {
            board.name: ModelNode(
                board.name, calibration.board(profile), agenda, window, put, machine if board.kind == "local" else None,
                campaign.seed, anchor_ns, calibration.source, modes.get(profile.name),
                None if ordered is None else ordered.start(index),
            )
            for index, (board, profile) in enumerate(boards)
            if only is None or board.name in only
        }  # fmt: skip
        for index, name in enumerate(nodes):
            if name in self.nodes:
                self.nodes[name].hold(held_experts(prepared, index))
        codecs = {node: link_codecs(prepared, node) for node in nodes} if campaign.links.codecs else {}

        def codec(source: str, target: str) -> Codec:
            return codecs[source].get(target, campaign.model.hidden_codec) if codecs else campaign.model.hidden_codec

        card = prepared.manifest.model
        self._terms = Terms(
            agenda, self.fabric, self.nodes, card.hidden, campaign.control.expert_timeout_s, codec
        )  # fmt: skip
        held_by = {n for row in prepared.placement.holders for held in row for n in held}
        hosts = tuple(sorted(n for n in held_by if nodes[n] in self.nodes))
        names = dict.fromkeys(n for piece in prepared.placement.gateways for n in piece.nodes if n in self.nodes)
        self.gateways = {
            name: SimGateway(
                self.nodes[name], self._terms, card, hosts, self._to_client, self._refuse, self._forward, CLIENT,
                self._stride > 1,
            )
            for name in names
        }  # fmt: skip
        self.token: Callable[[SimToken], None] = lambda _token: None
        self.refused: Callable[[int, int, str], None] = lambda _request, _attempt, _reason: None
        self._reported_s = 0.0

    def plan(self, plan: SelectionPlan) -> None:
        self.fabric.ways.take(plan)
        for gateway in self.gateways.values():
            gateway.accept_plan(plan)

    def duty(self, node: str, order: SetDuty) -> None:
        self.nodes[node].obey(order)

    def shards(self, node: str, order: LoadShards | DropShards) -> None:
        self.nodes[node].change(order)

    def power(self, node: str, order: SetPower) -> None:
        self.nodes[node].set_power(order)

    def watermark(self, mark: m.Watermark) -> None:
        """Model nodes keep no spool: their evidence is in the inbox as soon as it exists."""

    def begin(self, step: SimStep) -> None:
        """From the client to the first gateway: out of band, not shaped."""
        gateway = self.gateways[step.route[0]]
        gateway.node.later(partial(gateway.accept, step))

    def cancel(self, node: str, request: int, attempt: int) -> None:
        self.gateways[node].cancel(request, attempt)

    def kill(self, node: str) -> None:
        """The board is gone, as by a lost supply: peers see their connections break, the broker sends the will."""
        if self.nodes[node].alive:
            self.nodes[node].die()
            self.fabric.fail(node)
            for name, gateway in self.gateways.items():
                if name != node:
                    gateway.lost(node)

    def hand_in(self) -> None:
        """Samples of every node, and what the gateways only estimate; every few seconds, reports of the links."""
        for node in self.nodes.values():
            node.sample()
        for gateway in self.gateways.values():
            gateway.summarise(self._stride)
        if (self.agenda.now_s - self._reported_s) * self._stride >= REPORT_S:
            self.report_links()

    def report_links(self) -> None:
        self._reported_s = self.agenda.now_s
        any_node = next(iter(self.nodes.values()))
        for name, report in self.fabric.reports(any_node.host_ns()):
            self.nodes[name].record("links", report)

    def _to_client(self, node: str, token: SimToken) -> None:
        self.nodes[node].later(partial(self.token, token))

    def _refuse(self, request: int, attempt: int, reason: str) -> None:
        self.agenda.at(self.agenda.now_s, partial(self.refused, request, attempt, reason))

    def _forward(self, source: str, step: SimStep, codec: Codec | None) -> None:
        target = self.gateways[step.route[step.stage]]
        if target.node.name == source:
            self.agenda.at(self.agenda.now_s, partial(target.accept, step))
            return
        size = frame_bytes(self._terms, CLIENT, source, target.node.name, step, codec)
        arrive = partial(target.node.later, partial(target.accept, step))
        if not self.fabric.send(source, target.node.name, size, arrive):
            self._refuse(step.request, step.attempt, f"{source}: {NO_LINK} {target.node.name}")
