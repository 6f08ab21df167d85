from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_config.errors import RemoteProtocolError
from hil_config.wire import messages as m
from hil_config.wire.link_fault import LinkFault, faulted
from hil_config.wire.link_state import DOWN, LinkState

UP = LinkState(0.01, 1e8, 0.1, True)


def test_an_outage_holds_both_ways_and_for_its_time() -> None:
    fault = LinkFault("A", "B", 10.0, 20.0, up=False)
    assert [faulted(UP, "A", "B", t, [fault]) == DOWN for t in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert faulted(UP, "B", "A", 15.0, [fault]) == DOWN
    assert faulted(UP, "A", "C", 15.0, [fault]) == UP
    assert faulted(UP, "C", "A", 15.0, [LinkFault("A", up=False)]) == DOWN
    assert faulted(UP, "C", "D", 1e9, [LinkFault(up=False)]) == DOWN


def test_faults_add_up() -> None:
    faults = [LinkFault("A", rate_factor=0.5, extra_delay_s=0.02), LinkFault("B", rate_factor=0.5, extra_loss=0.5)]
    found = faulted(UP, "A", "B", 1.0, faults)
    assert found == pytest.approx(LinkState(0.03, 2.5e7, 1.0 - 0.9 * 0.5, True))
    assert faulted(DOWN, "A", "B", 1.0, faults) == DOWN


@given(st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_what_comes_out_is_a_link(factor: float, loss: float, extra: float) -> None:
    fault = LinkFault(rate_factor=factor, extra_loss=extra)
    found = faulted(UP._replace(loss=loss), "A", "B", 0.0, [fault])
    assert 0.0 <= found.loss <= 1.0 and 0.0 < found.rate_bit_s <= UP.rate_bit_s


@pytest.mark.parametrize(
    "values",
    [{"start_s": -1.0}, {"end_s": 0.0}, {"rate_factor": 0.0}, {"rate_factor": 2.0}, {"extra_loss": 2.0}],
)
def test_faults_that_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(RemoteProtocolError, match="link fault"):
        LinkFault(**values)  # type: ignore[arg-type]
    fault = {"type": "link_fault", **values}
    text = msgspec.json.encode({"id": "1", "epoch": 1, "body": {"type": "inject_fault", "fault": fault}})
    with pytest.raises(RemoteProtocolError):
        m.decode(text, m.Command)
