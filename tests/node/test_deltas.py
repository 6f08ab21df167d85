"""A delta over a shaped link to nodes that hold different experts: it helps, it is switched per request, it goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hil_config.errors import ArtefactError
from hil_config.wire.delta import Factors, Place, decode_delta
from hil_config.wire.manifest import read_manifest
from hil_config.wire.messages import LinkReport
from hil_config.wire.minisign import sign
from hil_config.wire.orders import ExpertHolding
from models.adapt import AdaptedProbe, pack, read_factors
from models.build import build_shards
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.sign import new_key, sign_folder
from node_agent.engine.experts import ExpertBank, NotHeld
from node_agent.shards.deltas import DeltaShelf
from node_agent.shards.store import ShardStore
from node_agent.shards.trust import NO_TRUST, Trust
from tests.models.tiny_families import save_model
from tests.node.nodes import Bench, flat_schedule, plain_plan

ADAPTATION = reference_checkpoint().parent / "adaptation"
RATE_BIT_S = 16e6
PAIR = ("a", "b")


@pytest.fixture(scope="module")
def satire() -> list[list[int]]:
    tokenizer = read_tokenizer(reference_checkpoint())
    texts = json.loads((ADAPTATION / "heldout.json").read_text())["satire"]
    return [[0, *tokenizer.encode(text).ids] for text in texts[:5]]


@pytest.fixture
def pair(reference_shards: Path) -> Iterator[Bench]:
    """Two nodes, every expert on one of them only, 16 Mbit/s and 5 ms between them."""
    manifest = read_manifest(reference_shards)
    schedule = flat_schedule(PAIR, 0.005, rate_bit_s=RATE_BIT_S)
    made = Bench(reference_shards, PAIR, copies=1, schedule=schedule, plan=plain_plan(manifest, PAIR, 1), timeout_s=10)
    yield made
    made.close()


def payload(shards: Path, seq: int = 1) -> bytes:
    base = read_manifest(shards).source_sha256
    return pack(read_factors(ADAPTATION / "satire.npz"), "satire", seq, base)


def nats(bench: Bench, texts: list[list[int]], first: int, adapter: str = "") -> tuple[float, list[list[float]]]:
    logprobs = [bench.score(tokens, request=first + i, adapter=adapter) for i, tokens in enumerate(texts)]
    assert not bench.refusals
    return -sum(map(sum, logprobs)) / sum(map(len, logprobs)), logprobs


def test_a_delta_over_a_shaped_link_lowers_an_unseen_domain_and_leaves_no_trace(
    pair: Bench, reference_shards: Path, satire: list[list[int]]
) -> None:
    before, exact = nats(pair, satire, 100)
    told = pair.generate([0, 10, 11, 12], 8, request=1)
    for node in pair.nodes.values():
        assert node.context is not None
        node.context.flush_links()
        node.records.clear()
    data = payload(reference_shards)
    shards = sum(s.bytes for s in read_manifest(reference_shards).shards if s.kind == "expert")
    assert len(data) <= 200_000 < shards / 15
    replies = pair.install("satire", data)
    assert [(r.node, r.seq, r.problem) for r in replies] == [("a", 1, ""), ("b", 1, "")]
    assert pair.nodes["a"].context is not None
    pair.nodes["a"].context.flush_links()
    (sent,) = [r for r in pair.nodes["a"].records if isinstance(r, LinkReport) and r.peer == "b"]
    assert sent.bytes >= len(data) and sent.scheduled_us >= 8e6 * len(data) / RATE_BIT_S + 5000

    after, _ = nats(pair, satire, 200, adapter="satire")
    probe = AdaptedProbe(reference_shards, "int8")
    probe.delta = decode_delta(data, "satire")
    alone = sum(probe.nll(t) * (len(t) - 1) for t in satire) / sum(len(t) - 1 for t in satire)
    assert after == pytest.approx(alone, abs=2e-3), "two nodes compute what one process does"
    assert after < before - 0.8

    assert nats(pair, satire, 300)[1] == exact, "a request that does not name it runs as before, bit for bit"
    assert [t.token for t in pair.generate([0, 10, 11, 12], 8, request=2)] == [t.token for t in told]
    assert [r.seq for r in pair.install("satire", b"")] == [0, 0]
    assert pair.score(satire[0], request=400, adapter="satire") == []
    assert "delta 'satire' is not here" in pair.refusals[0].reason
    pair.refusals.clear()
    assert nats(pair, satire, 500)[1] == exact


def test_requests_with_and_without_it_run_at_the_same_time(pair: Bench, reference_shards: Path) -> None:
    plain = [t.token for t in pair.generate([0, 40, 41, 42], 12, request=1)]
    pair.install("satire", payload(reference_shards))
    adapted = [t.token for t in pair.generate([0, 40, 41, 42], 12, request=2, adapter="satire")]
    assert adapted != plain
    from hil_config.wire.frames import Route, Step

    prompt = np.array([0, 40, 41, 42], np.int32)
    for request in range(10, 18):
        step = Step(request, 1, 0, 12, Route(PAIR, "client"), 4, prompt)
        step.adapter = "satire" if request % 2 else ""
        pair.send(step, "a")
    assert pair.wait(lambda: all(len(pair.of(r, 1)) == 12 for r in range(10, 18)))
    for request in range(10, 18):
        assert [t.token for t in pair.of(request, 1)] == (adapted if request % 2 else plain), request


def test_a_refused_delta_is_named_and_not_passed_on(pair: Bench, reference_shards: Path) -> None:
    wrong = pack(read_factors(ADAPTATION / "satire.npz"), "satire", 1, "0" * 64)
    (reply,) = pair.install("satire", wrong)
    assert reply.node == "a" and "made for base" in reply.problem
    assert not pair.nodes["b"].store.deltas.holds("satire")


def test_a_delta_that_calls_itself_by_a_long_name_is_refused_in_a_frame(pair: Bench, reference_shards: Path) -> None:
    base = read_manifest(reference_shards).source_sha256
    (reply,) = pair.install("satire", pack(read_factors(ADAPTATION / "satire.npz"), "x" * 80_000, 1, base))
    assert reply.node == "a" and "the file is delta 'xxx" in reply.problem


def test_only_signed_newer_and_fitting_deltas_are_kept(reference_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference_shards, tmp_path / "shards"))
    secret = new_key()
    sign_folder(folder, secret)
    trust = Trust(keys=(secret.public.text,), memory=str(tmp_path / "memory"))
    shelf = ShardStore(folder, trust).deltas
    data, newer = payload(folder, 1), payload(folder, 2)

    def signed(file: bytes) -> bytes:
        return sign(secret, file, "delta").encode()

    with pytest.raises(ArtefactError, match="format"):
        shelf.install("satire", data, b"")
    with pytest.raises(ArtefactError, match="it was changed"):
        shelf.install("satire", data, signed(newer))
    with pytest.raises(ArtefactError, match="is delta 'satire'"):
        shelf.install("other", data, signed(data))
    assert shelf.install("satire", newer, signed(newer)) == 2
    with pytest.raises(ArtefactError, match="sequence 1, but 2 was here"):
        shelf.install("satire", data, signed(data))
    again = ShardStore(folder, trust).deltas
    with pytest.raises(ArtefactError, match="rollback refused"):
        again.install("satire", data, signed(data))
    for place in ((9, 0, "y"), (0, 99, "y"), (0, 0, "gate_up")):
        factors: dict[Place, Factors] = {place: Factors(np.ones((3, 1), np.float32), np.ones((1, 3), np.float32))}
        bad = pack(factors, "bad", 1, read_manifest(folder).source_sha256)
        with pytest.raises(ArtefactError, match="the model has"):
            shelf.install("bad", bad, signed(bad))


def test_a_delta_of_a_shared_expert_of_another_width_fits_it_or_is_refused_in_the_call(tmp_path: Path) -> None:
    save_model("deepseek_v3", tmp_path / "checkpoint")
    manifest = build_shards(tmp_path / "checkpoint", tmp_path / "shards", ("int8",))
    card, rng = manifest.model, np.random.default_rng(0)
    shared, store = card.experts - 1, ShardStore(tmp_path / "shards")
    width = 64
    assert card.routing.always_on == 1 and width != card.expert_width
    for name, size in (("right", width), ("wrong", card.expert_width)):
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((size, 2), (2, card.hidden)))
        store.deltas.install(name, pack({(0, shared, "y"): Factors(a, b)}, name, 1, manifest.source_sha256), b"")
    bank = ExpertBank(store, (ExpertHolding(0, shared, "int8"),))
    rows, picks = rng.standard_normal((3, card.hidden)).astype(np.float32), np.full((3, 1), shared, np.int16)
    plain, right = (bank.partial_sum(0, rows, picks, np.ones((3, 1), np.float32), d).total for d in ("", "right"))
    assert np.abs(right - plain).max() > 0.1
    with pytest.raises(NotHeld, match="delta 'wrong' does not fit layer 0 expert 8"):
        bank.partial_sum(0, rows, picks, np.ones((3, 1), np.float32), "wrong")


@pytest.mark.parametrize("site", ["gate_up", "y"])
def test_a_delta_of_one_product_alone_is_one_whose_other_is_zero(reference_shards: Path, site: str) -> None:
    store, rng = ShardStore(reference_shards), np.random.default_rng(0)
    card, base = store.manifest.model, store.manifest.source_sha256
    sizes = {"gate_up": (card.hidden, 2 * card.expert_width), "y": (card.expert_width, card.hidden)}
    both: dict[Place, Factors] = {
        (0, 3, at): Factors(
            (rng.standard_normal((n, 2)) * (at == site)).astype(np.float32), rng.standard_normal((2, m)).astype("f4")
        )
        for at, (n, m) in sizes.items()
    }
    store.deltas.install("both", pack(both, "both", 1, base), b"")
    store.deltas.install("one", pack({(0, 3, site): both[0, 3, site]}, "one", 1, base), b"")
    bank = ExpertBank(store, (ExpertHolding(0, 3, "int8"),))
    rows = rng.standard_normal((5, card.hidden)).astype(np.float32)
    picks, weights = np.full((5, 1), 3, np.int16), np.ones((5, 1), np.float32)
    plain, two, one = (bank.partial_sum(0, rows, picks, weights, name).total for name in ("", "both", "one"))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - plain).max() > 0.1


def test_a_router_delta_shifts_the_logits(reference_shards: Path) -> None:
    manifest = read_manifest(reference_shards)
    shelf, rng = DeltaShelf(manifest, NO_TRUST), np.random.default_rng(0)
    a = (rng.standard_normal((128, 2)) * 0.1).astype(np.float32)
    b = rng.standard_normal((2, 16)).astype(np.float32)
    data = pack({(1, -1, "router"): Factors(a, b)}, "r", 1, manifest.source_sha256)
    assert shelf.install("r", data, b"") == 1
    (held,) = decode_delta(data, "r").factors.values()
    rows, logits = (rng.standard_normal((5, n)).astype(np.float32) for n in (128, 16))

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    got = shelf.route("r", 1, rows, softmax(logits))
    np.testing.assert_allclose(got, softmax(logits + rows @ held.a @ held.b), rtol=1e-5)
    assert shelf.route("r", 0, rows, got) is got, "the other layers' routers stay"
