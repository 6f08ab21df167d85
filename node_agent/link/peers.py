"""The peers of one run: outgoing links under the schedule, and who is reachable now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from hil_config.clock import Clock
from hil_config.errors import ConfigError
from hil_config.wire.frames import Frame, Hello, encode_frame
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.messages import LinkReport, Prepare
from hil_config.wire.schedule_file import LinkSchedule, LinkState
from node_agent.crew import Crew
from node_agent.link.outgoing import UNSHAPED, OutgoingLink
from node_agent.link.security import CLEAR, Security


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"peer address {address!r}: wanted host:port")
    return host, int(port)


FRESH_S = 0.01
"""Host seconds a looked-up link state is used for."""


class Peers:
    """Outgoing links of this node in one run.

    `lost` is called with (peer, reason) when a peer's connection breaks. A lost peer is tried again by
    `heal`, and counts as reachable once a connection stands.
    """

    def __init__(
        self,
        node: str,
        boot_id: str,
        order: Prepare,
        schedule: LinkSchedule,
        clock: Callable[[], Clock],
        lost: Callable[[str, str], None],
        security: Security = CLEAR,
    ) -> None:
        self.node = node
        self._satellites = order.satellites
        self._schedule = schedule
        self._clock = clock
        self._delay_scale = order.delay_scale
        self._codec: Codec = order.hidden_codec
        self._report_lost = lost
        self._lock = threading.Lock()
        self._gone: set[str] = set()
        self._known: dict[tuple[str, str], tuple[float, LinkState]] = {}
        hello = encode_frame(Hello(node, order.run, boot_id))
        self._links = {
            peer.name: OutgoingLink(
                peer.name, _split(peer.address), hello, partial(self.state, peer.name), self.lost, security.dial
            )
            for peer in order.peers
            if peer.name != node
        }

    def start(self, crew: Crew) -> None:
        for link in self._links.values():
            crew.start(f"link-{link.peer}", link.work)
        crew.start("heal", lambda: self._heal(crew))

    def state(self, peer: str) -> LinkState:
        """The scheduled state of the link to `peer` now; peers without a satellite have a plain link."""
        return self._scheduled(self.node, peer)

    def _scheduled(self, source: str, target: str) -> LinkState:
        """Looked up at most every `FRESH_S`: a delay moves by 25 us in a second at the very most."""
        now_s = time.monotonic()
        known = self._known.get((source, target))
        if known is not None and now_s - known[0] < FRESH_S:
            return known[1]
        state = self._look_up(source, target)
        self._known[source, target] = (now_s, state)
        return state

    def _look_up(self, source: str, target: str) -> LinkState:
        a, b = self._satellites.get(source), self._satellites.get(target)
        if a is None or b is None:
            return UNSHAPED
        link = self._schedule.link(a, b, self._clock().now())
        return link._replace(delay_s=link.delay_s * self._delay_scale)

    def reachable(self, peer: str) -> bool:
        """True for ourselves, and for a peer that is not lost and has its link up both ways now."""
        if peer == self.node:
            return True
        if peer in self._gone or peer not in self._links:
            return False
        return self._scheduled(self.node, peer).up and self._scheduled(peer, self.node).up

    def round_trip_s(self, peer: str) -> float:
        """Scheduled delay both ways now, 0 for ourselves."""
        if peer == self.node:
            return 0.0
        return self._scheduled(self.node, peer).delay_s + self._scheduled(peer, self.node).delay_s

    def send(self, peer: str, frame: Frame) -> bool:
        """False when it could not be sent: link down, queue full, or peer lost."""
        link = self._links.get(peer)
        return link is not None and link.send(encode_frame(frame, self._codec))

    def lost(self, peer: str, reason: str) -> None:
        """A connection to or from `peer` broke."""
        with self._lock:
            if peer not in self._links or peer in self._gone:
                return
            self._gone.add(peer)
        self._links[peer].peer_gone()
        self._report_lost(peer, reason)

    def returned(self, peer: str) -> None:
        """`peer` opened a connection to us: it is worth trying again."""
        link = self._links.get(peer)
        if link is not None and link.probe():
            with self._lock:
                self._gone.discard(peer)

    def _heal(self, crew: Crew) -> None:
        while not crew.stopping.wait(1.0):
            for peer in sorted(self._gone):
                self.returned(peer)

    def reports(self) -> list[LinkReport]:
        """What went out to each peer since the last call, peers with traffic only."""
        reports = []
        for peer, link in self._links.items():
            count = link.take_count()
            if not count.frames and not count.refused:
                continue
            errors = sorted(count.errors_us) or [0.0]
            quantiles = tuple(errors[min(len(errors) - 1, int(q * len(errors)))] for q in (0.5, 0.99, 1.0))
            mean_us = count.scheduled_s / max(1, count.frames) * 1e6
            reports.append(
                LinkReport(
                    peer, time.monotonic_ns(), count.frames, count.bytes, count.refused, mean_us,
                    (quantiles[0], quantiles[1], quantiles[2]),
                )
            )  # fmt: skip
        return reports

    def close(self) -> None:
        for link in self._links.values():
            link.close()
