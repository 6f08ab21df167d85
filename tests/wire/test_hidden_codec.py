"""Whether a hidden state is finite, told quickly and always rightly; and whatever is finite stays so in every codec."""

from __future__ import annotations

import numpy as np
import pytest

from hil_config.wire.hidden_codec import CODECS, Codec, decode_hidden, encode_hidden, finite


@pytest.mark.parametrize("rows", [1, 2, 64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_is_found_wherever_it_is(rows: int, bad: float) -> None:
    values = np.random.default_rng(0).standard_normal((rows, 2048)).astype(np.float32)
    assert finite(values)
    for at in (0, values.size // 2, values.size - 1):
        spoilt = values.copy()
        spoilt.reshape(-1)[at] = bad
        assert not finite(spoilt)


@pytest.mark.parametrize("size", [*range(1, 41), 127, 300])
def test_short_rows_and_two_bad_values_are_told_too(size: int) -> None:
    """numpy looks at several values at once, and at those left over one by one."""
    rng = np.random.default_rng(size)
    for at in range(size):
        for bad in (np.nan, -np.nan, np.inf, -np.inf):
            values = rng.standard_normal(size).astype(np.float32)
            values[at] = bad
            assert not finite(values)
            values[rng.integers(size)] = rng.choice([np.nan, np.inf, -np.inf])
            assert not finite(values)


@pytest.mark.parametrize("rows", [1, 64])
def test_large_values_are_finite_though_their_square_is_not(rows: int) -> None:
    assert finite(np.full((rows, 2048), np.finfo(np.float32).max))
    assert finite(np.zeros((0, 0), np.float32))


def test_values_that_do_not_lie_together_count_alike() -> None:
    values = np.ones((8, 64), np.float32)
    values[3, 7] = np.nan
    assert not finite(values[:, ::7]) and finite(values[:, 1::7]) and not finite(values.T)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [np.finfo(np.float32).max, np.finfo(np.float32).tiny, 2.0**-149, 65520.0, 0.0])
def test_what_is_finite_is_finite_on_the_other_side(codec: Codec, size: float) -> None:
    """int8's scale of the largest value there is was rounded up, so that 127 of it were infinite."""
    rows = np.array([[1.0, -1.0, 0.5], [-1.0, 0.0, 0.0]], np.float32) * np.float32(size)
    found = decode_hidden(encode_hidden(rows, codec), codec, *rows.shape)
    assert np.isfinite(found).all() and (np.abs(found) / np.float32(1.001) <= np.abs(rows).max()).all()
    if codec == "int8" and size >= np.finfo(np.float32).tiny:
        assert np.allclose(found / np.float32(size), rows / np.float32(size), atol=1 / 254 * 1.0001)
