"""Pictures that tell changes only add up to the whole picture."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ground_controller.live import messages
from ground_controller.live.follower import Follower, Moment

if TYPE_CHECKING:
    from tests.live.conftest import Growing


class Told:
    """What a page knows: the same steps as in page/state.js."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def take(self, message: messages.Picture) -> None:
        m = json.loads(msgspec.json.encode(message))
        if m["whole"]:
            self.known = {"rows": {}, "states": {}, "links": set(), "requests": {}, "tokens": [], "events": []}
        known = self.known
        known["rows"] |= {row[0]: row for row in m.get("rows", [])}
        known["states"] |= {row[0]: row for row in m.get("states", [])}
        known["links"] = (known["links"] - set(m.get("links_off", []))) | set(m.get("links_on", []))
        known["requests"] |= {one["request"]: one for one in m.get("requests", [])}
        known["tokens"] += m.get("tokens", [])
        known["events"] += m.get("events", [])
        known["counts"] = m.get("counts") or known.get("counts")
        for key in ("scenario_s", "host_s", "tokens_per_s", "token_count", "plan_reason"):
            known[key] = m.get(key)


def test_changes_add_up(growing: Callable[[], Growing]) -> None:
    run, rng = growing(), random.Random(3)
    follower: Follower | None = None
    page, before, done, pictures = Told(), None, 0, 0
    while done < len(run):
        done = min(len(run), done + rng.randint(20, 400))
        run.grow(done)
        follower = follower or Follower.open(run.folder)
        assert follower is not None
        follower.read()
        now: Moment | None = follower.now()
        if now is None:
            continue
        change = messages.picture(now, before, "goes on", now.tick.host_s)
        assert change.whole == (before is None)
        page.take(change)
        fresh = Told()
        fresh.take(messages.picture(now, None, "goes on", now.tick.host_s))
        assert page.known == fresh.known
        before, pictures = now, pictures + 1
    assert pictures > 5
    assert follower is not None
    small = len(msgspec.json.encode(messages.picture(now, before, "goes on", 1.0)))  # type: ignore[arg-type]
    assert small < 500, "nothing has changed, and little is said"
    follower.close()


def test_curves_of_many_nodes_are_a_spread() -> None:
    values = np.array([[1.0, 3.0, 2.0], [np.nan, 5.0, 4.0], [np.nan, np.nan, np.nan]])
    least, median, most = messages._spread(values)
    np.testing.assert_array_equal(least, [1.0, 4.0, np.nan])
    np.testing.assert_array_equal(median, [2.0, 4.5, np.nan])
    np.testing.assert_array_equal(most, [3.0, 5.0, np.nan])
