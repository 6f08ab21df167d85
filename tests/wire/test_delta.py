"""The delta file: what is written comes back within half a step, what was changed never comes back."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
import numpy as np
import pytest

from hil_config.errors import ArtefactError
from hil_config.wire import delta as d


def example(rank: int = 3, alpha: float = 3.0) -> tuple[bytes, dict[d.Place, d.Factors]]:
    rng = np.random.default_rng(0)
    factors: dict[d.Place, d.Factors] = {}
    for layer, expert, site, inputs, outputs in ((0, 1, "gate_up", 8, 32), (0, 1, "y", 16, 8), (1, -1, "router", 8, 4)):
        shapes = (inputs, rank), (rank, outputs)
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        factors[layer, expert, site] = d.Factors(a, b)
    header = d.DeltaHeader(d.DELTA_VERSION, "satire", 4, "b" * 64, rank, alpha, (), tokens=7, nats_before=2.0)
    return d.encode_delta(header, factors), factors


def test_factors_come_back_within_half_a_step() -> None:
    data, factors = example()
    found = d.decode_delta(data, "x")
    assert (found.header.name, found.header.seq, found.header.tokens) == ("satire", 4, 7)
    assert set(found.factors) == set(factors)
    for place, (a, b) in factors.items():
        for got, sent, axis in ((found.factors[place].a, a, 0), (found.factors[place].b, b, 1)):
            step = np.abs(sent).max(axis=axis, keepdims=True) / 127
            assert (np.abs(got - sent) <= step * 0.51).all()


def test_alpha_scales_the_product() -> None:
    plain, double = d.decode_delta(example()[0], "x"), d.decode_delta(example(alpha=6.0)[0], "x")
    for place, (a, b) in plain.factors.items():
        np.testing.assert_allclose(double.factors[place].a @ double.factors[place].b, 2 * a @ b, rtol=1e-5)


def test_a_row_of_zeros_stays_zero() -> None:
    factors: dict[d.Place, d.Factors] = {
        (0, 0, "y"): d.Factors(np.zeros((4, 2), np.float32), np.ones((2, 4), np.float32))
    }
    header = d.DeltaHeader(d.DELTA_VERSION, "n", 1, "b", 2, 2.0, ())
    assert not d.decode_delta(d.encode_delta(header, factors), "x").factors[0, 0, "y"].a.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 9}, "version 9"),
        ({"rank": 0}, "rank 0"),
        ({"rank": 1000}, "rank 1000"),
        ({"rank": 2}, "bytes after the last part"),
        ({"rank": 4}, "ends before part"),
        ({"alpha": 1e300}, "not finite"),
        ({"payload_sha256": "0" * 64}, "payload is not the one"),
        ({"parts": (d.Part(0, -1, "y", 8, 8),)}, "part"),
        ({"parts": (d.Part(0, 0, "y", 1 << 30, 8),)}, "part"),
        ({"parts": ()}, "bytes after the last part"),
    ],
)
def test_headers_that_lie_are_refused(changes: dict[str, Any], message: str) -> None:
    data, _ = example()
    magic, length = d._LENGTH.unpack_from(data)
    head, body = data[8 : 8 + length], data[8 + length :]
    header = msgspec.structs.replace(msgspec.json.decode(head, type=d.DeltaHeader), **changes)
    changed = msgspec.json.encode(header)
    with pytest.raises(ArtefactError, match=message):
        d.decode_delta(d._LENGTH.pack(magic, len(changed)) + changed + body, "x")


def test_a_cut_file_is_called_cut() -> None:
    data, _ = example()
    with pytest.raises(ArtefactError, match="the file is cut"):
        d.decode_delta(data[:40], "x")


def test_mutated_files_raise_artefact_errors_only() -> None:
    data, _ = example()
    rng, accepted = random.Random(1), 0
    for _ in range(5000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(changed))
            if rng.random() < 0.6:
                changed[place] ^= 1 << rng.randrange(8)
            elif rng.random() < 0.5:
                del changed[place:]
                changed += b"\0"
            else:
                changed[place:place] = rng.randbytes(3)
        with contextlib.suppress(ArtefactError):
            found = d.decode_delta(bytes(changed), "x")
            accepted += 1
            assert all(np.isfinite(f.a).all() and np.isfinite(f.b).all() for f in found.factors.values())
    assert accepted < 1500, "only changes of the header's free fields pass here; the signature covers those"
