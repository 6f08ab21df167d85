from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ground_controller.orbit.topology import LinkRule, edges, survives
from ground_controller.orbit.walker import WalkerShell
from hil_config.errors import ConfigError

SHELL = WalkerShell(550.0, 53.0, 24, 22, phasing=11)
TIME = np.array([0.0, 600.0])
STATES = SHELL.states(TIME)


def test_all_in_range_contains_the_nearest_and_the_grid() -> None:
    every = next(edges(LinkRule("in_range", max_range_km=4_000.0), None, *STATES, TIME))
    near = next(edges(LinkRule("nearest", 4, max_range_km=4_000.0), None, *STATES, TIME))
    grid = next(edges(LinkRule("grid", max_range_km=4_000.0), SHELL.grid(), *STATES, TIME))
    known = set(zip(every.a.tolist(), every.b.tolist(), strict=True))
    assert (every.a < every.b).all() and every.distance_km.max() <= 4_000.0
    for part in (near, grid):
        assert set(zip(part.a.tolist(), part.b.tolist(), strict=True)) <= known
    assert grid.a.size == 2 * SHELL.count


def test_nearest_gives_nobody_more_links_than_terminals() -> None:
    every = next(edges(LinkRule("in_range"), None, *STATES, TIME))
    for terminals in (1, 3, 4):
        found = next(edges(LinkRule("nearest", terminals), None, *STATES, TIME))
        used = np.bincount(np.r_[found.a, found.b], minlength=SHELL.count)
        assert used.max() == terminals
        # A link is missing only because one end is full of shorter ones.
        kept = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
        longest = np.zeros(SHELL.count)
        for a, b, d in zip(*found, strict=True):
            longest[[a, b]] = np.maximum(longest[[a, b]], d)
        for a, b, d in zip(*(part[::97] for part in every), strict=True):
            if (a, b) not in kept:
                assert any(used[end] == terminals and longest[end] <= d for end in (a, b))


def test_a_terminal_follows_no_faster_line_of_sight() -> None:
    free = next(edges(LinkRule("in_range"), None, *STATES, TIME))
    slow = next(edges(LinkRule("in_range", max_turn_deg_s=0.063), None, *STATES, TIME))
    slower = next(edges(LinkRule("in_range", max_turn_deg_s=1e-9), None, *STATES, TIME))
    assert 0 < slow.a.size < free.a.size
    # in plane the line turns once an orbit: 0.0627 degrees a second
    same = np.array([a // 22 == b // 22 for a, b in zip(slow.a, slow.b, strict=True)])
    assert same.any()
    assert slower.a.size == 0


def test_survival_is_a_draw_of_the_pair_and_the_seed_alone() -> None:
    a, b = np.triu_indices(300, 1)
    rule = LinkRule(survival=0.95, seed=7)
    alive = survives(rule, a, b, 0.0)
    assert alive.mean() == pytest.approx(0.95, abs=0.005)
    assert (survives(rule, b[:50], a[:50], 1e6) == alive[:50]).all()
    assert (survives(replace(rule, seed=8), a, b, 0.0) != alive).any()
    anew = replace(rule, redraw_s=60.0)
    assert (survives(anew, a, b, 0.0) == survives(anew, a, b, 59.9)).all()
    assert (survives(anew, a, b, 60.0) != survives(anew, a, b, 0.0)).any()
    both = survives(anew, a, b, 0.0) & survives(anew, a, b, 60.0)
    assert both.mean() == pytest.approx(0.95**2, abs=0.005)
    assert (
        survives(replace(rule, survival=1.0), a, b, 0.0).all()
        and not survives(replace(rule, survival=0.0), a, b, 0.0).any()
    )


@pytest.mark.parametrize(
    "values", [{"rule": "x"}, {"neighbours": 0}, {"survival": 1.1}, {"max_turn_deg_s": 0.0}, {"redraw_s": float("nan")}]
)
def test_rules_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="isl"):
        LinkRule(**values)  # type: ignore[arg-type]
