"""Deltas on the ground: merged exactly where the rank allows, best where it does not, and worth their bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hil_config.errors import ArtefactError, DataFileError, UsageError
from hil_config.wire.delta import Delta, DeltaHeader, Factors, Place, decode_delta
from hil_config.wire.manifest import read_manifest
from hil_config.wire.minisign import verify
from models.adapt import AdaptedProbe, cut, merge, pack, read_factors
from models.cli import models
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.probe import mean, nats
from models.sign import read_public_key

DATA = Path(__file__).parent / "data"
ADAPTATION = reference_checkpoint().parent / "adaptation"


def random_delta(seed: int, rank: int, tokens: int = 1, base: str = "b") -> Delta:
    rng = np.random.default_rng(seed)
    places: list[Place] = [(0, e, site) for e in range(2) for site in ("gate_up", "y")]
    factors = {
        place: Factors(rng.standard_normal((12, rank)).astype("f4"), rng.standard_normal((rank, 20)).astype("f4"))
        for place in places
    }
    return Delta(DeltaHeader(1, "n", 1, base, rank, float(rank), (), tokens=tokens), factors)


def test_one_delta_merged_is_itself() -> None:
    delta = random_delta(1, 3)
    for place, (a, b) in merge([delta]).items():
        np.testing.assert_allclose(a @ b, delta.factors[place].a @ delta.factors[place].b, atol=1e-5)


def test_merging_is_the_weighted_mean_of_products_as_near_as_the_rank_allows() -> None:
    one, two = random_delta(1, 3, tokens=300), random_delta(2, 3, tokens=100)
    merged = merge([one, two])
    for place, (a, b) in merged.items():
        wanted = 0.75 * one.factors[place].a @ one.factors[place].b + 0.25 * two.factors[place].a @ two.factors[place].b
        singular = np.linalg.svd(wanted, compute_uv=False)
        error = np.linalg.norm(a @ b - wanted)
        assert error == pytest.approx(np.sqrt((singular[3:] ** 2).sum()), rel=1e-4), "Eckart-Young: nothing is nearer"
    for place, (a, b) in merge([one, two], [1.0, 0.0]).items():
        np.testing.assert_allclose(a @ b, one.factors[place].a @ one.factors[place].b, atol=1e-5)


def test_a_frozen_a_makes_the_mean_exact() -> None:
    one, two = random_delta(1, 3), random_delta(2, 3)
    two = Delta(two.header, {place: Factors(one.factors[place].a, b) for place, (_, b) in two.factors.items()})
    for place, (a, b) in merge([one, two]).items():
        wanted = one.factors[place].a @ ((one.factors[place].b + two.factors[place].b) / 2)
        np.testing.assert_allclose(a @ b, wanted, atol=1e-5)


def test_a_rank_above_what_there_is_is_filled_with_zeros() -> None:
    rng = np.random.default_rng(0)
    a, b = cut(rng.standard_normal((5, 2)), rng.standard_normal((2, 7)), 4)
    assert a.shape == (5, 4) and b.shape == (4, 7) and not a[:, 2:].any()


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(UsageError, match="2 models"):
        merge([random_delta(1, 3), random_delta(2, 3, base="other")])
    with pytest.raises(UsageError, match="nothing to merge"):
        merge([])
    with pytest.raises(UsageError, match="weights"):
        merge([random_delta(1, 3)], [0.0])


def test_a_file_that_is_no_factors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataFileError, match=r"x\.npz"):
        read_factors(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", **{"0.0.y.a": np.zeros((4, 2), np.float32)})  # type: ignore[arg-type]
    with pytest.raises(DataFileError, match="wanted a"):
        read_factors(tmp_path / "y.npz")
    flat: dict[str, Any] = {"0.0.y.a": np.zeros((4, 2), np.float32), "0.0.y.b": np.zeros(2, np.float32)}
    np.savez(tmp_path / "z.npz", **flat)
    with pytest.raises(DataFileError, match="wanted a"):
        read_factors(tmp_path / "z.npz")


def write_router_delta(shards: Path, folder: Path) -> Path:
    """Factors that turn layer 0's router over."""
    card, rng = read_manifest(shards).model, np.random.default_rng(0)
    factors: dict[str, Any] = {
        "0.-1.router.a": rng.standard_normal((card.hidden, 2)).astype(np.float32),
        "0.-1.router.b": rng.standard_normal((2, card.experts)).astype(np.float32),
    }
    np.savez(folder / "router.npz", **factors)
    return folder / "router.npz"


def test_trying_a_delta_of_a_router_runs_under_it(reference_shards: Path, tmp_path: Path) -> None:
    run, out = CliRunner().invoke, str(tmp_path / "router.delta")
    factors = str(write_router_delta(reference_shards, tmp_path))
    packed = run(models, ["delta", "pack", factors, "--model", str(reference_shards), "--name", "r", "--out", out])
    assert packed.exit_code == 0, packed.output
    text = str(ADAPTATION / "heldout.json")
    tried = json.loads(run(models, ["delta", "try", str(reference_shards), out, "--text", text, "--json"]).output)
    assert tried["perplexity"]["satire"]["after"] > 1.5 * tried["perplexity"]["satire"]["before"]


def test_what_does_not_fit_the_model_is_neither_packed_nor_tried(
    reference_shards: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    run, out = CliRunner().invoke, tmp_path / "x.delta"
    satire = ["delta", "pack", str(ADAPTATION / "satire.npz"), "--name", "satire", "--out", str(out), "--model"]
    refused = run(models, [*satire, str(tiny_shards)])
    assert isinstance(refused.exception, ArtefactError) and "the model has" in refused.exception.message
    assert not out.exists()
    assert run(models, [*satire, str(reference_shards)]).exit_code == 0
    tried = run(models, ["delta", "try", str(tiny_shards), str(out), "--text", str(ADAPTATION / "heldout.json")])
    assert isinstance(tried.exception, ArtefactError) and "made for base" in tried.exception.message


@pytest.mark.parametrize("text", ['{"a": "one text"}', '{"a": [1]}', '{"a": []}', '{"a": [""]}', "{}", "[]"])
def test_what_is_no_text_is_refused(text: str, reference_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text(text)
    given = ["--text", str(tmp_path / "text.json")]
    refused = CliRunner().invoke(models, ["calibrate", str(reference_shards), *given])
    assert isinstance(refused.exception, DataFileError) and "text.json" in refused.exception.message


def test_the_shipped_delta_lowers_an_unseen_domain_and_the_merge_beats_both_halves(reference_shards: Path) -> None:
    """Two halves of the training text, as two nodes would see it; held-out text that neither saw."""
    probe, tokenizer = AdaptedProbe(reference_shards, "int8"), read_tokenizer(reference_checkpoint())
    texts = {
        domain: [[0, *tokenizer.encode(text).ids][:256] for text in found]
        for domain, found in json.loads((ADAPTATION / "heldout.json").read_text()).items()
    }
    base = read_manifest(reference_shards).source_sha256

    def loss(factors: dict[Place, Factors]) -> float:
        data = pack(factors, "satire", 1, base)
        assert len(data) <= 200_000
        probe.delta = decode_delta(data, "satire")
        return mean(nats(probe, texts))

    before = mean(nats(probe, texts))
    assert loss(read_factors(ADAPTATION / "satire.npz")) < before - 1.0
    halves = [read_factors(DATA / f"satire_half{n}.npz") for n in (0, 1)]
    losses = [loss(half) for half in halves]
    deltas = [decode_delta(pack(half, "satire", 1, base), "half") for half in halves]
    assert loss(merge(deltas)) < min(losses) < before - 0.9
    probe.delta = None
    assert mean(nats(probe, texts)) == before, "without the delta: the same, bit for bit"


def test_the_commands_from_factors_to_a_signed_merged_delta(reference_shards: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(models, ["keygen", "--out", str(tmp_path / "lab")]).exit_code == 0
    key, files = ["--key", str(tmp_path / "lab.key")], []
    for half in (0, 1):
        out = tmp_path / f"half{half}.delta"
        base = ["delta", "pack", str(DATA / f"satire_half{half}.npz"), "--model", str(reference_shards)]
        packed = run(models, [*base, "--name", "satire", "--tokens", "60000", "--out", str(out), *key, "--json"])
        assert packed.exit_code == 0 and json.loads(packed.output)["signed"] is True
        files.append(str(out))
    merged = tmp_path / "merged.delta"
    old = run(models, ["delta", "merge", *files, "--seq", "1", "--out", str(merged)])
    assert isinstance(old.exception, UsageError) and "use 2 or more" in old.exception.hint and not merged.exists()
    done = run(models, ["delta", "merge", *files, "--seq", "2", "--out", str(merged), *key])
    assert done.exit_code == 0, done.output
    public = read_public_key(tmp_path / "lab.pub")
    text = merged.with_name("merged.delta.minisig").read_text()
    assert verify((public,), merged.read_bytes(), text, "merged") == "delta satire sequence 2"
    again = run(models, ["delta", "merge", *files, "--seq", "2", "--out", str(merged)])
    assert again.exit_code == 0 and not merged.with_name("merged.delta.minisig").exists(), "no older signature stays"
    shown = json.loads(run(models, ["delta", "show", str(merged), "--json"]).output)
    assert (shown["seq"], shown["experts"], shown["tokens"]) == (2, 64, 120000)
    base = ["delta", "try", str(reference_shards), str(merged), "--text", str(ADAPTATION / "heldout.json"), "--json"]
    tried = json.loads(run(models, base).output)["perplexity"]["satire"]
    assert tried["after"] < tried["before"] / 2
    asked = {"texts": {"x": ["In the beginning was the word."]}, "cloze": []}
    (tmp_path / "set.json").write_text(json.dumps(asked))
    marks = run(models, ["evaluate", str(reference_shards), "--set", str(tmp_path / "set.json"), "--json"])
    assert marks.exit_code == 0 and json.loads(marks.output)["perplexity"]["x"] > 1
