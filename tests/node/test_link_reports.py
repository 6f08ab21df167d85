"""Link reports: what became of every frame that went out is told, also when nothing more goes out after it."""

from __future__ import annotations

from pathlib import Path

from hil_config.wire.frames import Refusal
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.messages import LinkReport
from hil_config.wire.orders import InjectFault
from tests.node.nodes import Bench, flat_schedule

PAIR = ("a", "b")
FRAME = Refusal(1 << 40, 1, 1, "x" * 60_000)
"""Half a second on the line, and of no account to whom it comes."""


def test_frames_that_an_outage_cuts_are_told_though_nothing_goes_out_any_more(reference_shards: Path) -> None:
    """The report that would have said so had no frame of its own, and was left out with its counts."""
    made = Bench(reference_shards, PAIR, schedule=flat_schedule(PAIR, 0.005, rate_bit_s=1e6))
    try:
        context = made.context("a")
        for _ in range(4):
            assert context.peers.send("b", FRAME)
        context.flush_links()
        context.inject(InjectFault(LinkFault(up=False)))  # one is on the line, three wait for it

        def told() -> list[LinkReport]:
            return [r for r in list(made.nodes["a"].records) if isinstance(r, LinkReport) and r.peer == "b"]

        assert made.wait(lambda: sum(r.cut for r in told()) == 3), told()
        context.flush_links()
        assert sum(r.frames for r in told()) == 4 and sum(sum(r.histogram) for r in told()) == 1
        assert all(5_000.0 < r.scheduled_us < 600_000.0 for r in told() if any(r.histogram))
    finally:
        made.close()
