from __future__ import annotations

from ground_controller.policies.topk import Stateless, TopK
from ground_controller.policies.view import View
from hil_config.wire.plan import Share


def test_the_gate_is_left_as_the_model_wants_it(calm: View) -> None:
    state, selection = TopK().select(Stateless(), calm)
    assert state == TopK().start(4)
    assert (selection.scale, selection.coverage, selection.k_min, selection.k_max) == (1.0, 1.0, 2, 2)
    assert selection.threshold == -1e9
    assert selection.layers[0].price == (0.0,) * 4
    assert selection.layers[0].hosts[3] == (Share(3, 0.5), Share(0, 0.5))
