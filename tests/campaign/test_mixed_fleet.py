"""Two agents and two hundred model nodes in one campaign: one policy, one twin, one record, and nothing mixed up."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from ground_controller.campaign import run_campaign
from ground_controller.decision import Decision
from ground_controller.explain import explain_token
from ground_controller.journal import Journal
from ground_controller.mixed import parts
from ground_controller.preparation import Prepared, prepare
from ground_controller.replay import replay_run
from ground_controller.report.answers import joules_a_token
from ground_controller.report.compare import BLOCKS
from ground_controller.report.compare import compare as compare_runs
from ground_controller.report.metrics import Metrics
from ground_controller.report.page import report_run
from ground_controller.simulation.fidelity import compare
from ground_controller.simulation.run import simulate
from ground_controller.telemetry.export import export_run
from ground_controller.verification.verify import verify_run
from hil_config.errors import ConfigError, EnvironmentFault, InvalidRunError
from hil_config.schema.bench import Bench, Board
from hil_config.schema.campaign import Campaign, Start
from hil_config.schema.load import default_path, load_campaign
from hil_config.schema.orbit import Shell
from hil_config.wire.messages import Record, TokenEvidence, decode

REAL, MODELS = ("alpha", "bravo"), 200
PLANES, EACH = 14, 15


def _bench(models: int = MODELS) -> Bench:
    """The real boards first."""
    real = tuple(Board(name=name, profile="local-process") for name in REAL)
    return Bench(bench="mixed", boards=real + tuple(
        Board(name=f"m{i:03d}", profile="raspberry-pi-4b", kind="model") for i in range(models)
    ))  # fmt: skip


def _campaign(bench: Bench, **policies: object) -> Campaign:
    demo, count = load_campaign(default_path("campaign")), len(bench.boards)
    shell = Shell(name="WALKER", altitude_km=550.0, inclination_deg=53.0, planes=PLANES, per_plane=EACH)
    names = tuple(f"WALKER-P{p:02d}S{s:02d}" for p in range(PLANES) for s in range(EACH))[:count]
    orbit = demo.orbit.model_copy(
        update={
            "satellites": names, "shells": (shell,), "duration_s": 40.0, "step_s": 20.0, "max_range_km": 5_016.0,
            "relay": "constellation", "isl": "grid",
        }
    )  # fmt: skip
    return demo.model_copy(
        update={
            "orbit": orbit, "model": demo.model.model_copy(update={"replicas": 1}),
            "twin": demo.twin.model_copy(update={"start": (Start(temperature_c=45.0, charge=0.7),) * count}),
            "policies": demo.policies.model_copy(update=policies),
            "workload": demo.workload.model_copy(update={"max_new_tokens": 12, "modelled_concurrency": 8}),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    bench = _bench()
    return prepare(bench, _campaign(bench))


@pytest.fixture(scope="module")
def run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of host time."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    try:
        run_campaign(prepared, folder, lambda _progress: None)
    except EnvironmentFault as error:
        if "broker" not in error.message and "mosquitto" not in error.message:
            raise
        pytest.skip(f"no broker here: {error.message}")
    return folder


@pytest.fixture(scope="module")
def metrics(run: Path) -> Metrics:
    return report_run(run).metrics


def test_its_boards_are_not_put_beside_a_simulation(run: Path, tmp_path: Path) -> None:
    """Simulated, all of them serve one workload: neither figures nor nodes are those of the real boards."""
    few = _bench(2)
    simulate(prepare(few, _campaign(few)), tmp_path / "simulated")
    with pytest.raises(InvalidRunError, match="on the real boards alone"):
        compare(run, tmp_path / "simulated")


def test_what_model_boards_did_is_no_part_of_what_boards_did(run: Path, tmp_path: Path) -> None:
    """Requests of both kinds have the same numbers. Every step of a token is at a real board, and each layer once."""
    for number in (1, 2, 5):
        why = explain_token(run, number)
        assert [layer.layer for layer in why.layers] == [0, 1, 2, 3]
        assert {layer.gateway for layer in why.layers} <= set(REAL)
    outcomes = {check.name: check.outcome for check in verify_run(run)}
    assert outcomes["tokens"] == outcomes["model on boards"] == "pass"
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with sqlite3.connect(copy / "journal.sqlite") as db:
        db.execute("UPDATE meta SET value = 'again' WHERE key = 'run'")
    db.close()
    (beside,) = compare_runs(run, (copy,))
    (joules,) = [line for line in beside.lines if line.metric == "energy gross a token"]
    own = parts(Journal.read(run))[0]
    wanted = [each for each in joules_a_token(own, BLOCKS) if each is not None]
    own.close()
    assert joules.base == pytest.approx(sum(wanted) / max(1, len(wanted)))


def test_one_policy_over_both(run: Path) -> None:
    """Every tick decides over all nodes, and all of it, gates of model nodes too, is derived again."""
    found = replay_run(run)
    assert (found.mismatches, found.unchecked, found.first) == (0, 0, [])
    journal = Journal.read(run)
    decisions = [msgspec.json.decode(e.body, type=Decision) for e in journal.entries("decision")]
    journal.close()
    last = decisions[-1]
    assert len(last.plan.nodes) == len(REAL) + MODELS
    assert last.column("alive").all()
    rows = last.column("calls_per_s")
    assert (rows[:2] > 0.0).all()
    assert (rows[2:] > 0.0).sum() > 20


def test_frames_stay_on_their_side(run: Path, prepared: Prepared) -> None:
    journal = Journal.read(run)
    names, seen = prepared.setting.nodes, Counter[tuple[bool, bool]]()
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        for layer in body.layers:
            for i in range(0, len(layer.hosts), 2):
                host = int.from_bytes(layer.hosts[i : i + 2], "little", signed=True)
                if host >= 0:
                    seen[entry.node in REAL, names[host] in REAL] += 1
    journal.close()
    assert set(seen) == {(True, True), (False, False)}


def test_measured_and_modelled_are_told_apart(run: Path, metrics: Metrics) -> None:
    assert {one.node for one in metrics.nodes} == set(REAL)
    assert metrics.models is not None
    assert len(metrics.models.nodes) == MODELS
    assert metrics.sources["token and frame times"].startswith("measured(")
    assert metrics.models.sources["token and frame times"].startswith("modelled(")
    assert metrics.models.sources["power_w"].startswith("modelled(board model of raspberry-pi-4b")
    assert metrics.sources[f"{MODELS} model nodes, apart"].startswith("modelled(")
    assert metrics.tokens > 0
    assert metrics.models.tokens > 0
    whole = Journal.read(run)
    real, models = parts(whole)
    assert models is not None
    ours = {(e.node, e.seq) for e in real.entries("token")}
    theirs = {(e.node, e.seq) for e in models.entries("token")}
    assert ours
    assert theirs
    assert not ours & theirs
    assert len(ours | theirs) == sum(1 for _ in whole.entries("token"))
    assert {node for node, _ in ours} <= set(REAL)
    whole.close()
    files = {path.relative_to(run).as_posix() for path in export_run(run)}
    assert {"export/tokens.csv", "export/models/tokens.csv"} <= files
    assert "m000" not in (run / "export" / "samples.csv").read_text()
    assert "<h2>Model nodes</h2>" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "policies", [{"routing": "cgr"}, {"replacement": {"name": "forecast"}}], ids=["routing", "replacement"]
)
def test_what_would_need_frames_between_them_is_refused(policies: dict[str, object]) -> None:
    bench = _bench(40)
    campaign = Campaign.model_validate(
        {**_campaign(bench).model_dump(), "policies": {**_campaign(bench).policies.model_dump(), **policies}}
    )
    with pytest.raises(ConfigError, match="real and model boards"):
        prepare(bench, campaign)


def test_a_bench_of_models_alone_is_for_simulation(tmp_path: Path) -> None:
    bench = Bench(bench="models", boards=_bench(4).boards[2:])
    campaign = _campaign(bench)
    with pytest.raises(ConfigError, match="model boards only"):
        run_campaign(prepare(bench, campaign), tmp_path / "run", lambda _progress: None)


def test_a_comparison_is_of_the_real_boards(run: Path, metrics: Metrics, tmp_path: Path) -> None:
    """Joules of model boards over tokens of real ones would be nobody's figure."""
    shutil.copytree(run, tmp_path / "copy")
    (found,) = compare_runs(run, (tmp_path / "copy",))
    (joules,) = [line for line in found.lines if line.metric == "energy gross a token"]
    if metrics.gross_j_per_token is None:  # a busy machine left a gap
        assert joules.base is None
    else:
        assert joules.base is not None  # a mean over tenths, of which on a busy machine some have few tokens
        assert joules.base < 10.0 * metrics.gross_j_per_token, "two hundred model boards draw a hundred times as much"
    (mass,) = [line for line in found.lines if line.metric == "mixing mass served"]
    assert mass.base == pytest.approx(_mass_a_request(run), abs=1e-9)


def _mass_a_request(run: Path) -> float:
    """The mean over requests with two tokens or more of what real boards served of the router's mass."""
    kept: dict[int, list[tuple[float, int]]] = defaultdict(list)
    journal = Journal.read(run)
    try:
        tokens = Counter(json.loads(entry.body)["request"] for entry in journal.entries("client_token"))
        for entry in journal.entries("token"):
            step = decode(entry.body, Record).body
            assert isinstance(step, TokenEvidence)
            if entry.node in REAL:
                kept[step.request].append((step.kept_mass, step.rows * len(step.layers)))
    finally:
        journal.close()
    means = [
        sum(mass * rows for mass, rows in steps) / sum(rows for _, rows in steps)
        for request, steps in kept.items()
        if tokens[request] > 1
    ]
    return sum(means) / len(means)


def test_verification_asks_real_boards_alone_what_they_served(run: Path) -> None:
    (served,) = [check for check in verify_run(run) if check.name == "model on boards"]
    assert (served.outcome, served.figure.partition(" served")[0]) == ("pass", "2 of 2")
