"""Simulated campaigns: equal runs are equal, replay derives them again, and failures are survived."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.arrival_times import poisson
from ground_controller.client_events import TokenArrived
from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.preparation import Prepared, prepare
from ground_controller.replay import replay_run
from ground_controller.report.figures import figures
from ground_controller.report.metrics import Metrics, measure
from ground_controller.report.requirements import figure
from ground_controller.simulation.continuation import content_hash
from ground_controller.simulation.run import ANCHOR_NS, Kill, Speed, simulate
from ground_controller.telemetry.export import export_run
from hil_config.errors import UsageError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.orbit import OrbitFault
from hil_config.schema.platforms import load_platform
from hil_config.wire.messages import Record, TokenEvidence, decode


def _campaign(seed: int = 1, **workload: object) -> Campaign:
    intent = load_campaign(default_path("campaign"))
    orbit = intent.orbit.model_copy(update={"duration_s": 100.0})
    work = intent.workload.model_copy(update={"max_new_tokens": 12, **workload})
    return intent.model_copy(update={"seed": seed, "orbit": orbit, "workload": work})


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(load_bench(default_path("bench")), _campaign())


class Result:
    """A finished run."""

    def __init__(self, folder: Path, speed: Speed) -> None:
        self.folder, self.speed = folder, speed

    @property
    def metrics(self) -> Metrics:
        return measure(self.folder)

    def bodies(self, *kinds: str) -> list[bytes]:
        journal = Journal.read(self.folder)
        try:
            return [entry.body for entry in journal.entries(*kinds)]
        finally:
            journal.close()


@pytest.fixture(scope="module")
def plain(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("plain") / "run"
    return Result(folder, simulate(prepared, folder))


KINDS = ("decision", "samples", "token", "links", "event", "status", "client_token", "attempt", "request_end")


def test_same_seed_same_journal(prepared: Prepared, plain: Result, tmp_path: Path) -> None:
    again = Result(tmp_path / "run", simulate(prepared, tmp_path / "run"))
    assert plain.speed.tokens > 100
    for kind in KINDS:
        assert again.bodies(kind) == plain.bodies(kind), kind


def test_replay_derives_a_simulated_run_again(plain: Result) -> None:
    found = replay_run(plain.folder)
    assert found.ticks > 10
    assert found.gates > 100
    assert (found.mismatches, found.unchecked, found.first) == (0, 0, [])


def test_report_and_export_say_modelled(plain: Result) -> None:
    metrics = plain.metrics
    assert metrics.provenance.startswith("Measured: ")
    for name, source in metrics.sources.items():
        assert not source.startswith("measured(") or name.startswith(("mean", "orbit", "element")), (name, source)
    assert metrics.sources["token and frame times"].startswith("modelled(")
    assert metrics.sources["power_w"].startswith("modelled(board model of local-process")
    assert (metrics.agreement, metrics.accuracy_note[:9]) == (None, "simulated")
    assert metrics.tokens == plain.speed.tokens
    assert metrics.host_s == pytest.approx(plain.speed.host_s)
    assert metrics.energy_gross_j is not None
    assert not metrics.record_gaps
    assert export_run(plain.folder)


def test_outage_is_routed_around(tmp_path: Path) -> None:
    intent = _campaign(max_new_tokens=24)
    fault = type(intent.orbit).model_validate(
        {
            **intent.orbit.model_dump(),
            "faults": (OrbitFault(kind="outage", satellite=intent.orbit.satellites[3], start_s=30.0, end_s=60.0),),
        }
    )
    cut = prepare(load_bench(default_path("bench")), intent.model_copy(update={"orbit": fault}))
    result = Result(tmp_path / "run", simulate(cut, tmp_path / "run"))
    metrics = result.metrics
    assert metrics.tokens > 100
    assert metrics.lost_nodes == ()
    assert replay_run(result.folder).mismatches == 0
    served = {"during": 0, "otherwise": 0}
    for body in result.bodies("token"):
        record = decode(body, Record)
        assert isinstance(record.body, TokenEvidence)
        scenario_s = (record.mono_ns / 1e9 - 1.0) * intent.orbit.rate
        hosts = [host for layer in record.body.layers for host in np.frombuffer(layer.hosts, "<i2").tolist()]
        if record.node != "delta":
            # A call cut off by the outage is hedged within half a second: five of the orbit.
            served["during" if 40.0 < scenario_s < 60.0 else "otherwise"] += hosts.count(3)
    assert served["during"] == 0
    assert served["otherwise"] > 0


def test_killed_gateway(tmp_path: Path) -> None:
    """Its requests begin again elsewhere; nothing hangs."""
    long = prepare(load_bench(default_path("bench")), _campaign(max_new_tokens=48))  # five seconds each: some are on it
    gateway = long.placement.gateways[0].nodes[0]
    result = Result(tmp_path / "run", simulate(long, tmp_path / "run", kills=(Kill(gateway, 42.0),)))
    metrics = result.metrics
    assert metrics.lost_nodes == (gateway,)
    assert f"gateway {gateway} is gone" in metrics.restarts
    later = [msgspec.json.decode(e)["request"] for e in result.bodies("request_end")]
    assert len(later) > 6  # what ran when the node failed, and more
    assert replay_run(result.folder).mismatches == 0


def test_kill_of_an_unknown_board_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody"):
        simulate(prepared, tmp_path / "run", kills=(Kill("nobody", 1.0),))
    assert not (tmp_path / "run").exists()


def test_stride_stands_for_the_rest(prepared: Prepared, plain: Result, tmp_path: Path) -> None:
    """A tenth of the time in detail: the estimated work is near the calculated one, and replay still agrees."""
    result = Result(tmp_path / "run", simulate(prepared, tmp_path / "run", stride=10))
    assert replay_run(result.folder).mismatches == 0
    assert result.speed.events * 5 < plain.speed.events
    assert result.speed.host_s == pytest.approx(plain.speed.host_s)
    estimated, exact = result.metrics, plain.metrics
    assert estimated.tokens == pytest.approx(exact.tokens, rel=0.15)
    assert estimated.energy_gross_j == pytest.approx(exact.energy_gross_j, rel=0.15)
    assert any("1 of 10" in text for text in estimated.not_measured)


def test_stride_stands_for_the_rest_of_the_links_too(prepared: Prepared, plain: Result, tmp_path: Path) -> None:
    """Half of the time in detail: bytes, their energy in report and twin, stand for all of it."""
    result = Result(tmp_path / "run", simulate(prepared, tmp_path / "run", stride=2))
    estimated, exact = result.metrics, plain.metrics
    assert estimated.link_bytes == pytest.approx(exact.link_bytes, rel=0.15)
    assert estimated.transmit_j == pytest.approx(exact.transmit_j, rel=0.15)
    spent = [
        float(msgspec.json.decode(one.bodies("decision")[-1], type=Decision).column("transmit_j").sum())
        for one in (result, plain)
    ]
    assert spent[0] == pytest.approx(spent[1], rel=0.15)
    for mine, other in zip(estimated.links, exact.links, strict=True):
        assert mine.used is not None and other.used is not None and sum(mine.histogram) == mine.frames


def test_degraded_tokens_of_a_stride_are_multiplied_like_tokens(prepared: Prepared, tmp_path: Path) -> None:
    """So that their share is that of the tokens that were seen."""
    result = Result(tmp_path / "run", simulate(prepared, tmp_path / "run", stride=2, kills=(Kill("bravo", 40.0),)))
    seen = [msgspec.json.decode(body, type=TokenArrived) for body in result.bodies("client_token")]
    worse = sum(bool(one.degraded) for one in seen)
    m = result.metrics
    assert worse > 0 and (m.tokens, m.degraded_tokens) == (2 * len(seen), 2 * worse)
    assert figure("degraded_share", "value", m) == pytest.approx(worse / len(seen))
    assert sum(m.degraded_causes.values()) >= m.degraded_tokens and m.rerouted_rows % 2 == 0


def test_energy_of_sending_is_that_of_the_bytes(plain: Result) -> None:
    """Also of those that the last reports name, which the twin has not spent yet."""
    j_per_bit = load_platform("12u-bupt1").transmit_j_per_bit
    assert plain.metrics.link_bytes > 0
    assert plain.metrics.transmit_j == pytest.approx(8.0 * plain.metrics.link_bytes * j_per_bit, abs=1e-5)


def test_no_plot_calls_a_simulated_run_measured(plain: Result) -> None:
    titles = [figure.layout.title.text for figure in figures(plain.folder, plain.metrics).values()]
    assert any("Time per output token" in title for title in titles)
    assert not [title for title in titles if "measured" in title]


@pytest.mark.parametrize(
    ("stride", "workload"),
    [(1, {"batch": 2}), (1, {"prompt_tokens": 8}), (1, {"arrivals": "requests"}),
     (10, {"arrivals": "poisson", "rate_per_s": 1.0})],
)  # fmt: skip
def test_workloads_that_model_nodes_cannot_have(tmp_path: Path, stride: int, workload: dict[str, object]) -> None:
    prepared = prepare(load_bench(default_path("bench")), _campaign(1, **workload))
    with pytest.raises(UsageError):
        simulate(prepared, tmp_path / "run", stride=stride)
    assert not (tmp_path / "run").exists()


def test_poisson_arrivals_begin_at_their_instants(tmp_path: Path) -> None:
    """Two at a time, 3 arrivals a second of 10 host seconds: every one to the nanosecond, and replay agrees."""
    work = {"arrivals": "poisson", "rate_per_s": 3.0, "batch": 2}
    folder = tmp_path / "run"
    speed = simulate(prepare(load_bench(default_path("bench")), _campaign(1, **work)), folder)
    begun = _entries(folder, "request_begin")
    due = [one.at_s for one in itertools.takewhile(lambda one: one.at_s < speed.scenario_s / 10.0, poisson(3.0, 1))]
    wanted = [ANCHOR_NS + round(at_s * 1e9) for at_s in due for _ in range(2)]
    assert len(wanted) > 20
    assert begun == wanted
    assert replay_run(folder).mismatches == 0


def _entries(folder: Path, kind: str) -> list[int]:
    """Host times of the entries of a kind, ns."""
    journal = Journal.read(folder)
    try:
        return [entry.host_ns for entry in journal.entries(kind)]
    finally:
        journal.close()


def hil(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hil_config.door", *map(str, arguments)],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip


def test_a_run_without_a_token_is_refused_with_its_reason(tmp_path: Path) -> None:
    """Satellites that never see each other: the record says so, and the command must not end as if all were well."""
    text = default_path("campaign").read_text().replace("max_range_km: 4500", "max_range_km: 100")
    (tmp_path / "apart.yaml").write_text(text.replace("duration_s: 600", "duration_s: 20"))
    done = hil("simulate", default_path("bench"), tmp_path / "apart.yaml", "--out", tmp_path / "run")
    assert done.returncode == 10, done.stderr
    assert "the run generated no token: 6 requests begun; at the end " in done.stderr
    assert "out of reach of" in done.stderr and "hil schedule validate" in done.stderr
    assert "none ms" not in done.stdout and "not known: no token came" in done.stdout
    found = hil("explain", tmp_path / "run", "--token", "1")
    assert (found.returncode, "the run has no token" in found.stderr) == (2, True)


@pytest.mark.parametrize("text", ["bravo", "@5", "bravo@nan", "bravo@inf", "bravo@-1", "bravo@soon"])
def test_a_kill_at_no_instant_is_refused(text: str, tmp_path: Path) -> None:
    done = hil("simulate", "--demo", "--kill", text, "--out", tmp_path / "run")
    assert (done.returncode, f"--kill {text}: wanted NODE@SECONDS" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_kill_after_the_end_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="orbit second 100: the campaign has seconds 0 to 100"):
        simulate(prepared, tmp_path / "run", kills=(Kill("bravo", 100.0),))


def test_an_unbroken_run_says_its_content(tmp_path: Path) -> None:
    """So that a run that was gone on with can be held against it."""
    text = default_path("campaign").read_text().replace("duration_s: 600", "duration_s: 20")
    (tmp_path / "short.yaml").write_text(text)
    done = hil("simulate", default_path("bench"), tmp_path / "short.yaml", "--out", tmp_path / "run", "--json")
    assert msgspec.json.decode(done.stdout)["content"] == content_hash(tmp_path / "run")
