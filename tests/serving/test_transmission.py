"""Rules of transmission applied to frames and rows."""

from __future__ import annotations

import numpy as np
import pytest

from hil_config.wire.hidden_codec import CODECS, Codec, decode_hidden, encode_hidden, encoded_size
from hil_config.wire.plan import LinkRule, Transmission
from models.serving.layer_gate import Picks
from models.serving.transmission import codec_error, compile_sending, mean_square_mass


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("width", [128, 2048])
def test_errors_in_closed_form_are_those_of_normal_values(codec: Codec, width: int) -> None:
    rows = np.random.default_rng(3).standard_normal((64, width)).astype(np.float32)
    back = decode_hidden(encode_hidden(rows, codec), codec, 64, width)
    measured = float(np.mean((back - rows) ** 2) / np.mean(rows**2))
    assert codec_error(codec, width) / 2.0 < measured < codec_error(codec, width) * 2.0


def test_a_frame_gets_the_finest_codec_that_fits() -> None:
    for codec in CODECS:
        size = encoded_size(codec, 4, 128)
        rules = compile_sending(Transmission("fp32", (LinkRule(0, 1, size, 0.0),)))
        assert rules is not None
        assert rules.codec(0, 1, 0, 4, 128, 0.5) == codec
        assert rules.codec(1, 0, 0, 4, 128, 0.5) == "fp32", "no rule that way"
    tight = compile_sending(Transmission("fp16", (LinkRule(0, 1, 1, 0.0),)))
    assert tight is not None and tight.codec(0, 1, 0, 4, 128, 0.5) == "int4", "late is better than never"


def test_a_dearer_link_gets_coarser_codecs_and_a_weightier_frame_finer_ones() -> None:
    def at(price: float, mass: float) -> int:
        rules = compile_sending(Transmission("fp32", (LinkRule(0, 1, 0, price),), (1.0, 0.25)))
        assert rules is not None
        assert CODECS.index(rules.codec(0, 1, 1, 1, 128, mass)) >= CODECS.index(rules.codec(0, 1, 0, 1, 128, mass))
        return CODECS.index(rules.codec(0, 1, 0, 1, 128, mass))

    by_price = [at(price, 0.5) for price in (0.0, 1e-8, 1e-5, 1e-2, 0.3)]
    assert by_price == sorted(by_price) and by_price[0] == 0 and by_price[-1] == 3
    by_mass = [at(1e-2, mass) for mass in (1e-3, 0.05, 1.0)]
    assert by_mass == sorted(by_mass, reverse=True) and by_mass[0] > by_mass[-1]


def test_rows_not_worth_a_frame_stay_but_never_the_strongest() -> None:
    picks = Picks(
        np.array([[4, 5], [4, 5], [4, 5]], np.int16), np.array([[1, 2], [0, 1], [1, 1]], np.int16),
        np.array([[0.9, 0.1], [0.9, 0.1], [0.06, 0.05]], np.float32), np.full((3, 2), -1, np.int16),
        np.zeros((3, 2), np.float32), np.ones(3, np.float32), np.zeros(3, np.intp),
    )  # fmt: skip
    links = tuple(LinkRule(0, n, 0, 0.3) for n in (1, 2))
    rules = compile_sending(Transmission("fp16", links, drop=True))
    assert rules is not None
    kept = rules.keep(picks, 0, 0, 128)
    assert kept.hosts.tolist() == [[1, -1], [0, -1], [1, 1]], "the last row has nothing stronger"
    assert kept.experts.tolist() == [[4, -1], [4, -1], [4, 5]]
    assert kept.kept == pytest.approx([0.9, 0.9, 1.0])
    keeping = compile_sending(Transmission("fp16", links, drop=False))
    assert keeping is not None and keeping.keep(picks, 0, 0, 128) is picks
    assert mean_square_mass(picks.weights) == pytest.approx((1.0 + 1.0 + 0.0121) / 3)
