"""What each node is told before a run: peers, shards to hold, the schedule, the first plan."""

from __future__ import annotations

from ground_controller.client import NAME
from ground_controller.fleet.sight import Sight
from ground_controller.orbit.restrict import restricted
from ground_controller.preparation import Prepared
from hil_config.schema.campaign import Campaign
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.orders import ExpertHolding, Peer, Prepare
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.schedule_file import encode_schedule, schedule_hash

LONG_SCHEDULE_BYTES = 2 << 20

Holders = tuple[tuple[tuple[int, ...], ...], ...]


def held_experts(prepared: Prepared, node: int, holders: Holders | None = None) -> tuple[ExpertHolding, ...]:
    """The experts that `holders` (else the placement) gives to a node, at each precision that policies may ask for."""
    return tuple(
        ExpertHolding(layer, expert, precision)
        for layer, row in enumerate(prepared.placement.holders if holders is None else holders)
        for expert, holders in enumerate(row)
        if node in holders
        for precision in prepared.setting.further.held[layer][expert]
    )


def trunk_layers(prepared: Prepared, node: str) -> tuple[int, ...]:
    """The trunk layers a node must hold, as gateway or standby."""
    return tuple(
        layer
        for piece in prepared.placement.gateways
        if node in piece.nodes
        for layer in range(piece.first, piece.last + 1)
    )


def link_acceleration(campaign: Campaign) -> float:
    """K where links are accelerated with the orbit: delays / K and rates x K; 1 where they stay true."""
    return campaign.orbit.rate if campaign.orbit.acceleration == "links" else 1.0


def link_codecs(prepared: Prepared, node: str) -> dict[str, Codec]:
    """Peers to which a node writes hidden states in another codec than the campaign's."""
    found: dict[str, Codec] = {}
    for one in prepared.campaign.links.codecs:
        if node in one.between:
            found[one.between[1] if one.between[0] == node else one.between[0]] = one.codec
    return found


def _schedules(prepared: Prepared, addressed: tuple[str, ...]) -> dict[str, bytes]:
    """What each addressed node is told of the links: of addressed nodes only, and where that is long and no node sends
    over others, of its own only. A message has an end, and 200 boards have 19,900 links."""
    places, campaign = dict(zip(prepared.setting.nodes, prepared.setting.satellites, strict=True)), prepared.campaign
    whole, data = prepared.schedule, prepared.schedule_bytes
    if len(addressed) < len(places):
        whole = restricted(whole, tuple(places[node] for node in places if node in addressed))
        data = encode_schedule(whole)
    if len(data) <= LONG_SCHEDULE_BYTES or campaign.links.relay or campaign.policies.routing != "direct":
        return dict.fromkeys(addressed, data)
    names = whole.header.satellites
    return {node: encode_schedule(restricted(whole, names, places[node])) for node in addressed}


def prepare_orders(
    prepared: Prepared,
    run: str,
    addresses: dict[str, str],
    client: str,
    plan: SelectionPlan,
    offers: dict[str, bytes] | None = None,
    holders: Holders | None = None,
    sight: Sight | None = None,
) -> dict[str, Prepare]:
    """One order per node. `addresses`: node -> host:port of its data plane, as it says it itself; who has none is a
    model, and the schedule that is sent leaves it out. With `offers` of
    nodes and client, all frames are sealed. `holders`: who holds what, where that is no longer as it was placed.
    `sight` tells who sees whom elsewhere."""
    nodes = prepared.setting.nodes
    known = offers or {}
    everybody = {**{node: addresses[node] for node in nodes if node in addresses}, NAME: client}

    def peers_of(seen: dict[str, str]) -> tuple[Peer, ...]:
        return tuple(Peer(name, address, known.get(name, b"")) for name, address in seen.items())

    alike = None if sight is not None and sight.emulated else peers_of(everybody)
    campaign, schedules = prepared.campaign, _schedules(prepared, tuple(addresses))
    return {
        node: Prepare(
            run=run, peers=alike or peers_of(sight.seen_by(node, everybody) if sight else everybody),
            manifest_sha256=prepared.manifest_sha256,
            trunk_layers=trunk_layers(prepared, node), experts=held_experts(prepared, index, holders),
            schedule=schedules[node], schedule_sha256=schedule_hash(schedules[node]),
            satellites=dict(zip(nodes, prepared.setting.satellites, strict=True)),
            delay_scale=campaign.orbit.delay_scale / link_acceleration(campaign),
            rate_scale=link_acceleration(campaign), hidden_codec=campaign.model.hidden_codec,
            expert_timeout_s=campaign.control.expert_timeout_s, plan=plan,
            sealed=offers is not None, relay=campaign.links.relay, jitter_s=campaign.links.jitter_s,
            link_codecs=link_codecs(prepared, node), seed=campaign.seed,
            routed=campaign.policies.routing != "direct",
        )
        for index, node in enumerate(nodes)
        if node in addresses
    }  # fmt: skip
