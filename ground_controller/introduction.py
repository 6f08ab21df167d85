"""The start of a run or of a preflight: a client for the boards, and for each board an order that tells it of the
others, of the client and of what it is to serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ground_controller.attempts import Routes
from ground_controller.client import NAME, Client
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.fleet.orders import Holders, prepare_orders
from ground_controller.fleet.sight import Sight
from ground_controller.preparation import Prepared
from ground_controller.stage import Stage
from hil_config.wire.orders import Prepare
from hil_config.wire.plan import SelectionPlan

PREPARE_S, EMULATED_PREPARE_S = 60.0, 600.0


class Introduction(NamedTuple):
    """`orders` by node, yet to be sent; a board may take `wait_s` to carry one out. Whoever asked closes `client`."""

    client: Client
    orders: dict[str, Prepare]
    wait_s: float


def introduce(
    prepared: Prepared, run: str, stage: Stage, fleet: MqttFleet, plan: SelectionPlan, routes: Routes,
    record: Callable[[msgspec.Struct], None], holders: Holders | None = None,
) -> Introduction:  # fmt: skip
    """Introduce the real boards of an open stage and a new client to each other.

    Args:
        holders: who holds which expert, where that is no longer as it was placed.
    """
    sight, tls, control = Sight(prepared.bench), stage.tls, prepared.campaign.control
    addresses = {node: fleet.statuses[node].data_address for node in stage.nodes}
    offers = {node: fleet.statuses[node].offer for node in stage.nodes}
    dialled = sight.outside(addresses).items()
    split = {node: (text.rpartition(":")[0], int(text.rpartition(":")[2])) for node, text in dialled}
    client = Client(
        run, split, routes, record, prepared.manifest.model.end_of_text, control.token_timeout_s, tls, offers,
        stage.host, prepared.bench.ground_port,
    )  # fmt: skip
    host, port = client.address
    sealed = None if tls is None else {**offers, NAME: client.offer}
    orders = prepare_orders(prepared, run, addresses, f"{host}:{port}", plan, sealed, holders, sight)
    return Introduction(client, orders, EMULATED_PREPARE_S if sight.emulated else PREPARE_S)
