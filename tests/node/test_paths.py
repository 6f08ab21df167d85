"""The quickest path over links that are up."""

from __future__ import annotations

import itertools
import random

from hil_config.path import quickest_path
from hil_config.wire.link_state import DOWN, LinkState
from hil_config.wire.plan import MAX_HOPS

Delays = dict[tuple[str, str], float]


def _find(delays: Delays, source: str, target: str, nodes: str) -> tuple[tuple[str, ...], float] | None:
    def link(a: str, b: str) -> LinkState:
        return LinkState(delays[a, b], 1e6, 0.0, True) if (a, b) in delays else DOWN

    return quickest_path(source, target, nodes, link)


def test_it_is_the_best_of_all_paths_in_random_networks() -> None:
    chance = random.Random(3)
    found = 0
    for _ in range(150):
        nodes = "abcdef"[: chance.randint(2, 6)]
        pairs = list(itertools.permutations(nodes, 2))
        delays = {pair: float(chance.randint(1, 9)) for pair in pairs if chance.random() < 0.4}
        best = None
        for n in range(len(nodes) - 1):
            for middle in itertools.permutations(set(nodes) - {"a", "b"}, n):
                hops = list(itertools.pairwise(("a", *middle, "b")))
                if all(hop in delays for hop in hops):
                    total = sum(delays[hop] for hop in hops)
                    best = total if best is None else min(best, total)
        got = _find(delays, "a", "b", nodes)
        assert (got and got[1]) == best
        if got is not None:
            found += 1
            assert sum(delays[hop] for hop in itertools.pairwise(("a", *got[0]))) == got[1]
    assert found > 50


def test_equals_are_settled_by_hops_and_then_by_name() -> None:
    delays = {("a", "b"): 4.0, ("a", "c"): 2.0, ("c", "b"): 2.0, ("a", "d"): 1.0, ("d", "b"): 1.0, ("a", "e"): 1.0}
    delays["e", "b"] = 1.0
    assert _find(delays, "a", "b", "abcde") == (("d", "b"), 2.0)
    assert _find({("a", "b"): 4.0, ("a", "c"): 2.0, ("c", "b"): 2.0}, "a", "b", "abc") == (("b",), 4.0)


def test_a_path_has_a_bounded_number_of_hops() -> None:
    names = "abcdefghijkl"
    chain = dict.fromkeys(itertools.pairwise(names), 1.0)
    assert _find(chain, "a", names[MAX_HOPS], names) == (tuple(names[1 : MAX_HOPS + 1]), float(MAX_HOPS))
    assert _find(chain, "a", names[MAX_HOPS + 1], names) is None
