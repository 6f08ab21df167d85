"""What the policies beyond selection did in a run: precisions served, codecs sent, experts moved, bytes and joules.

Rows by precision follow from evidence and plans: the host and precision the plan names for each pick. Migration bytes
count every hop; their joules are orbit time's, as the twin was charged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.preparation import platform_of
from ground_controller.telemetry import tables
from ground_controller.telemetry.sources import stride
from hil_config.schema.campaign import Campaign
from hil_config.wire.plan import LayerPlan

DEFAULTS = {"precision": "fixed", "transmission": "full", "replacement": "stay", "routing": "direct"}


def further_names(policies: dict[str, Any]) -> dict[str, str]:
    """Those that are not the baseline, by kind."""
    named = {
        kind: value["name"] if isinstance(value := policies.get(kind, default), dict) else value
        for kind, default in DEFAULTS.items()
    }
    return {kind: name for kind, name in named.items() if name != DEFAULTS[kind]}


def further_figures(journal: Journal, links: dict[str, list[Any]]) -> dict[str, Any]:
    """Fields of `Metrics`. `links`: the table of that name by column.

    Rows and calls of a simulation with a stride are multiplied by it; its link reports and decisions stand for the
    whole time themselves.
    """
    decisions = [msgspec.json.decode(e.body, type=Decision) for e in journal.entries("decision")]
    layers = {d.plan.version: d.plan.layers for d in decisions if any(one.precision for one in d.plan.layers)}
    rows, codecs = Counter[str](), Counter[str]()
    for _, evidence in tables.token_evidence(journal):
        plan = layers.get(evidence.plan_version)
        for layer in evidence.layers:
            codecs.update(f"{one.codec}/{one.answer}" for one in layer.sent)
            if plan is not None and not evidence.plan_expired:
                rows.update(_precisions(plan[layer.layer], layer.picks, layer.hosts))
    last, nodes, times = decisions[-1], set(decisions[-1].plan.nodes), stride(journal)
    platform = Campaign.model_validate_json(journal.meta("campaign")).twin.platform
    sent = sum(b for b, peer in zip(links["bytes"], links["peer"], strict=True) if peer in nodes)
    return {
        "rows_by_precision": {name: count * times for name, count in sorted(rows.items())},
        "calls_by_codec": {name: count * times for name, count in sorted(codecs.items())},
        "link_bytes": sent, "transmit_j": round(8.0 * sent * platform_of(platform).transmit_j_per_bit, 5),
        "migrations": dict(sorted(Counter(one.stage for one in last.moves).items())),
        "migration_bytes": sum(one.bytes for one in last.moves),
        "migration_j": round(sum(one.joules for one in last.moves), 5),
    }  # fmt: skip


def _precisions(layer: LayerPlan, picks: bytes, hosts: bytes) -> Iterable[str]:
    wanted = layer.precisions()
    pairs = zip(np.frombuffer(picks, "<i2").tolist(), np.frombuffer(hosts, "<i2").tolist(), strict=True)
    return (wanted[pair] for pair in pairs if pair in wanted)
