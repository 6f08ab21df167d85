"""Where a decoded token's time goes, from what its gateways recorded and when it came to the client.

Parts add up to the whole by construction: what no part explains has a name of its own. `gateway: rest` is the time of a
step that no clock inside it saw (waiting for a turn, Python); `overlap`, never positive, is what was counted twice
because it ran side by side; `hand-over` is the client's time between tokens less that of all its steps: the frames from
gateway to gateway, and waiting there.
"""

from __future__ import annotations

from typing import Any

import msgspec

STEP_PARTS = {
    "gateway: trunk": "trunk_us", "gateway: head": "head_us", "serialise": "serialise_us", "link": "link_us",
    "queue": "queue_us", "expert": "expert_us", "combine": "combine_us",
}  # fmt: skip
"""Parts of a step by the column of the table `steps` that holds them. `link`, `queue` and `expert` are those of the
host that answered last."""
MEANING = {
    "gateway: trunk": "attention and router, in onnxruntime",
    "gateway: head": "choice of the token, in onnxruntime",
    "gateway: rest": "waiting for a turn, and Python",
    "serialise": "writing the calls to the hosts",
    "link": "calls and replies under way, of the host that answered last in each layer",
    "queue": "waiting at that host",
    "expert": "experts there",
    "combine": "gate and sum of the answers",
    "overlap": "counted twice above: parts that ran side by side",
    "hand-over": "from gateway to gateway and back to the first, and waiting there",
}


class Waterfall(msgspec.Struct, frozen=True):
    """Mean milliseconds by part of `tokens` decoded tokens; they add up to `whole_ms`.

    `left_out`: decoded tokens that have no full record of their steps (a new attempt, a node that died).
    """

    parts_ms: dict[str, float]
    whole_ms: float
    tokens: int
    left_out: int


def waterfall(tokens: dict[str, list[Any]], steps: dict[str, list[Any]], layers: int) -> Waterfall:
    """From the tables of these names by column.

    Args:
        layers: of the model; a token counts when its steps cover them all.
    """
    sums = dict.fromkeys((*MEANING,), 0.0)
    by_token: dict[tuple[int, int, int], list[int]] = {}
    for i, rows in enumerate(steps["rows"]):
        if rows == 1:
            key = (steps["request"][i], steps["attempt"][i], steps["start"][i] + 1)
            by_token.setdefault(key, []).append(i)
    count = left_out = 0
    whole_us = 0.0
    keys = zip(tokens["request"], tokens["attempt"], tokens["position"], strict=True)
    for key, first, since_us in zip(keys, tokens["first"], tokens["since_us"], strict=True):
        if first:
            continue
        found = by_token.get(key, [])
        if sum(steps["layers"][i] for i in found) != layers:
            left_out += 1
            continue
        count += 1
        whole_us += since_us
        sums["hand-over"] += since_us - sum(steps["total_us"][i] for i in found)
        for i in found:
            rest = steps["total_us"][i]
            for part, column in STEP_PARTS.items():
                sums[part] += steps[column][i]
                rest -= steps[column][i]
            sums["gateway: rest" if rest >= 0.0 else "overlap"] += rest
    if not count:
        return Waterfall({}, 0.0, 0, left_out)
    parts = {part: sums[part] / count / 1e3 for part in MEANING}
    return Waterfall(parts, whole_us / count / 1e3, count, left_out)
