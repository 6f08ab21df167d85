"""From a campaign's keys to the policies beyond selection, with what they may use."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from ground_controller.policies.fixed import Fixed
from ground_controller.policies.full import Full
from ground_controller.policies.further import Further
from ground_controller.policies.precisions import FINEST_FIRST
from ground_controller.policies.registry import precision_policy, replacement_policy, transmission_policy
from ground_controller.policies.resources import PrecisionPolicy, ReplacementPolicy, TransmissionPolicy, Variant
from ground_controller.policies.stay import Stay
from ground_controller.schedules import Schedules
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.profiles import BoardProfile
from hil_config.wire.hidden_codec import encoded_size
from hil_config.wire.importance import Importance
from hil_config.wire.manifest import Manifest, Precision
from models.allocation import AllocationFile

LINK_SHARE = 0.5
"""Of a link's rate, for weights on their way."""
CALL_BYTES = 64
"""Header and picks of an expert call, about."""


@dataclasses.dataclass(frozen=True)
class Choosers:
    """The policies a campaign names."""

    precision: PrecisionPolicy[Any]
    transmission: TransmissionPolicy[Any]
    replacement: ReplacementPolicy[Any]


def further_policies(campaign: Campaign) -> Choosers:
    """ConfigError for names and options that are none."""
    named = campaign.policies
    return Choosers(
        precision_policy(named.precision.name, named.precision.options),
        transmission_policy(named.transmission.name, named.transmission.options),
        replacement_policy(named.replacement.name, named.replacement.options),
    )


def held_precisions(
    campaign: Campaign, choosers: Choosers, manifest: Manifest, allocation: AllocationFile | None
) -> tuple[tuple[tuple[Precision, ...], ...], ...]:
    """At which precisions hosts hold each expert: its own first, then those that the precision policy may ask for."""
    own = campaign.model.precision
    others = choosers.precision.variants()

    def of(layer: int, expert: int) -> tuple[Precision, ...]:
        first = (allocation.of(layer, expert) if allocation else None) or own
        return tuple(dict.fromkeys((first, *others)))

    card = manifest.model
    return tuple(tuple(of(layer, expert) for expert in range(card.experts)) for layer in range(card.layers))


def variants(
    manifest: Manifest, wanted: tuple[Precision, ...], default: Precision, importance: Importance | None
) -> tuple[Variant, ...]:
    """Energy of a call in proportion to the bytes of the weights: at batch 1 an expert is read once a row, and reading
    is what a call costs. Modelled: a board's own figures would replace it."""
    sizes = {p: _mean_bytes(manifest, p) for p in {*wanted, default}}
    nats = {cost.precision: cost.nats for cost in importance.precisions} if importance else {}
    return tuple(
        Variant(p, sizes[p] / sizes[default], nats.get(p, ())) for p in FINEST_FIRST if p in {*wanted, default}
    )


def _mean_bytes(manifest: Manifest, precision: Precision) -> float:
    sizes = [s.bytes for s in manifest.shards if s.kind == "expert" and s.precision == precision]
    return sum(sizes) / max(1, len(sizes))


def further_of(
    campaign: Campaign, choosers: Choosers, bench: Bench, profiles: tuple[BoardProfile, ...], manifest: Manifest,
    schedules: Schedules, allocation: AllocationFile | None, importance: Importance | None,
) -> Further:  # fmt: skip
    """Policies that decide nothing are left out, so that a tick does not ask them."""
    held = held_precisions(campaign, choosers, manifest, allocation)
    nodes, satellites = tuple(board.name for board in bench.boards), tuple(campaign.orbit.satellites)
    size = {(s.precision, s.layer, s.expert): s.bytes for s in manifest.shards if s.kind == "expert"}
    bits = tuple(
        tuple(8.0 * sum(size.get((p, layer, expert), 0) for p in kinds) for expert, kinds in enumerate(row))
        for layer, row in enumerate(held)
    )
    sensitive = importance.sensitivity if importance else ()
    most = max(sensitive, default=0.0)
    wanted = choosers.precision.variants()
    still = isinstance(choosers.replacement, Stay)
    further = Further(
        precision=None if isinstance(choosers.precision, Fixed) and not wanted else choosers.precision,
        transmission=None if isinstance(choosers.transmission, Full) else choosers.transmission,
        replacement=None if still else choosers.replacement,
        variants=variants(manifest, wanted, campaign.model.precision, importance) if wanted else (), held=held,
        sensitivity=tuple(max(s, 0.0) / most for s in sensitive) if most > 0.0 else (),
        codec=campaign.model.hidden_codec, expert_bits=bits, slots=tuple(p.expert_slots for p in profiles),
        link_share=LINK_SHARE, grace_s=campaign.control.plan_ttl_s * campaign.orbit.rate,
    )  # fmt: skip
    if not still:
        from ground_controller.routing.ways import WeightCarrier

        carrier = partial(WeightCarrier, schedules.predicted, schedules.factual, satellites, nodes, LINK_SHARE)
        carrier()  # what is wrong with the schedules is said before the run
        further = dataclasses.replace(further, make_carrier=carrier)
    if campaign.policies.routing != "direct":
        from ground_controller.routing.ways import FrameWays

        frame = 8.0 * (encoded_size(campaign.model.hidden_codec, 1, manifest.model.hidden) + CALL_BYTES)
        ways = FrameWays(campaign.policies.routing, schedules.predicted, satellites, nodes, frame)
        further = dataclasses.replace(further, ways=ways)
    return further
