"""Replay: derive every decision of a run again from its record, and every gate decision from its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.core import Core
from ground_controller.decision import Decision, same_decision
from ground_controller.journal import Entry, Journal
from ground_controller.loop import TickBegan
from ground_controller.preparation import Prepared, prepare, profiles_hash
from hil_config.errors import InvalidRunError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.wire.manifest import ModelCard
from hil_config.wire.messages import LayerEvidence, Record, TokenEvidence, decode
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.schedule_file import schedule_hash
from models.serving.gate import select
from models.serving.layer_gate import compile_layer, row_fraction, unpriced
from models.serving.transmission import Sending, compile_sending


@dataclass
class Replayed:
    """`ticks` and `gates` re-derived; the mismatches, first ones described."""

    ticks: int = 0
    gates: int = 0
    unchecked: int = 0
    decision_mismatches: int = 0
    gate_mismatches: int = 0
    first: list[str] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        return self.decision_mismatches + self.gate_mismatches

    def note(self, text: str) -> None:
        if len(self.first) < 5:
            self.first.append(text)


def prepare_again(journal: Journal) -> Prepared:
    """The run's inputs rebuilt from its own record; InvalidRunError if they are no longer the same."""
    bench = Bench.model_validate_json(journal.meta("bench"))
    campaign = Campaign.model_validate_json(journal.meta("campaign"))
    prepared = prepare(bench, campaign)
    profiles = profiles_hash(prepared.profiles, campaign.power is not None)
    for what, now, then in (
        ("configuration", prepared.config_sha256, journal.meta("config_sha256")),
        ("board profiles", profiles, journal.meta("profiles_sha256")),
        ("model", prepared.manifest_sha256, journal.meta("manifest_sha256")),
        ("schedule", schedule_hash(prepared.schedule_bytes), journal.meta("schedule_sha256")),
    ):
        if now != then:
            raise InvalidRunError(
                f"{journal.path}: its {what} was {then[:12]}, the same inputs now give {now[:12]}",
                "replay with the release and the files that made the run",
            )
    return prepared


def replay_run(folder: Path) -> Replayed:
    """Re-derive everything in a run folder's journal."""
    journal = Journal.read(folder)
    try:
        prepared = prepare_again(journal)
        epoch = int(journal.meta("epoch"))
        ttl_s = prepared.campaign.control.plan_ttl_s
        result = Replayed()
        core = Core(prepared.setting, prepared.policy, epoch, ttl_s)
        first = Core(prepared.setting, prepared.policy, epoch, ttl_s).advance(-1, 0.0, []).plan
        plans = {first.version: first}
        pending: list[Entry] = []
        scenario_s = 0.0
        for entry in journal.entries():
            if entry.kind == "tick":
                scenario_s = msgspec.json.decode(entry.body, type=TickBegan).scenario_s
            elif entry.kind == "decision":
                decision = core.advance(entry.tick, scenario_s, pending)
                pending = []
                plans[decision.plan.version] = decision.plan
                _compare(decision, entry, result)
            else:
                pending.append(entry)
        _check_gates(journal, plans, result)
        return result
    finally:
        journal.close()


def _compare(decision: Decision, entry: Entry, result: Replayed) -> None:
    result.ticks += 1
    if not same_decision(decision, entry.body):
        result.decision_mismatches += 1
        result.note(f"tick {entry.tick}: the journal's decision is another than the one derived now")


def _check_gates(journal: Journal, plans: dict[int, SelectionPlan], result: Replayed) -> None:
    card = msgspec.json.decode(journal.meta("model_card"), type=ModelCard)
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        plan = plans.get(body.plan_version)
        if plan is not None and not _handover_fits(entry.node, body, plan, card):
            result.gate_mismatches += 1
            result.note(f"request {body.request} position {body.start}: handed over in {body.handover or 'no codec'}")
        for layer in body.layers:
            if plan is None:
                result.unchecked += 1
                continue
            result.gates += 1
            if not _same_picks(entry.node, body, layer, plan, card):
                result.gate_mismatches += 1
                result.note(f"request {body.request} position {body.start} layer {layer.layer}: other picks")


def _same_picks(node: str, body: TokenEvidence, layer: LayerEvidence, plan: SelectionPlan, card: ModelCard) -> bool:
    used = unpriced(plan, card.routing.top_k) if body.plan_expired else plan
    alive = np.frombuffer(layer.live, np.uint8).astype(bool)
    scores = np.frombuffer(layer.scores, "<f4").reshape(body.rows, card.experts)
    fraction = row_fraction(body.request, body.start, body.rows, layer.layer)
    mixing = np.frombuffer(layer.mixing, "<f4").reshape(scores.shape) if layer.mixing else None
    picks = select(compile_layer(used, layer.layer, alive), scores, card.routing, fraction, mixing)
    rules, own = compile_sending(used.transmission), used.nodes.index(node)
    if rules is not None and rules.drop:
        picks = rules.keep(picks, own, layer.layer, card.hidden)
    same = picks.experts.tobytes() == layer.picks and picks.hosts.tobytes() == layer.hosts
    return same and _same_codecs(rules, own, body, layer, picks.hosts, card)


def _same_codecs(
    rules: Sending | None, own: int, body: TokenEvidence, layer: LayerEvidence, hosts: NDArray[np.int16],
    card: ModelCard,
) -> bool:  # fmt: skip
    """Every frame to a host in the codec that the plan's rules give it, and one to every host."""
    if rules is None:
        return not layer.sent and not body.handover
    wanted = set(hosts[hosts >= 0].tolist()) - {own}
    return wanted <= {one.host for one in layer.sent} and all(
        one.codec == rules.codec(own, one.host, layer.layer, one.rows, card.hidden, one.importance)
        and one.answer == rules.codec(one.host, own, layer.layer, one.rows, card.hidden, one.importance)
        for one in layer.sent
    )


def _handover_fits(node: str, body: TokenEvidence, plan: SelectionPlan, card: ModelCard) -> bool:
    """Was the frame to the next gateway in the codec that the rules give it for one that may run the next slice?"""
    rules = None if body.plan_expired else compile_sending(plan.transmission)
    if rules is None or not body.handover:
        return not body.handover
    last, own = body.layers[-1].layer, plan.nodes.index(node)
    nexts = [plan.nodes.index(name) for piece in plan.gateways if piece.first == last + 1 for name in piece.nodes]
    return body.handover in {rules.codec(own, n, -1, body.rows, card.hidden, 1.0) for n in nexts if n != own}
