"""A generation's attempts: when a client begins it again, on boards and in simulation by the same rules. No clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hil_config.wire.frame_types import NO_LINK

PAUSE_S = (0.05, 2.0)
"""The first and the longest pause between attempts of a request that finds no way."""

UNREACHABLE = "cannot be reached"
"""How the trouble ends of a request whose first gateway takes no connection."""

Avoid = frozenset[str | tuple[str, str]]
"""Gateways, and ways from one gateway to another."""
Routes = Callable[[Avoid], tuple[str, ...] | None]
"""The best gateways now, avoiding some; None when there are none."""


@dataclass(kw_only=True)
class Attempts:
    """One generation under way. Times in seconds of the client's clock."""

    id: int
    want: int
    tokens: list[int] = field(default_factory=list)
    attempt: int = 0
    route: tuple[str, ...] = ()
    progress_s: float
    last_token_s: float
    next_try_s: float = 0.0
    pause_s: float = 0.0
    trouble: str = ""
    re_prefilled: bool = False
    cut: Avoid = frozenset()

    def wait(self, trouble: str, now_s: float) -> None:
        """Try again after a pause that doubles while the trouble lasts."""
        self.pause_s = min(PAUSE_S[1], 2.0 * self.pause_s or PAUSE_S[0])
        self.trouble, self.next_try_s = trouble, now_s + self.pause_s
        source, said, target = trouble.partition(f": {NO_LINK} ")
        if said:
            self.cut |= {(source, target)}

    def due(self, now_s: float, timeout_s: float) -> str:
        """Why a new attempt is to be made now, or ""."""
        if self.trouble:
            return self.trouble if now_s >= self.next_try_s else ""
        return f"no token for {timeout_s:g} s" if now_s - self.progress_s > timeout_s else ""

    def avoid(self, reason: str) -> Avoid:
        """What a new attempt for `reason` had better not use: gateways that were silent, or not to be reached; ways
        over which none was since the last token, whatever the schedule says."""
        if reason.startswith("no token"):
            return self.cut.union(self.route)
        return self.cut.union(self.route[:1]) if reason.endswith(UNREACHABLE) else self.cut

    def begin(self, route: tuple[str, ...], now_s: float) -> float:
        """A new attempt over `route`; the microseconds since the last sign of progress."""
        self.attempt += 1
        self.route, self.trouble, self.re_prefilled = route, "", self.attempt > 1
        waited_us = (now_s - self.progress_s) * 1e6
        self.progress_s = now_s
        return waited_us

    def progressed(self, now_s: float) -> None:
        """A token came."""
        self.re_prefilled, self.cut = False, frozenset()
        self.progress_s = self.last_token_s = now_s
        self.pause_s = 0.0
