"""What calibration says of experts: sums that must hold, losses that must be real, and a budget that pays off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hil_config.errors import ArtefactError, DataFileError
from hil_config.wire.importance import Importance, decode_importance, encode_importance, read_importance
from hil_config.wire.manifest import Routing, read_manifest
from models.budget import allocate, byte_weights, options
from models.build import build_shards
from models.calibrate import calibrate, mutual_information
from models.cli import models
from models.evaluate import items, read_evaluation
from models.heldout import read_tokenizer
from models.importance_cli import print_importance
from models.locate import reference_checkpoint
from models.oracle import FloatArray, IntArray, Oracle
from models.probe import Probe, Setting, mean, nats
from tests.models.tiny_families import save_model


@pytest.fixture(scope="module")
def texts() -> dict[str, list[list[int]]]:
    rng = np.random.default_rng(4)
    return {domain: [rng.integers(0, 96, 24).tolist() for _ in range(3)] for domain in ("one", "two")}


@pytest.fixture(scope="module")
def found(tiny_shards: Path, texts: dict[str, list[list[int]]]) -> Importance:
    return calibrate(tiny_shards, texts, ablate=(0,))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("importance") / "shards"
    build_shards(reference_checkpoint(), out, ("fp32", "int4"))
    return out


def test_shares_and_weights_add_up(found: Importance, tiny_shards: Path) -> None:
    card = read_manifest(tiny_shards).model
    activation, mass = np.array(found.activation), np.array(found.gate_mass)
    np.testing.assert_allclose(activation.sum(axis=1), card.routing.top_k, rtol=1e-5)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-5)
    assert (mass <= activation + 1e-9).all()
    np.testing.assert_allclose(np.mean(found.activation_by_domain, axis=0), activation, rtol=1e-5, atol=1e-9)
    assert found.tokens == {"one": 69, "two": 69}


def test_a_measured_loss_is_the_loss(found: Importance, tiny_shards: Path, texts: dict[str, list[list[int]]]) -> None:
    oracle = Oracle(tiny_shards, "fp32")

    def loss() -> float:
        return mean({d: float(np.mean([oracle.nll(t) for t in found])) for d, found in texts.items()})

    whole = loss()
    for expert in range(3):
        oracle.lost = frozenset({(0, expert)})
        assert found.ablation[0][expert] == pytest.approx(loss() - whole, abs=2e-5)
    assert all(value == -1 for value in found.ablation[1]), "not measured, and said so"
    assert all(value >= 0 for row in found.drop_nats for value in row)


def test_an_expert_is_like_itself_and_its_substitute_is_another(found: Importance) -> None:
    for layer, table in enumerate(found.similarity):
        square = np.array(table)
        np.testing.assert_allclose(square, square.T)
        np.testing.assert_allclose(np.diag(square), 1.0)
        assert all(other != expert for expert, other in enumerate(found.substitute[layer]))


def test_the_substitute_is_the_one_whose_use_changes_least(reference: Path) -> None:
    """Checked by running: of all other experts of layer 3, none is nearer on the rows of the expert replaced."""
    tokens = [0, *range(300, 420)]
    found = calibrate(reference, {"x": [tokens]}, ablate=())
    probe = Probe(reference)
    rows: list[np.ndarray] = []
    picks: list[np.ndarray] = []

    def watch(layer: int, x: FloatArray, scores: FloatArray, chosen: IntArray, weights: FloatArray) -> None:
        if layer == 3:
            rows.append(x)
            picks.append(chosen)

    probe.watch = watch
    probe.prefill(tokens[:-1])
    expert = int(np.bincount(picks[0].ravel()).argmax())
    own = rows[0][(picks[0] == expert).any(axis=1)]
    wanted = probe.expert((3, expert), own)
    distance = [np.square(probe.expert((3, e), own) - wanted).sum() if e != expert else np.inf for e in range(16)]
    assert found.substitute[3][expert] == int(np.argmin(distance))


def test_mutual_information_of_independence_and_of_identity() -> None:
    assert mutual_information(np.ones((4, 8))) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(np.eye(4)) == pytest.approx(2.0)


def test_coarser_precisions_cost_more(reference: Path) -> None:
    text = {"x": [[0, *range(300, 420)]]}
    costs = {c.precision: c for c in calibrate(reference, text, ablate=()).precisions}
    assert sum(map(sum, costs["int4"].nats)) > 0 and not any(map(sum, costs["fp32"].nats))
    assert costs["int4"].bytes < costs["fp32"].bytes


def test_a_budget_spent_by_importance_beats_the_same_bytes_spent_at_random(reference: Path) -> None:
    """Half of the experts dropped: chosen by the shipped importance, against the mean of three random halves."""
    found = read_importance(reference, read_manifest(reference))
    assert found is not None
    probe = Probe(reference)
    evaluation = read_evaluation(reference_checkpoint() / "evaluation.json")
    texts: dict[str, list[tuple[int, ...]]] = {}
    for item in items(evaluation, read_tokenizer(reference_checkpoint()), 0, probe.card.context):
        if item.question < 0 and len(texts.setdefault(item.domain, [])) < 3:
            texts[item.domain].append(item.tokens)
    fp32 = {"fp32": byte_weights(found)["fp32"]}
    chosen = allocate(options(found, fp32), 32 * fp32["fp32"][0][0])
    kept = {place for place, name in chosen.choice.items() if name != "drop"}
    assert len(kept) == 32 and chosen.gap == 0
    places = list(chosen.choice)

    def loss(keep: set[tuple[int, int]]) -> float:
        return mean(nats(probe, texts, Setting(lost=frozenset(set(places) - keep), reroute=True)))

    rng = np.random.default_rng(5)
    draws = [{places[i] for i in rng.permutation(64)[:32]} for _ in range(3)]
    assert loss(kept) < np.mean([loss(draw) for draw in draws]) - 0.2


def test_the_file_is_refused_when_it_was_changed_or_does_not_fit(reference: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference, tmp_path / "shards"))
    manifest = read_manifest(folder)
    found = read_importance(folder, manifest)
    assert found is not None
    (folder / "importance.json").write_bytes(encode_importance(msgspec.structs.replace(found, model="other")))
    with pytest.raises(ArtefactError, match=r"importance\.json"):
        read_importance(folder, manifest)
    for changes in ({"gate_mass": found.gate_mass[1:]}, {"substitute": ((99,) * 16,) * 4}, {"version": 2}):
        with pytest.raises(ArtefactError):
            decode_importance(encode_importance(msgspec.structs.replace(found, **changes)), "x")


def test_a_measured_rise_below_zero_is_not_called_an_estimate(
    found: Importance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for rise, said in ((-1e-4, False), (-1.0, True)):
        changed = msgspec.structs.replace(found, ablation=tuple((rise,) * len(row) for row in found.ablation))
        print_importance(changed, Routing(2, False))
        assert ("estimated" in capsys.readouterr().out) is said


def test_an_expert_that_every_token_uses_is_not_called_the_most_loaded(
    found: Importance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    loads = ((0.5, 0.25, *(0.0,) * (len(found.activation[0]) - 3), 1.0),) * len(found.activation)
    print_importance(msgspec.structs.replace(found, activation=loads), Routing(2, False, always_on=1))
    printed = capsys.readouterr().out
    assert printed.count(f"{0.5 / (0.75 / (len(loads[0]) - 1)):.2f} x mean") == len(loads)


def test_bytes_are_those_of_the_shards_where_a_shared_expert_is_wider(tmp_path: Path) -> None:
    save_model("deepseek_v3", tmp_path / "checkpoint")
    both = build_shards(tmp_path / "checkpoint", tmp_path / "both", ("int8", "int4"))
    one = build_shards(tmp_path / "checkpoint", tmp_path / "one", ("int8",))
    found = calibrate(tmp_path / "both", {"x": [list(range(20))]}, (0,))
    sizes = {(s.precision, s.layer, s.expert): s.bytes for s in both.shards if s.kind == "expert"}
    exact, scaled = byte_weights(found, both.shards), byte_weights(found, one.shards)
    for (precision, layer, expert), size in sizes.items():
        assert 0 <= exact[precision][layer][expert] - size < 256
        assert scaled[precision][layer][expert] == pytest.approx(size, rel=0.1)
    assert sizes["int8", 0, 8] > 1.4 * sizes["int8", 0, 0], "the shared one is of twice the width"


def test_no_text_is_refused(tiny_shards: Path) -> None:
    with pytest.raises(DataFileError, match="no text"):
        calibrate(tiny_shards, {})


def test_the_commands_from_calibration_to_allocation_and_page(reference: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference, tmp_path / "shards"))
    (tmp_path / "text.json").write_text(json.dumps({"x": ["In the beginning was the word. " * 9]}))
    run = CliRunner().invoke
    before = read_manifest(folder)
    base = ["calibrate", str(folder), "--text", str(tmp_path / "text.json"), "--ablate", "3", "--json"]
    done = run(models, base)
    assert done.exit_code == 0, done.output
    after = read_manifest(folder)
    assert after.files != before.files and after.shards == before.shards
    shown = run(models, ["show", str(folder), "--plot", str(tmp_path / "page.html")])
    assert shown.exit_code == 0 and "measured on" in shown.output
    assert "https://cdn" not in (tmp_path / "page.html").read_text()[:5000]
    out = tmp_path / "allocation.json"
    chosen = run(models, ["budget", str(folder), "--bytes", "4MB", "--out", str(out), "--json"])
    assert chosen.exit_code == 0, chosen.output
    report = json.loads(out.read_text())
    assert (
        report["weight"] <= 4e6
        and report["gap"] == 0
        and sum(report["counts"].values()) == 64
        and set(report["counts"]) >= {"int4"}
    )
    least = run(models, ["budget", str(folder), "--bytes", "1kB", "--keep-all"])
    assert least.exit_code != 0 and "the cheapest allocation needs" in str(least.exception)
    joules = [
        "budget",
        str(folder),
        "--joules",
        "0.002",
        "--call-joules",
        "fp32=0.0004",
        "--call-joules",
        "int4=0.0001",
    ]
    energy = json.loads(run(models, [*joules, "--json"]).output)
    assert energy["weight"] <= 0.002 and energy["unit"] == "J a token"
