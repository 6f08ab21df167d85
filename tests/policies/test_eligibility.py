from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ground_controller.policies.eligibility import eligible_hosts, layer_gateways, reachable, slice_gateway
from ground_controller.policies.view import View
from hil_config.wire.plan import GatewaySlice


def test_a_gateway_is_the_first_usable_node_of_its_slice(calm: View) -> None:
    view = replace(calm, gateways=(GatewaySlice(0, 0, ("c", "a")), GatewaySlice(1, 1, ("nobody", "b"))))
    assert layer_gateways(view) == (2, 1)
    hot = replace(view, nodes=(*view.nodes[:2], replace(view.nodes[2], in_service=False), view.nodes[3]))
    assert layer_gateways(hot) == (0, 1)
    assert slice_gateway(view, GatewaySlice(0, 1, ("nobody",))) is None


@pytest.mark.parametrize("pair", [(0, 2), (2, 0)])
def test_a_link_must_be_up_both_ways(calm: View, pair: tuple[int, int]) -> None:
    delay = calm.delay_s.copy()
    delay[pair] = np.inf
    view = replace(calm, delay_s=delay)
    assert reachable(view, 0) == {0, 1, 3}
    assert eligible_hosts(view)[0] == ((0, 1), (1,), (3,), (3, 0))


def test_a_layer_outside_every_slice_has_no_host(calm: View) -> None:
    view = replace(calm, gateways=(GatewaySlice(0, 0, ("a",)),))
    assert eligible_hosts(view)[1] == ((), (), (), ())
