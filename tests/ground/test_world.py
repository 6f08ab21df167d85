"""World, limits and routes: what the records make of the nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.core import Core
from ground_controller.decision import Decision, encode_decision, same_decision
from ground_controller.journal import Entry
from ground_controller.power_modes import modes_of
from ground_controller.preparation import Prepared, prepare
from ground_controller.routes import choose_route
from ground_controller.steering import Action, Steered
from ground_controller.world import World
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.power import Power
from hil_config.wire import messages as m
from hil_config.wire.orders import SetDuty, SetPower


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))


def status(node: str, state: str, boot: str = "b1") -> Entry:
    body = m.encode(m.Status(node=node, boot_id=boot, state=state))  # type: ignore[arg-type]  # a literal by hand
    return Entry(0, 0.0, 0, "status", node, boot, 0, body)


def samples(node: str, watts: float, seq: int) -> Entry:
    record = m.Record(
        node=node, boot_id="b1", seq=seq, mono_ns=1, wall_ns=1,
        body=m.SampleBatch((1, 2), {"power_w": (watts, None)}),
    )  # fmt: skip
    return Entry(0, 0.0, 0, "samples", node, "b1", seq, m.encode(record))


def _steered(action: Action, to_s: float, rate: float) -> Entry:
    body = msgspec.json.encode(Steered(action, to_s, to_s, rate, 0))
    return Entry(0, 0.0, 0, "steer", "", "", 0, body)


def test_a_will_takes_a_node_out_and_an_older_boots_will_does_not(prepared: Prepared) -> None:
    world = World(prepared.setting)
    world.apply(status("alpha", "online", "new"))
    world.apply(status("alpha", "offline", "old"))
    assert world.view(1.0).nodes[0].alive
    world.apply(status("alpha", "offline", "new"))
    assert not world.view(1.0).nodes[0].alive


def test_an_agent_that_was_started_again_serves_once_it_was_told_of_the_run(prepared: Prepared) -> None:
    world = World(prepared.setting)
    for state, boot, serves, online in (
        ("online", "b1", True, True), ("serving", "b1", True, True), ("offline", "b1", False, False),
        ("online", "b2", False, True), ("serving", "b2", True, True), ("online", "b3", False, True),
    ):  # fmt: skip
        world.apply(status("alpha", state, boot))
        assert (world.view(1.0).nodes[0].alive, "alpha" in world.online) == (serves, online), (state, boot)


def test_soft_limit_ends_new_work_hard_limit_suspends_and_hysteresis_brings_it_back(prepared: Prepared) -> None:
    world = World(prepared.setting)
    limits = prepared.setting.limits

    def at(temperature_c: float) -> SetDuty | None:
        warm = np.full((4, 2), 20.0)
        warm[0, 0] = temperature_c
        world.twin = replace(world.twin, nodes_c=warm)
        return world.step(world.scenario_s)[0]

    assert at(limits.temperature_soft_c + 0.1) is None
    assert not world.view(1.0).nodes[0].in_service
    order = at(limits.temperature_hard_c + 0.1)
    assert order is not None
    assert not order.in_service
    assert at(limits.temperature_soft_c - limits.temperature_hysteresis_c + 0.1) is None
    assert not world.view(1.0).nodes[0].in_service
    order = at(limits.temperature_soft_c - limits.temperature_hysteresis_c - 0.1)
    assert order is not None
    assert order.in_service
    assert world.view(1.0).nodes[0].in_service


def test_what_is_served_in_a_pause_is_served_by_the_host_second(prepared: Prepared) -> None:
    """100 calls a second before a pause, in it, in a step of ten ticks, and after it."""
    world, s = World(prepared.setting), prepared.setting
    calls, tick_s = round(100 * s.tick_s), s.tick_s * s.rate

    def served() -> Entry:
        body = m.WorkSummary(1, 1, 0, calls, ((0, calls),))
        record = m.Record(node="alpha", boot_id="b1", seq=1, mono_ns=1, wall_ns=1, body=body)
        return Entry(0, 0.0, 0, "work", "alpha", "b1", 1, m.encode(record))

    def ticks(count: int, step_s: float) -> float:
        for _ in range(count):
            world.apply(served())
            world.step(world.scenario_s + step_s)
        return float(world.view(tick_s).columns.calls_per_s[0])

    assert ticks(60, tick_s) == pytest.approx(100.0, rel=1e-3)
    world.apply(_steered("pause", world.scenario_s, 0.0))
    assert ticks(120, 0.0) == pytest.approx(100.0, rel=1e-3)
    world.apply(_steered("step", world.scenario_s + 10 * tick_s, 0.0))
    assert ticks(1, 10 * tick_s) == pytest.approx(100.0, rel=1e-3)
    world.apply(_steered("resume", world.scenario_s, s.rate))
    assert ticks(1, tick_s) == pytest.approx(100.0, rel=1e-3)


def test_what_is_sent_in_a_pause_is_no_load_of_the_tick_after_it(prepared: Prepared) -> None:
    """The twin stands still meanwhile: a minute of sending then came as one burst of heat."""
    s = prepared.setting

    def sent() -> Entry:
        body = m.LinkReport("bravo", 1, 100, 2_000_000, 0, 0.0, (0.0, 0.0, 0.0))
        record = m.Record(node="alpha", boot_id="b1", seq=1, mono_ns=1, wall_ns=1, body=body)
        return Entry(0, 0.0, 0, "links", "alpha", "b1", 1, m.encode(record))

    def run(paused_ticks: int) -> tuple[float, float]:
        world, tick_s = World(s), s.tick_s * s.rate
        for _ in range(60):
            world.apply(sent())
            world.step(world.scenario_s + tick_s)
        if paused_ticks:
            world.apply(_steered("pause", world.scenario_s, 0.0))
        for _ in range(paused_ticks):
            world.apply(sent())
            world.step(world.scenario_s)
        if paused_ticks:
            world.apply(_steered("resume", world.scenario_s, s.rate))
        before = float(world.twin.load_j[0])
        world.apply(sent())
        world.step(world.scenario_s + tick_s)
        return float(world.twin.load_j[0]) - before, float(world.transmit.rate_bit_s[0])

    assert run(120) == pytest.approx(run(0), rel=0.01)


def test_more_watts_heat_more_and_a_dead_board_cools(prepared: Prepared) -> None:
    ends = []
    for entries in ([samples("alpha", 6.0, 1)], [samples("alpha", 3.0, 1)], [status("alpha", "offline")]):
        world = World(prepared.setting)
        for entry in entries:
            world.apply(entry)
        world.step(60.0)
        ends.append(float(world.twin.temperature_c[0]))
    assert ends[0] > ends[1] > ends[2]


def test_a_long_tick_is_charged_with_all_of_its_samples(prepared: Prepared) -> None:
    """Ten batches of a second in a tick of ten: one of them at 10 W. A tick of half a second takes the last."""
    for tick_s, wanted_w in ((10.0, 3.7), (0.5, 3.0)):
        s = replace(prepared.setting, tick_s=tick_s)
        world = World(s)
        for seq in range(1, 11):
            world.apply(samples("alpha", 10.0 if seq == 4 else 3.0, seq))
        world.step(tick_s * s.rate)
        assert world.view(1.0).nodes[0].power_w == pytest.approx(wanted_w)
        drawn_w = world.twin.load_j[0] / (tick_s * s.rate) - s.twin.platform.base_load_w
        assert drawn_w == pytest.approx(wanted_w)
        world.apply(samples("alpha", 5.0, 11))
        assert world.view(1.0).nodes[0].power_w == pytest.approx(5.0), "the next tick is another"


def test_same_entries_same_decisions(prepared: Prepared) -> None:
    entries = [status("bravo", "online"), samples("bravo", 5.0, 1), samples("charlie", 6.5, 1)]

    def run() -> list[bytes]:
        core = Core(prepared.setting, prepared.policy, 1, 5.0)
        return [encode_decision(core.advance(t, 5.0 * t, entries if t == 1 else [])) for t in range(5)]

    assert run() == run()


def test_route_takes_standbys_for_lost_gateways_and_nothing_when_a_slice_has_nobody(prepared: Prepared) -> None:
    core = Core(prepared.setting, prepared.policy, 1, 5.0)
    first = choose_route(core.view)
    assert first == tuple(piece.nodes[0] for piece in core.view.gateways)
    other = choose_route(core.view, avoid=frozenset(first[:1]))
    assert other is not None
    assert other[0] != first[0]
    around = choose_route(core.view, avoid=frozenset({(first[0], first[1])}))
    assert around is not None
    assert around[:2] != first[:2]
    core.advance(0, 0.0, [status(first[0], "offline")])
    taken = choose_route(core.view)
    assert taken is not None
    assert taken[0] == other[0]
    core.advance(1, 5.0, [status(other[0], "offline")])
    assert choose_route(core.view) is None


def test_shards_are_kept_in_the_cache_folder(prepared: Prepared) -> None:
    assert (Path(prepared.shards) / "manifest.json").is_file()


def test_an_outlook_is_made_for_those_who_look_ahead_only(prepared: Prepared) -> None:
    world = World(prepared.setting)
    world.step(60.0)
    assert world.view(1.0).outlook is None
    outlook = world.view(1.0, ahead=True).outlook
    assert outlook is not None
    assert sum(outlook.period_s) == pytest.approx(5_730.0, rel=0.01)  # 550 km
    assert np.array(outlook.harvest_w).shape == np.array(outlook.base_c).shape == (len(outlook.period_s), 4)
    assert np.isfinite(outlook.harvest_w).all()
    assert world.view(1.0, ahead=True).outlook == outlook


def test_a_node_that_started_again_is_ordered_into_its_mode_again(prepared: Prepared) -> None:
    power = modes_of(Power(mode="half"), prepared.bench, prepared.profiles)
    world = World(replace(prepared.setting, modes=power))

    def ordered(at_s: float) -> list[tuple[str, str, float | None]]:
        world.step(at_s)
        return [(node, order.mode, order.duty) for node, order in world.powers]

    assert ordered(0.0) == [], "the run begins with these orders"
    assert {order.mode for order in world.power_orders().values()} == {"half"}
    world.apply(status("alpha", "online", "first"))
    assert ordered(1.0) == []
    world.apply(status("alpha", "online", "second"))
    assert ordered(2.0) == [("alpha", "half", 0.5)]
    assert ordered(3.0) == []
    assert World(prepared.setting).power_orders() == {}


def test_orders_of_modes_are_part_of_the_decision(prepared: Prepared) -> None:
    def decided(ease_above_c: float) -> Decision:
        power = modes_of(Power(ease_above_c=ease_above_c), prepared.bench, prepared.profiles)
        core = Core(replace(prepared.setting, modes=power), prepared.policy, 1, 5.0)
        return core.advance(0, 0.0, [])

    orders = decided(53.0).orders  # of a soft limit of 59 C: a third mode begins half way there
    lowered = {node: one.mode for node, one in orders if isinstance(one, SetPower)}
    assert lowered == {"alpha": "half", "charlie": "quarter"}, "they begin at 54, 50, 57 and 52 C"
    body = encode_decision(decided(53.0))
    assert msgspec.json.decode(body, type=Decision).orders == orders and same_decision(decided(53.0), body)
    assert decided(58.0).orders == ()
