"""The evaluation set of a simulated run: read afterwards by the real model, item by item under the run's plans.

The items are spread evenly over the ticks, in the set's order; each is scored under one plan, with the nodes alive at
that tick and the links that were up, at the precisions of the plan, through the codecs of frames. On boards an item
takes time and meets several plans, hedges and losses: none of that is here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import Decision
from ground_controller.evaluation import FIRST_REQUEST, TextScored
from ground_controller.fleet.orders import link_codecs
from ground_controller.preparation import Prepared
from hil_config.wire.hidden_codec import Codec
from models.evaluate import log_probabilities
from models.planned import PlannedModel


def due(items: int, ticks: int) -> dict[int, list[int]]:
    """By tick the items that are scored under its plan: of `items`, spread evenly over `ticks`."""
    found: dict[int, list[int]] = {}
    for item in range(items):
        found.setdefault(min(ticks - 1, int((item + 0.5) * ticks / items)), []).append(item)
    return found


class Afterwards:
    """Keeps what a run decided; `score` when it is over."""

    def __init__(self, prepared: Prepared) -> None:
        self._p = prepared
        self._decisions: list[Decision] = []

    def decided(self, decision: Decision) -> None:
        """A tick's decision."""
        self._decisions.append(decision)

    def score(self) -> Iterator[TextScored]:
        """Every item of the set, in its order; none where the campaign asks for none."""
        found = self._p.evaluation
        if found is None or not self._decisions:
            return
        model = PlannedModel(self._p.shards, self._p.setting.further.held, self._codec)
        for tick, numbers in sorted(due(len(found.items), len(self._decisions)).items()):
            decision = self._decisions[tick]
            live = self._live(decision)
            for number in numbers:
                tokens = found.items[number].tokens
                model.under(decision.plan, live, FIRST_REQUEST + number)
                logits = model.prefill(tokens[:-1])[1]
                yield TextScored(FIRST_REQUEST + number, 1, tuple(log_probabilities(logits, tokens)), (), 0.0)

    def _codec(self, source: str, target: str) -> Codec:
        return link_codecs(self._p, source).get(target, self._p.campaign.model.hidden_codec)

    def _live(self, decision: Decision) -> NDArray[np.bool_]:
        """Nodes that the first living gateway has a link to and back, and that are alive."""
        alive = np.array(decision.column("alive"), np.bool_)
        nodes, satellites = decision.plan.nodes, self._p.setting.satellites
        named = (nodes.index(name) for piece in decision.plan.gateways for name in piece.nodes)
        first = next((n for n in named if alive[n]), 0)
        for n, satellite in enumerate(satellites):
            if n != first and not self._p.campaign.links.relay:
                pair = (satellites[first], satellite)
                links = (self._p.schedule.link(*way, decision.scenario_s) for way in (pair, pair[::-1]))
                alive[n] &= all(link.up for link in links)
        return alive
