"""Energy of a node whose run was interrupted: two pieces, and nothing in between."""

from __future__ import annotations

import numpy as np
import pytest

from ground_controller.report.energy import NodePower, blocks_j, energy_of
from hil_config.schema.profiles import load_profile

OFFSET_NS = 7_000_000_000
PERIOD_NS = 100_000_000


def _power(pauses: tuple[tuple[int, int], ...], first: int = 101, second: int = 201) -> NodePower:
    """3 W for 10 s, an interruption until second 60, 5 W for 20 s; ten samples a second."""
    clock_ns = np.concatenate([np.arange(first), 600 + np.arange(second)]) * PERIOD_NS
    watts = np.concatenate([np.full(first, 3.0), np.full(second, 5.0)])
    return NodePower(
        clock_ns.astype(np.int64), watts, 10.0, OFFSET_NS, None, load_profile("local-process"), pauses,
    )  # fmt: skip


def test_the_pieces_are_added_and_the_time_between_them_is_not_bridged() -> None:
    found = energy_of(_power(((10_500_000_000, 59_900_000_000),)))
    assert found.gross_j == 3.0 * 10.0 + 5.0 * 20.0
    assert "without 1 interruption, in 2 pieces" in found.note and "over 30.0 s" in found.note
    silent = energy_of(_power(()))
    assert silent.gross_j is None and "gap of 50.000 s" in silent.note


def test_a_piece_that_is_too_short_is_not_guessed() -> None:
    found = energy_of(_power(((10_500_000_000, 59_900_000_000),), second=20))
    assert found.gross_j is None and "at least 30 are needed" in found.note


@pytest.mark.parametrize(
    ("begin_s", "end_s", "note"),
    [
        (0.0, 10.0, ""), (-1.3, 11.3, ""), (-1.4, 10.0, "no sample in the first 1.4 s of what was measured of others"),
        (0.0, 200.0, "no sample in the last 190.0 s of what was measured of others: lost, or not there yet"),
    ],
)  # fmt: skip
def test_a_node_that_is_silent_while_others_are_measured_has_no_figure(begin_s: float, end_s: float, note: str) -> None:
    """Of a board whose agent died it would be a smaller one than of a board that served to the end."""
    one = _power((), second=0)._replace(reach_ns=((int(begin_s * 1e9), int(end_s * 1e9)),))
    found = energy_of(one)
    assert (found.gross_j is None) == bool(note)
    assert found.note.startswith(note) if note else found.gross_j == 30.0


def test_an_interruption_at_an_end_is_no_silence() -> None:
    """A controller that died before the first batch came, and went on a minute later."""
    one = _power(((-50_000_000_000, -400_000_000),), second=0)
    one = one._replace(reach_ns=((-50_500_000_000, -50_000_000_000), (-100_000_000, 10_000_000_000)))
    assert energy_of(one).gross_j == 30.0


@pytest.mark.parametrize(
    ("before_s", "after_s", "note"),
    [
        ((0.0, 10.0), (60.0, 80.0), ""),
        ((0.0, 40.0), (70.0, 80.0), "no sample in the last 30.0 s of"),
        ((0.0, 10.0), (50.0, 80.0), "no sample in the first 10.0 s of"),
        ((0.0, 10.0), (60.0, 100.0), "no sample in the last 20.0 s of"),
    ],
)
def test_a_node_that_was_dead_before_the_interruption_has_no_figure(
    before_s: tuple[float, float], after_s: tuple[float, float], note: str
) -> None:
    """It came back with the controller: what it drew in between is not known."""
    seconds = 1_000_000_000
    one = _power(((int(before_s[1] * seconds) + 1, int(after_s[0] * seconds) - 1),))
    found = energy_of(
        one._replace(reach_ns=tuple((int(a * seconds), int(b * seconds)) for a, b in (before_s, after_s)))
    )
    assert (found.gross_j is None) == bool(note)
    assert found.note.startswith(note) if note else found.gross_j == 3.0 * 10.0 + 5.0 * 20.0


def test_blocks_hold_nothing_of_the_interruption() -> None:
    edges = (np.array([0, 10, 30, 60, 80]) * 1_000_000_000 - OFFSET_NS).astype(np.int64)
    one = _power(((10_500_000_000, 59_900_000_000),))
    assert np.allclose(blocks_j(one, edges), [30.0, 0.0, 0.0, 100.0])
    assert np.allclose(blocks_j(one, edges, 1.0), [20.0, 0.0, 0.0, 80.0])
