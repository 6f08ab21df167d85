"""What a watcher sees of a run: the same whether it watched from the start, looked later, or went back."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from ground_controller.client_events import TokenArrived
from ground_controller.decision import Decision
from ground_controller.interruption import RETURNED, BoardReturned, RunResumed
from ground_controller.journal import NAME, Entry, Journal
from ground_controller.live.follower import Follower, Moment
from ground_controller.live.run_facts import run_to_watch
from ground_controller.live.sky import Sky
from hil_config.errors import InvalidRunError, UsageError
from hil_config.wire.messages import Record, TokenEvidence, decode
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint

if TYPE_CHECKING:
    from tests.live.conftest import Growing


def _open(folder: Path) -> Follower:
    found = Follower.open(folder)
    assert found is not None
    return found


def _whole(folder: Path) -> Follower:
    found = _open(folder)
    while found.read():
        pass
    return found


def _same(one: Moment | None, other: Moment | None) -> None:
    assert one is not None and other is not None
    for name, a, b in zip(Moment._fields, one, other, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, name)
        else:
            assert a == b, name


def test_going_back_shows_what_was_seen_then(simulated: Path, growing: Callable[[], Growing]) -> None:
    whole, rng = _whole(simulated), random.Random(1)
    one = growing()
    watcher = _open(one.folder)
    done = 0
    while done < len(one):
        done = min(len(one), done + rng.randint(1, 120))
        one.grow(done)
        watcher.read()
        now = watcher.now()
        if now is None:
            continue
        back = watcher.at(now.tick.host_s)
        assert back is not None and (back.tick, back.token_count) <= (now.tick, now.token_count)
        if done == now.tick.number:  # the decision is the newest entry: nothing came after it
            _same(back, now)
            _same(whole.at(now.tick.host_s)._replace(at_end=False), now)  # type: ignore[union-attr]
    one.end()
    _same(whole.now(), watcher.now())
    _same(whole.at(1e9), whole.now())
    watcher.close()
    whole.close()


def test_numbers_are_those_of_the_record(simulated: Path) -> None:
    follower = _whole(simulated)
    now = follower.now()
    assert now is not None and now.at_end
    journal = Journal.read(simulated)
    decision = msgspec.json.decode([e.body for e in journal.entries("decision")][-1], type=Decision)
    arrived = [msgspec.json.decode(e.body, type=TokenArrived) for e in journal.entries("client_token")]
    steps = [(e.host_ns, decode(e.body, Record).body) for e in journal.entries("token")]
    journal.close()
    for row, numbers in zip(now.nodes, decision.nodes, strict=True):
        assert row.node == numbers.node
        assert row.temperature_c == pytest.approx(numbers.temperature_c, abs=1e-3)
        assert row.charge == pytest.approx(numbers.charge, abs=1e-3)
        assert (row.power_w is None) == (row.state == "dead") == (not numbers.alive)
    assert now.token_count == len(arrived)
    tokenizer = read_tokenizer(reference_checkpoint())
    for seen in now.tokens:
        one = arrived[seen.number - 1]
        assert (seen.request, seen.position, seen.text) == (one.request, one.position, tokenizer.decode([one.token]))
    counted = np.zeros_like(now.counts)
    for host_ns, body in steps:
        assert isinstance(body, TokenEvidence)
        if host_ns > now.tick.host_ns - 30e9:
            for layer in body.layers:
                picks = np.frombuffer(layer.picks, "<i2")
                np.add.at(counted[layer.layer], picks[picks >= 0], 1)
    np.testing.assert_array_equal(now.counts, counted)
    follower.close()


def test_a_killed_node_is_dead_with_its_cause(simulated: Path) -> None:
    follower = _whole(simulated)
    before, after = follower.at(4.0), follower.now()
    assert before is not None and after is not None
    assert {row.node: row.state for row in before.nodes} == dict.fromkeys(follower.facts.nodes, "serving")
    dead = {row.node: row for row in after.nodes}["bravo"]
    assert (dead.state, dead.cause) == ("dead", "was made to fail at 60 s of the orbit")
    told = [event for event in after.events if event.node == "bravo"]
    assert [(event.weight, event.what) for event in told] == [("bad", "dead")]
    assert not [event for event in before.events if event.node == "bravo"]
    assert any("begins again" in e.what and e.cause == "gateway bravo is gone" for e in after.events)
    follower.close()


def test_every_figure_says_where_it_is_from(simulated: Path) -> None:
    follower = _whole(simulated)
    now = follower.now()
    assert now is not None
    for row in now.nodes:
        assert row.power_by.startswith("modelled(board model") or row.state == "dead", row
    assert {source.partition("(")[0] for source in follower.facts.sources.values()} == {"modelled"}
    follower.close()


def test_watching_writes_nothing(growing: Callable[[], Growing]) -> None:
    one = growing()
    one.grow(len(one))
    before = {path.name: path.read_bytes() for path in one.folder.iterdir() if not path.name.endswith("-shm")}
    follower = _whole(one.folder)
    assert follower.now() is not None
    follower.close()
    assert {p.name: p.read_bytes() for p in one.folder.iterdir() if not p.name.endswith("-shm")} == before


def test_watching_a_run_that_died_leaves_its_files_as_they_are(growing: Callable[[], Growing], tmp_path: Path) -> None:
    one = growing()
    one.grow(len(one))
    died = tmp_path / "died"
    shutil.copytree(one.folder, died, ignore=shutil.ignore_patterns("*-shm"))  # as a killed writer leaves them
    before = {path.name: path.read_bytes() for path in died.iterdir()}
    assert before["journal.sqlite-wal"], "not everything is in the main file yet"
    follower = _whole(died)
    now = follower.now()
    assert now is not None and now.token_count > 0
    follower.close()
    assert {name: (died / name).read_bytes() for name in before} == before


def test_curves_are_thinned_evenly_over_the_whole_run(simulated: Path) -> None:
    follower = _whole(simulated)
    points, count = follower.history.points, len(follower.history)
    assert len(points) == count > 20
    last = follower.history.tick(-1)
    for n in range(1, 3 * 1_200):
        tick = follower.history.add(last.number + n, last.host_ns + n * 500_000_000, 1.0)
        follower.history.add_point(points[0]._replace(host_s=tick.host_s))
    kept = [point.host_s for point in follower.history.points]
    assert 600 <= len(kept) <= 1_200
    assert kept[0] == 0.0 and last.host_s + 3 * 600 - 10.0 < kept[-1]
    gaps = np.diff(kept)
    assert gaps.max() <= 2.0 and gaps.min() >= 1.5, "every fourth tick; the run's own closing tick came at once"
    follower.close()


def test_sky_goes_back_and_forth(simulated: Path) -> None:
    sky, again = Sky(simulated / "schedule.hsched"), Sky(simulated / "schedule.hsched")
    times = [random.Random(2).uniform(0.0, 120.0) for _ in range(30)]
    there = {t: set(sky.links_up(t).tolist()) for t in sorted(times)}
    for t in times:
        assert set(again.links_up(t).tolist()) == there[t]
    assert sky.latitude_deg.shape == (sky.track_s.size, 4)
    assert np.abs(sky.latitude_deg).max() < 60.0  # these satellites' orbits are inclined by 53 degrees
    latitude, longitude = sky.under_sun_deg(0.0)
    # 21 October 2024, 08:20 UTC: declination -10.8 degrees; the Sun was overhead 15.4 min early (equation of time)
    assert latitude == pytest.approx(-10.8, abs=0.2)
    assert longitude == pytest.approx((12.0 - 8.333) * 15.0 - 15.4 / 4.0, abs=0.3)


def test_a_run_without_its_schedule_is_shown_without_a_sky(growing: Callable[[], Growing]) -> None:
    one = growing()
    (one.folder / "schedule.hsched").unlink()
    assert Follower.open(one.folder) is None, "it may still be written: nothing was decided yet"
    one.grow(len(one))
    follower = _whole(one.folder)
    now = follower.now()
    assert now is not None and (now.under_sun_deg, len(now.links)) == (None, 0)
    assert now.token_count > 0
    follower.close()


def test_an_interruption_is_told(growing: Callable[[], Growing]) -> None:
    one = growing()
    one.grow(len(one))
    body = RunResumed(8, 60.0, 10, 4_500_000_010, 10.0, {}, {}, (), (3, 4), "2024-10-21T08:21:00Z")
    journal = Journal.reopen(one.folder)
    journal.commit([Entry(99, 60.0, 4_500_000_010, "resumed", "", "", 0, msgspec.json.encode(body))])
    journal.close()
    follower = _whole(one.folder)
    now = follower.now()
    assert now is not None
    last = now.events[-1]
    assert (last.weight, last.what) == ("notice", "the run goes on after 4.5 s without a controller")
    assert last.cause == "resumed with epoch 8; 2 requests are taken up"
    follower.close()


def test_a_board_that_returned_is_told_of(growing: Callable[[], Growing]) -> None:
    one = growing()
    one.grow(len(one))
    journal = Journal.reopen(one.folder)
    for problem in ("", "node alpha is in safe mode"):
        body = msgspec.json.encode(BoardReturned("boot", problem))
        journal.commit([Entry(99, 60.0, 4_500_000_010, RETURNED, "alpha", "", 0, body)])
    journal.close()
    follower = _whole(one.folder)
    now = follower.now()
    assert now is not None
    told = [(event.weight, event.node, event.what, event.cause) for event in list(now.events)[-2:]]
    assert told == [
        ("info", "alpha", "takes part in the run again", "it was told of it anew"),
        ("bad", "alpha", "takes no part in the run any more", "node alpha is in safe mode"),
    ]
    follower.close()


def _written_at(folder: Path, at_s: int) -> None:
    """As if the journal had been written to at `at_s`: two writes in one tick of the kernel's clock look alike."""
    for path in folder.glob(f"{NAME}*"):
        os.utime(path, (at_s, at_s))


def test_what_is_no_run_is_refused(tmp_path: Path, growing: Callable[[], Growing]) -> None:
    with pytest.raises(InvalidRunError, match="not a run folder"):
        Follower.open(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no run"):
        run_to_watch(tmp_path / "empty")
    one, two = growing(), growing()
    for newest, other in ((two, one), (one, two)):
        _written_at(other.folder, 1_000)
        _written_at(newest.folder, 1_001)
        assert run_to_watch(tmp_path) == newest.folder
        assert run_to_watch(other.folder) == other.folder
    deep = tmp_path / "many" / "ours" / "again"
    deep.mkdir(parents=True)
    one.folder.rename(deep / "s1")
    assert run_to_watch(tmp_path / "many") == deep / "s1"
    Journal.create(tmp_path / "young").close()
    assert Follower.open(tmp_path / "young") is None
