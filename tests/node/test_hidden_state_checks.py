"""A host that answers wrongly is found: by form at once, by spot re-execution in the end, and nobody else is blamed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hil_config.wire.frames import ExpertCall, ExpertReply, Hello, encode_frame
from hil_config.wire.messages import NodeEvent
from node_agent.engine.audit import SHARE, TOLERANCE, differ
from node_agent.engine.caller import IDS_PER_LAYER
from node_agent.engine.experts import ExpertBank, Partial, Variants
from node_agent.shards.store import ShardStore
from tests.node.nodes import RUN, Bench, flat_schedule, plain_plan

F32 = NDArray[np.float32]
NAMES = ("a", "b", "c", "d", "e", "f")


class LyingBank(ExpertBank):
    """A host's experts, its sums changed by `lie` on the way out."""

    def __init__(self, honest: ExpertBank, lie: Callable[[F32], F32]) -> None:
        self._honest = honest
        self._lie = lie
        self.lies = 0

    def partial_sum(
        self, layer: int, hidden: F32, experts: NDArray[np.int16], weights: F32, adapter: str = "",
        variants: Variants = (),
    ) -> Partial:  # fmt: skip
        honest = self._honest.partial_sum(layer, hidden, experts, weights, adapter, variants)
        self.lies += 1
        return honest._replace(total=self._lie(honest.total))

    def row_sum(
        self, layer: int, hidden: F32, experts: Sequence[int], weights: Sequence[float], adapter: str = "",
        variants: Variants = (),
    ) -> Partial:  # fmt: skip
        picks = np.array([experts], np.int16), np.array([weights], np.float32)
        return self.partial_sum(layer, hidden, *picks, adapter, variants)


@pytest.fixture
def six(reference_shards: Path) -> Iterator[Bench]:
    """Every expert on three of c, d, e and f; gateways a and b hold none and so cannot judge by themselves."""
    manifest = ShardStore(reference_shards).manifest
    base = plain_plan(manifest, NAMES, copies=3)
    layers = tuple(
        type(layer)(
            layer.price,
            tuple(
                tuple(type(s)(2 + (e + c) % 4, 1.0) for c, s in enumerate(hosts)) for e, hosts in enumerate(layer.hosts)
            ),
            layer.substitute,
        )
        for layer in base.layers
    )
    made = Bench(reference_shards, NAMES, plan=plain_plan(manifest, NAMES, layers=layers), timeout_s=20.0)
    yield made
    made.close()


def corrupt(bench: Bench, name: str, lie: Callable[[F32], F32]) -> LyingBank:
    liar = LyingBank(bench.context(name).bank, lie)
    bench.context(name).bank = liar
    return liar


def events(bench: Bench, name: str) -> list[tuple[str, Any]]:
    return [
        (record.name, record.details["peer"])
        for node in bench.nodes.values()
        for record in list(node.records)
        if isinstance(record, NodeEvent) and record.name == name
    ]


def set_share(bench: Bench, share: float, seed: int = 0) -> None:
    for name in "ab":
        auditor = bench.context(name).gateway.auditor
        auditor.share = share
        auditor.draw = random.Random(seed).random


def test_honest_hosts_are_audited_and_never_accused(six: Bench) -> None:
    set_share(six, 1.0)
    assert six.generate([0, 10, 11, 12], 16)
    auditors = [six.context(name).gateway.auditor for name in "ab"]
    assert six.wait(lambda: sum(a.audits for a in auditors) >= 20 and not any(a.under_way for a in auditors))
    assert not events(six, "ReplyDisputed") and not events(six, "HostQuarantined")


@pytest.mark.parametrize("factor", [1.2, -1.0, 0.0])
def test_a_poisoned_host_is_convicted_by_two_others(six: Bench, factor: float) -> None:
    set_share(six, 1.0)
    corrupt(six, "e", lambda total: (total * np.float32(factor)).astype(np.float32))
    six.generate([0, 10, 11, 12], 12, request=1)
    assert six.wait(lambda: ("HostQuarantined", "e") in events(six, "HostQuarantined"))
    six.generate([0, 10, 11, 12], 12, request=2)
    assert {peer for _, peer in events(six, "HostQuarantined")} == {"e"}


def test_two_percent_finds_a_poisoned_host_within_228_bad_answers(six: Bench) -> None:
    assert 1.0 - (1.0 - SHARE) ** 228 >= 0.99
    set_share(six, SHARE, seed=4)
    liar = corrupt(six, "e", lambda total: (total * np.float32(1.5)).astype(np.float32))
    request = 0
    while not events(six, "HostQuarantined") and liar.lies < 228:
        request += 1
        six.generate([0, 10 + request, 11, 12], 16, request=request)
    assert six.wait(lambda: bool(events(six, "HostQuarantined"))), f"{liar.lies} lies, none found"
    assert {peer for _, peer in events(six, "HostQuarantined")} == {"e"}


def test_an_answer_beyond_calibration_is_never_counted(six: Bench) -> None:
    before = [t.token for t in six.generate([0, 10, 11, 12], 10, request=1)]
    corrupt(six, "e", lambda total: (total * np.float32(1e6)).astype(np.float32))
    after = six.generate([0, 10, 11, 12], 10, request=2)
    assert [t.token for t in after] == before and not any(t.degraded for t in after), "a replica answered instead"
    assert {peer for _, peer in events(six, "HostQuarantined")} == {"e"}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(
    ("width", "value", "reason"),
    [(7, 1.0, "width 7, the model's is 128"), (1, 1.0, "width 1,"), (128, 3e38, "not finite")],
)
def test_a_call_that_cannot_be_answered_is_refused_and_the_host_lives(
    bench: Bench, rows: int, width: int, value: float, reason: str
) -> None:
    before = [t.token for t in bench.generate([0, 10, 11, 12], 6, request=1)]
    held = sorted(expert for layer, expert in bench.context("c").bank.held.precision if layer == 1)[:2]
    call = ExpertCall(
        7, 3, 1, rows, width, 2, np.array([held] * rows, np.int16), np.full((rows, 2), 0.5, np.float32),
        np.full((rows, width), value, np.float32),
    )  # fmt: skip
    bench.send(call, "c")
    assert bench.wait(lambda: len(bench.refusals) == 1)
    refused = bench.refusals.pop()
    assert (refused.call, refused.request) == (7, 3) and "c: " in refused.reason and reason in refused.reason
    assert [t.token for t in bench.generate([0, 10, 11, 12], 6, request=2)] == before


def test_nobody_answers_for_another(reference_shards: Path) -> None:
    """Forged sums are within a frame's rules, and every number of a call is tried while its host is asked."""
    bench = Bench(reference_shards, schedule=flat_schedule(("a", "b", "c", "d"), delay_s=0.01), timeout_s=20.0)
    try:
        before = [t.token for t in bench.generate([0, 10, 11, 12], 4, request=1)]
        forger, stop = bench.dial("a"), threading.Event()
        forger.sendall(encode_frame(Hello("d", RUN, "boot-d")))
        sums = np.full((1, bench.manifest.model.hidden), 1e6, np.float32)
        forged = b"".join(
            encode_frame(ExpertReply(n * IDS_PER_LAYER + k, 1, 0.0, 1.0, 1, sums.shape[1], sums))
            for n in range(1, 60)
            for k in range(2)
        )

        def forge() -> None:
            while not stop.is_set():
                forger.sendall(forged)

        thread = threading.Thread(target=forge)
        thread.start()
        after = [t.token for t in bench.generate([0, 10, 11, 12], 4, request=2)]
        stop.set()
        thread.join()
        forger.close()
        blamed = {peer for _, peer in events(bench, "HostQuarantined")}
        assert after == before and blamed <= {"d"}, "d may be blamed for what it says of its own calls"
    finally:
        bench.close()


@pytest.mark.parametrize("tolerance", sorted(set(TOLERANCE.values())))
def test_the_tolerance_separates_rounding_from_lies(tolerance: float) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((50, 128)).astype(np.float32)
    noise = rng.standard_normal(rows.shape).astype(np.float32) * np.float32(tolerance / 2)
    assert not differ(rows, rows + noise, tolerance)
    for row in range(50):
        poisoned = rows.copy()
        poisoned[row] *= 1.0 + 2 * tolerance
        assert differ(rows, poisoned, tolerance) == (tolerance < 0.5), (
            "beyond 0.5 only a turned or missing sum is found"
        )
        poisoned[row] = -rows[row]
        assert differ(rows, poisoned, tolerance)


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
def test_coarse_codecs_accuse_nobody(reference_shards: Path, codec: Any) -> None:
    bench = Bench(reference_shards, codec=codec, copies=3)
    try:
        for name in "ab":
            bench.context(name).gateway.auditor.share = 1.0
        bench.generate([0, 10, 11, 12], 12)
        auditors = [bench.context(name).gateway.auditor for name in "ab"]
        assert bench.wait(lambda: sum(a.audits for a in auditors) >= 10 and not any(a.under_way for a in auditors))
        assert not events(bench, "ReplyDisputed")
    finally:
        bench.close()
