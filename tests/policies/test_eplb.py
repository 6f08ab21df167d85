from __future__ import annotations

import pytest

from ground_controller.policies.eplb import pack, replicas

# The example of github.com/deepseek-ai/EPLB (README): 12 experts in 4 groups, 16 copies on 8 GPUs of 2 nodes.
LOADS = (
    (90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86),
    (20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27),
)
PUBLISHED = (
    (5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1),
    (7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1),
)


@pytest.mark.parametrize(("load", "published"), list(zip(LOADS, PUBLISHED, strict=True)))
def test_the_published_example(load: tuple[int, ...], published: tuple[int, ...]) -> None:
    """Groups to nodes, copies within a node, copies to its GPUs: each step by our two functions."""
    groups = [float(sum(load[3 * g : 3 * g + 3])) for g in range(4)]
    of_group = pack(groups, [1] * 4, [2, 2], [0.0, 0.0])
    found: list[list[int]] = []
    for node in (0, 1):
        experts = [3 * g + i for g in range(4) if of_group[g] == [node] for i in range(3)]
        local = [float(load[e]) for e in experts]
        held = pack(local, replicas(local, 8, 8), [2] * 4, [0.0] * 4)
        found += [sorted(e for e, nodes in zip(experts, held, strict=True) if gpu in nodes) for gpu in range(4)]
    assert sorted(found) == sorted(sorted(published[2 * gpu : 2 * gpu + 2]) for gpu in range(8))


def test_copies_go_to_the_largest_load_a_copy() -> None:
    assert replicas([9.0, 4.0, 1.0], 6, 9) == [3, 2, 1]
    assert replicas([9.0, 4.0, 1.0], 6, 2) == [2, 2, 2]
    assert replicas([1.0, 1.0], 2, 5) == [1, 1]
