"""Paths between mapped nodes, read out of trees: what they cost, how they are numbered, compiled or not."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np

from ground_controller.orbit.reduction import Reduced, Reduction
from ground_controller.orbit.topology import Edges
from ground_controller.orbit.visibility import delay_s

NODES, SATELLITES = 14, 12  # the last two are stations
MAPPED = np.array([7, 2, 12, 9, 4, 13])


Links = dict[tuple[int, int], tuple[float, float]]


def reduced(seed: int, relay: bool = True) -> tuple[Reduced, tuple[int, ...], list[Links]]:
    """Six instants of a random sparse graph whose links come and go; and each instant's links."""
    chance = np.random.default_rng(seed)
    a, b = np.triu_indices(NODES, 1)
    flying = a < SATELLITES
    a, b = a[flying], b[flying]
    some = chance.random(a.size) < 0.35
    a, b = a[some], b[some]
    reduction, links = Reduction(SATELLITES, NODES, MAPPED, 0.1, relay), []
    for _ in range(6):
        up = chance.random(a.size) < 0.85
        km, rate = chance.uniform(500.0, 4_000.0, up.sum()), chance.choice([1e6, 5e6, 2e7], up.sum())
        edges = Edges(a[up], b[up], km)
        reduction.add(edges, rate)
        ends = list(zip(edges.a.tolist(), edges.b.tolist(), strict=True))
        links.append(dict(zip(ends, zip(delay_s(km).tolist(), rate.tolist(), strict=True), strict=True)))
    return reduction.finish(), reduction.nodes, links


def test_routes_lead_over_links_that_stand_and_cost_what_is_said() -> None:
    pairs = [(a, b) for a in MAPPED.tolist() for b in MAPPED.tolist() if a != b]
    longest = again = 0
    for seed in range(12):
        for relay in (True, False):
            found, nodes, links = reduced(seed, relay)
            assert nodes[: MAPPED.size] == tuple(MAPPED.tolist())
            first, node = found.routes
            table = [tuple(nodes[n] for n in node[x:y].tolist()) for x, y in pairwise(first)]
            assert table[0] == () and len(set(table)) == len(table)
            for n, standing in enumerate(links):
                for column, (a, b) in enumerate(pairs):
                    route = table[int(found.route[n, column])]
                    if not found.up[n, column]:
                        assert route == () and found.delay_s[n, column] == 0.0
                        continue
                    hops = [standing[min(x, y), max(x, y)] for x, y in pairwise(route)]
                    assert (route[0], route[-1]) == (a, b) and len(hops) == found.hops[n, column]
                    assert all(x < SATELLITES for x in route[1:-1])
                    assert found.rate_bit_s[n, column] == min(rate for _, rate in hops)
                    np.testing.assert_allclose(found.delay_s[n, column], sum(one for one, _ in hops), rtol=1e-12)
                    assert table[int(found.route[n, pairs.index((b, a))])] == route[::-1]
                    longest = max(longest, len(hops))
                    again += n > 0 and found.route[n, column] == found.route[n - 1, column]
    assert longest > 2 and again > 100


def test_compiled_and_plain_agree_to_the_bit() -> None:
    script = (
        "import hashlib, sys; sys.path.insert(0, 'tests/orbit'); from test_reduction import reduced\n"
        "h = hashlib.sha256()\n"
        "for seed in range(4):\n"
        "    found, nodes, _ = reduced(seed)\n"
        "    for part in (*found[:6], *found.routes): h.update(part.tobytes())\n"
        "    h.update(repr(nodes).encode())\n"
        "print(h.hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "HIL_COMPILED": choice}, capture_output=True, text=True,
            check=True,
        ).stdout
        for choice in ("0", "1")
    }  # fmt: skip
    assert len(said) == 1 and len(said.pop().strip()) == 64
