"""Runs side by side: one policy is not told apart from itself, a planted 5 % is found, the incomparable is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ground_controller.cli.compare import compare_command
from ground_controller.client_events import TokenArrived
from ground_controller.preparation import prepare
from ground_controller.report.compare import compare
from ground_controller.report.compare_page import write_comparison
from ground_controller.report.metrics import measure
from ground_controller.report.pareto import front
from ground_controller.simulation.run import simulate
from hil_config.errors import InvalidRunError, UsageError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import Record, TokenEvidence, decode, encode


def campaign(seed: int, selection: str = "lyapunov", accounting: str = "duty") -> Campaign:
    """Two hundred seconds of the demonstration's orbit."""
    intent = load_campaign(default_path("campaign"))
    orbit = intent.orbit.model_copy(update={"duration_s": 200.0})
    work = intent.workload.model_copy(update={"max_new_tokens": 12})
    twin = intent.twin.model_copy(update={"accounting": accounting})
    changes = {"seed": seed, "orbit": orbit, "workload": work, "twin": twin}
    return intent.model_copy(update=changes).with_selection(selection)


def make(folder: Path, asked: Campaign) -> Path:
    simulate(prepare(load_bench(default_path("bench")), asked), folder)
    return folder


def planted(run: Path, name: str, factor: float, seed: int) -> Path:
    """A copy whose tokens took `factor` times as long, each give or take 10 % of its own."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    rng = np.random.default_rng(seed)
    db = sqlite3.connect(copy / "journal.sqlite")
    with db:
        for row, body in db.execute("SELECT id, body FROM entry WHERE kind = 'client_token'").fetchall():
            one = msgspec.json.decode(body, type=TokenArrived)
            slower = one.since_us * factor * float(rng.uniform(0.9, 1.1))
            changed = msgspec.json.encode(msgspec.structs.replace(one, since_us=slower))
            db.execute("UPDATE entry SET body = ? WHERE id = ?", (changed, row))
    db.close()
    return copy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("compare") / "plain", campaign(1))


def test_the_same_policy_is_not_distinguishable(run: Path) -> None:
    (found,) = compare(run, (planted(run, "again", 1.0, seed=3),))
    assert found.settings == ()
    assert {one.verdict for one in found.lines} == {"not distinguishable"}
    assert min(one.pairs for one in found.lines if "energy" not in one.metric) >= 20
    (joules,) = [one for one in found.lines if one.metric == "energy gross a token"]
    assert joules.pairs == 10 and joules.estimate == 1.0


def test_the_mass_served_is_a_mean_over_rows(run: Path) -> None:
    """Half of the mass of every prompt's rows is taken away; a prompt is one step, as a token is."""
    copy = run.with_name("half-prompts")
    shutil.copytree(run, copy)
    rows: Counter[float] = Counter()
    db = sqlite3.connect(copy / "journal.sqlite")
    with db:
        for number, body in db.execute("SELECT id, body FROM entry WHERE kind = 'token'").fetchall():
            record = decode(body, Record)
            assert isinstance(record.body, TokenEvidence)
            mass = 1.0 if record.body.rows == 1 else 0.5
            rows[mass] += record.body.rows * len(record.body.layers)
            changed = replace(record, body=replace(record.body, kept_mass=mass))
            db.execute("UPDATE entry SET body = ? WHERE id = ?", (encode(changed), number))
    db.close()
    wanted = (rows[1.0] + 0.5 * rows[0.5]) / rows.total()
    assert 0.5 < wanted < 0.9, "prompts have a good part of the rows"
    assert measure(copy).kept_mass == pytest.approx(wanted, abs=1e-12)
    (found,) = compare(run, (copy,))
    (line,) = [one for one in found.lines if one.metric == "mixing mass served"]
    assert line.other == pytest.approx(wanted, abs=0.05), "of most requests the same"


def test_a_figure_that_one_side_alone_has_is_shown(run: Path) -> None:
    """The other's is absent, not 0."""
    silent = planted(run, "silent", 1.0, seed=4)
    with sqlite3.connect(silent / "journal.sqlite") as db:
        db.execute("DELETE FROM entry WHERE kind = 'samples' AND node = 'alpha' AND tick BETWEEN 5 AND 9")
    db.close()
    for base, other, whose in ((run, silent, "other"), (silent, run, "base")):
        (found,) = compare(base, (other,))
        (joules,) = [one for one in found.lines if one.metric == "energy gross a token"]
        known = joules.base if whose == "other" else joules.other
        absent = joules.other if whose == "other" else joules.base
        assert known is not None and known > 0.1 and absent is None
        assert (joules.verdict, joules.pairs) == ("no answer", 0)
        assert joules.note == f"no figures to pair: not known of the {whose}, or interrupted"


def cut_short(run: Path, copy: Path, ticks: int) -> Path:
    """A copy as if the run had been broken off after so many ticks."""
    shutil.copytree(run, copy)
    with sqlite3.connect(copy / "journal.sqlite") as db:
        db.execute("DELETE FROM entry WHERE tick >= ?", (ticks,))
        db.execute("DELETE FROM meta WHERE key = 'ended_utc'")
    db.close()
    return copy


def test_energy_of_other_seconds_of_the_orbit_is_not_paired(run: Path) -> None:
    """Tenths of a run that was broken off are other tenths; its requests are what they are."""
    half = cut_short(run, run.with_name("half"), 20)
    (found,) = compare(run, (half,))
    lines = {one.metric: one for one in found.lines}
    assert lines["energy gross a token"].verdict == "no answer"
    assert lines["energy gross a token"].note.endswith("they lived through 200 and 95 s of the orbit")
    assert lines["time per output token"].pairs >= 5


def test_a_planted_five_percent_is_found(run: Path) -> None:
    """In each of ten copies; a 95 % interval need not cover the truth every time, so nine in ten are asked for."""
    covered = 0
    for seed in range(10, 20):
        (found,) = compare(run, (planted(run, f"slower-{seed}", 1.05, seed),))
        pace = next(one for one in found.lines if one.metric == "time per output token")
        assert pace.verdict == "higher"
        assert pace.low is not None
        assert pace.high is not None
        assert 1.0 < pace.low < pace.high < 1.1
        covered += pace.low < 1.05 < pace.high
        mass = next(one for one in found.lines if one.metric == "mixing mass served")
        assert mass.verdict == "not distinguishable"
    assert covered >= 9


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies with five seeds each."""
    home = tmp_path_factory.mktemp("groups")
    for seed in range(1, 6):
        make(home / "plain" / str(seed), campaign(seed, "topk"))
        make(home / "sunlit" / str(seed), campaign(seed, "sunlit_first"))
    return home


def test_groups_are_paired_by_seed_and_name_what_differs(groups: Path) -> None:
    tmp_path = groups
    (found,) = compare(tmp_path / "plain", (tmp_path / "sunlit",))
    assert ("campaign.policies.selection.name", "topk", "sunlit_first") in found.settings
    assert all(key.startswith("campaign.policies.selection") for key, _, _ in found.settings)
    assert {one.pairs for one in found.lines if one.estimate is not None} == {5}
    done = CliRunner().invoke(
        compare_command, [str(tmp_path / "plain"), str(tmp_path / "sunlit"), "--json"], catch_exceptions=False
    )
    told = json.loads(done.stdout)["comparisons"][0]
    assert told["paired_by"] == "Paired by seed: one value a run."
    shown = CliRunner().invoke(compare_command, [str(tmp_path / "plain"), str(tmp_path / "sunlit")])
    assert "sunlit_first (base: topk)" in shown.stdout


def test_a_run_of_a_group_that_has_not_ended_is_named(groups: Path, tmp_path: Path) -> None:
    """Bytes, wear and seconds over a limit are totals: half of an orbit has about half of them."""
    shutil.copytree(groups / "plain", tmp_path / "plain")
    shutil.rmtree(tmp_path / "plain" / "3")
    broken = cut_short(groups / "plain" / "3", tmp_path / "plain" / "3", 20)
    with pytest.raises(InvalidRunError, match="has not ended: its totals are of 95 s of the orbit") as caught:
        compare(groups / "sunlit", (tmp_path / "plain",))
    assert caught.value.message.startswith(f"{broken}: ") and f"hil campaign resume {broken}" in caught.value.hint


def test_what_cannot_be_compared_is_refused(run: Path, tmp_path: Path) -> None:
    once = make(tmp_path / "once", campaign(1, accounting="once"))
    with pytest.raises(InvalidRunError, match="work accountings differ"):
        compare(run, (once,))
    other = make(tmp_path / "seed", campaign(2))
    with pytest.raises(UsageError, match="no request with the same prompt"):
        compare(run, (other,))
    with pytest.raises(UsageError, match="neither a run folder nor a folder of run folders"):
        compare(run, (tmp_path / "nowhere",))


def test_a_run_on_two_sides_is_refused_whatever_its_path(
    run: Path, groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    monkeypatch.chdir(run)
    for same in (run, run / ".." / run.name, link, Path()):
        done = CliRunner().invoke(compare_command, [str(run), str(same)])
        assert isinstance(done.exception, UsageError) and done.exception.exit_code == 2, done.output
        assert f"{same} " in done.exception.message and "cannot be told apart from itself" in done.exception.message
    with pytest.raises(UsageError, match=r"on two sides \(.*plain, .*plain\)"):
        compare(groups / "plain", (groups / "sunlit", groups / "plain"))
    mixed = tmp_path / "mixed"
    shutil.copytree(groups / "sunlit", mixed)
    shutil.rmtree(mixed / "3")
    (mixed / "3").symlink_to(groups / "plain" / "3")
    with pytest.raises(UsageError, match=r"plain/3 and .*mixed/3 are one run"):
        compare(groups / "plain", (mixed,))


def test_sides_of_one_name_are_told_by_their_paths(run: Path, tmp_path: Path) -> None:
    """A folder of runs keeps the names of its variants, so two of them have sides of the same name."""
    other = planted(run, "slow", 1.05, seed=4)
    theirs = tmp_path / "theirs" / run.name
    shutil.copytree(other, theirs)
    page = tmp_path / "page.html"
    told, third = write_comparison(run, (theirs, other), page)
    assert (told.base, told.other, third.other) == (str(run), str(theirs), "slow")
    assert "<h1>3 sides, 3 runs</h1>" in page.read_text(encoding="utf-8")


def test_a_planted_five_percent_between_groups_is_found_and_shown(groups: Path, tmp_path: Path) -> None:
    """One value a run, five seeds: the interval holds 5 %, and the page says it."""
    shutil.copytree(groups / "plain", tmp_path / "plain")
    (tmp_path / "slower").mkdir()
    for seed in range(1, 6):
        slower = planted(tmp_path / "plain" / str(seed), f"slower-{seed}", 1.05, seed)
        slower.rename(tmp_path / "slower" / str(seed))
    page = tmp_path / "pages/compare.html"
    (found,) = write_comparison(tmp_path / "plain", (tmp_path / "slower",), page)
    pace = next(one for one in found.lines if one.metric == "time per output token, mean")
    assert pace.verdict == "higher" and pace.low is not None and pace.high is not None
    assert pace.low < 1.05 < pace.high
    told = page.read_text(encoding="utf-8")
    assert told.index('class="provenance"') < told.index("<h1>")
    assert "Time per output token, mean is higher (+" in told
    assert "None: their settings are the same." in told
    assert "Less is better on both axes" in told
    assert "not known" in told, "what was not measured is no zero"
    shown = CliRunner().invoke(
        compare_command, [str(tmp_path / "plain/1"), str(tmp_path / "slower/1"), "--html", str(tmp_path / "two.html")]
    )
    assert shown.exit_code == 0, shown.output
    assert "Paired by request" in (tmp_path / "two.html").read_text(encoding="utf-8")


points = st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=12)


@given(points)
def test_nobody_on_the_front_is_beaten_and_everybody_else_is(found: list[tuple[float, float]]) -> None:
    def beaten(one: tuple[float, float]) -> bool:
        return any(a <= one[0] and b <= one[1] and (a, b) != one for a, b in found)

    best = front(found)
    assert best, "somebody is always best"
    assert {i for i, one in enumerate(found) if not beaten(one)} == set(best)
