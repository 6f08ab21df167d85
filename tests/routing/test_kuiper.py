"""Hypatia's Manila - Dalian over Kuiper-630: 200 s at 100 ms, the same routes and round-trip times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ground_controller.formats.hypatia_rows import PathRow, parse_paths, parse_rtts
from ground_controller.orbit.visibility import longest_link_km
from ground_controller.routing.forwarding import (
    DROPPED,
    changed_hops,
    expected_path_delays,
    forwarding,
    path_delays,
)  # fmt: skip
from ground_controller.routing.shortest import directed, undirected
from hil_config.units import SPEED_OF_LIGHT_M_S
from tests.routing.kuiper import ALTITUDE_KM, DALIAN, MANILA, constellation, graph, lengths_km

DATA = Path(__file__).parents[1] / "data" / "hypatia"
SATELLITES = 34 * 34
RENUMBERED = {SATELLITES: 1173, SATELLITES + 1: 1241}
"""Hypatia's files number these two of its hundred stations 1173 and 1241."""


def test_manila_dalian() -> None:
    rtts = parse_rtts((DATA / "kuiper630_rtt_manila_dalian.txt").read_text(), "rtt")
    paths = parse_paths((DATA / "kuiper630_path_manila_dalian.txt").read_text(), "path")
    assert len(rtts) == 2000
    offset_s = np.array([row.time_ns for row in rtts]) * 1e-9
    isl, ground = lengths_km(constellation(), offset_s, (MANILA, DALIAN))
    assert isl.max() < longest_link_km(ALTITUDE_KM)
    links = graph()
    found: list[PathRow] = []
    worst_ns = 0.0
    for row, lengths, ranges in zip(rtts, isl, ground, strict=True):
        table = forwarding(links, lengths, ranges)
        there, back = table.distance[1, SATELLITES], table.distance[0, SATELLITES + 1]
        worst_ns = max(worst_ns, abs((there + back) * 1e12 / SPEED_OF_LIGHT_M_S - row.rtt_ns))
        nodes = tuple(RENUMBERED.get(node, node) for node in table.path(SATELLITES, 1))
        if not found or nodes != found[-1].nodes:
            found.append(PathRow(row.time_ns, nodes))
    assert tuple(found) == paths
    assert worst_ns <= 1_000.0


def test_forwarding_by_hand() -> None:
    """Satellites 0 - 1 - 2 in a row; station A sees 0 and 1, station B sees 2, station C nobody."""
    row = undirected(3, [0, 1], [1, 2])
    inf = np.inf
    found = forwarding(row, [1.0, 1.0], [[1.0, 3.0, inf], [inf, inf, 2.0], [inf, inf, inf]])
    assert found.path(3, 1) == (3, 0, 1, 2, 4)  # 1 + 2 + 2 = 5; by satellite 1 it would be 3 + 1 + 2
    assert found.path(4, 0) == (4, 2, 1, 0, 3)
    assert found.distance[1, 3] == found.distance[0, 4] == 5.0
    assert found.path(5, 0) == found.path(0, 2) == ()
    assert found.next_hop[0].tolist() == [3, 0, 1, DROPPED, 2, DROPPED]
    assert found.path(3, 0) == (3,)
    changed = forwarding(row, [1.0, inf], [[1.0, 3.0, inf], [inf, inf, 2.0], [inf, inf, inf]])
    assert changed_hops(found, changed).tolist() == [
        [0, 2, DROPPED], [0, 4, DROPPED], [1, 0, DROPPED], [1, 1, DROPPED], [1, 3, DROPPED]]  # fmt: skip
    assert changed_hops(changed, changed).shape == (0, 3)
    assert changed_hops(None, found).shape == (18, 3)
    with pytest.raises(ValueError, match="two-way"):
        forwarding(directed(3, [0], [1]), [1.0], [[1.0, 1.0, 1.0]])


def test_diffs_rebuild_the_table_and_are_small() -> None:
    offset_s = np.arange(0.0, 10.0, 1.0)
    isl, ground = lengths_km(constellation(), offset_s, (MANILA, DALIAN))
    before, held = None, np.full((2, SATELLITES + 2), -2, np.int32)
    sizes = []
    for lengths, ranges in zip(isl, ground, strict=True):
        after = forwarding(graph(), lengths, ranges)
        rows = changed_hops(before, after)
        held[rows[:, 0], rows[:, 1]] = rows[:, 2]
        assert (held == after.next_hop).all()
        sizes.append(len(rows))
        before = after
    assert sizes[0] == held.size and max(sizes[1:]) < 0.02 * held.size


def test_expected_delays_for_placement() -> None:
    row = undirected(3, [0, 1], [1, 2])
    inf = np.inf
    assert path_delays(row, [1.0, 2.0]).tolist() == [[0, 1, 3], [1, 0, 2], [3, 2, 0]]
    mean = expected_path_delays(row, [[1.0, 2.0], [1.0, 4.0], [1.0, inf]])  # cut off: as far as the longest path
    assert mean.tolist() == [[0, 1, 3], [1, 0, 7 / 3], [3, 7 / 3, 0]]
    with pytest.raises(ValueError, match="at least one snapshot"):
        expected_path_delays(row, np.empty((0, 2)))
