"""What sending costs a satellite: all that link reports name, once, under both accountings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from ground_controller.journal import Entry
from ground_controller.preparation import Prepared, prepare
from ground_controller.transmit import TransmitLoad
from ground_controller.world import World
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire import messages as m


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return prepare(load_bench(Path(default_path("bench"))), load_campaign(Path(default_path("campaign"))))


def links(node: str, peer: str, sent: int) -> Entry:
    body = m.LinkReport(peer, 1, 1, sent, 0, 0.0, (0.0, 0.0, 0.0))
    record = m.Record(node=node, boot_id="b1", seq=1, mono_ns=1, wall_ns=1, body=body)
    return Entry(0, 0.0, 0, "links", node, "b1", 1, m.encode(record))


def ended(
    prepared: Prepared, accounting: Literal["duty", "once"], rate: float, sent: int, peer: str = "bravo"
) -> World:
    """After a minute on the host, in ticks of half a second, all idle."""
    world = World(replace(prepared.setting, accounting=accounting, rate=rate))
    world.apply(links("alpha", peer, sent))
    for tick in range(1, 121):
        world.step(0.5 * rate * tick)
    return world


def test_what_is_reported_is_spent_once_and_in_no_burst() -> None:
    load = TransmitLoad(2, 1e-6)
    load.take(1, 8e6)
    watts = [load.release_w(0.5) for _ in range(200)]
    assert sum(w[1] * 0.5 for w in watts) == pytest.approx(8.0, rel=1e-6) == load.joules[1]
    assert max(w[1] for w in watts) == watts[0][1] <= 8.0 / 5.0
    assert all(w[0] == 0.0 for w in watts)


def test_battery_and_heat_pay_for_sent_bytes(prepared: Prepared) -> None:
    quiet, busy = (ended(prepared, "once", 10.0, sent) for sent in (0, 100_000_000))
    joules = 8e8 * prepared.setting.twin.platform.transmit_j_per_bit
    assert float(busy.twin.load_j[0] - quiet.twin.load_j[0]) == pytest.approx(joules, rel=1e-4)
    assert float(busy.twin.charge[0]) < float(quiet.twin.charge[0])
    assert float(busy.twin.temperature_c[0]) > float(quiet.twin.temperature_c[0])
    assert float(busy.twin.load_j[1]) == float(quiet.twin.load_j[1]), "it is the sender's"
    client = ended(prepared, "once", 10.0, 100_000_000, "client")
    assert float(client.twin.load_j[0]) == float(quiet.twin.load_j[0]), "no link of the orbit"


def test_accountings_agree_at_rate_1_and_differ_by_the_rate_elsewhere(prepared: Prepared) -> None:
    duty, once = (ended(prepared, kind, 1.0, 10_000_000) for kind in ("duty", "once"))
    assert duty.twin.load_j.tolist() == pytest.approx(once.twin.load_j.tolist(), rel=1e-12)
    assert duty.twin.temperature_c.tolist() == pytest.approx(once.twin.temperature_c.tolist(), rel=1e-12)
    idle = float(ended(prepared, "duty", 10.0, 0).twin.load_j[0])
    fast = [float(ended(prepared, kind, 10.0, 10_000_000).twin.load_j[0]) - idle for kind in ("duty", "once")]
    assert fast[0] / fast[1] == pytest.approx(10.0, rel=1e-6) and not math.isclose(fast[0], 0.0)
