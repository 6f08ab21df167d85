"""The peers of one run: outgoing links under the schedule, and who is reachable now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from hil_config.clock import Clock
from hil_config.errors import ConfigError
from hil_config.path import quickest_path
from hil_config.seal import KeyRing
from hil_config.wire.frames import Frame, Hello, Relayed, encode_frame
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.link_fault import LinkFault, faulted
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import LinkState
from hil_config.wire.messages import LinkReport
from hil_config.wire.orders import Prepare
from hil_config.wire.plan import SelectionPlan
from node_agent.crew import Crew
from node_agent.link.frame_log import open_frame_log
from node_agent.link.netem import Netem, Target
from node_agent.link.outgoing import UNSHAPED, OutgoingLink, split_address
from node_agent.link.security import CLEAR, Security

FRESH_S = 0.01
"""Host seconds a looked-up link state is used for."""

PATH_FRESH_S = 0.1
NETEM_S = 0.1


class Peers:
    """Outgoing links of this node in one run. Where the order says so, frames are sealed, and a peer whose link is
    down is reached over others.

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
        frame_log: str = "",
        data_interface: str = "",
    ) -> None:
        self.node = node
        self._log = open_frame_log(frame_log, order.run, node)
        self._satellites = order.satellites
        self._schedule = schedule
        self._clock = clock
        self._delay_scale = order.delay_scale
        self._run = order.run
        self._codecs: dict[str, Codec] = {
            p.name: order.link_codecs.get(p.name, order.hidden_codec) for p in order.peers
        }
        self._relay = order.relay
        self._routed = order.routed
        self._ways: dict[tuple[str, str], tuple[str, ...]] = {}
        self._loads: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {}
        self._paths: dict[tuple[str, str], tuple[float, tuple[tuple[str, ...], float] | None]] = {}
        self._ring = self._meet(order, security.ring) if order.sealed else None
        self._rate_scale = order.rate_scale
        self._faults: tuple[LinkFault, ...] = ()
        self._report_lost = lost
        self._lock = threading.Lock()
        self._gone: set[str] = set()
        self._known: dict[tuple[str, str], tuple[float, LinkState]] = {}
        self._changes = object()
        """Another one after each change of who is reachable."""
        self._up: tuple[tuple[str, ...], object, float, bytes] = (), None, 0.0, b""
        """What `reachable_of` said last: of whom, after which change, and until when it holds."""
        self._around: dict[str, tuple[float, bool, float]] = {}
        """Peer -> when looked up, is there a way there and back, and its scheduled delay."""
        hello = encode_frame(Hello(node, order.run, boot_id, offer=self._ring.offer if self._ring else b""))
        self._netem = self._kernel(order, data_interface) if data_interface else None
        shape = self.state if self._netem is None else self._open_state
        self._links = {
            peer.name: OutgoingLink(
                peer.name,
                split_address(peer.address),
                hello,
                partial(shape, peer.name),
                self.lost,
                security.dial,
                f"{order.seed} {node} {peer.name}",
                order.jitter_s,
                self._log,
            )
            for peer in order.peers
            if peer.name != node
        }

    def _meet(self, order: Prepare, ring: KeyRing | None) -> KeyRing:
        """The ring once it knows every peer's offer."""
        if ring is None:
            raise ConfigError(
                f"{self.node}: the run wants sealed frames, but this node has no certificate",
                "enrol the board, and name its certificates under tls in its configuration",
            )
        for peer in order.peers:
            if peer.name != self.node and ring.meet(order.run, peer.offer, newest=False) != peer.name:
                raise ConfigError(f"{self.node}: the offer handed out for {peer.name!r} is another's", "run it again")
        return ring

    def _kernel(self, order: Prepare, interface: str) -> Netem:
        """The kernel's shaper for the peers with a satellite."""
        if order.jitter_s > 0.0:
            raise ConfigError(
                "jitter_s with data_interface: the kernel's jitter reorders, so it is not used here",
                "leave one of the two out",
            )
        targets = {p.name: Target(*split_address(p.address)) for p in order.peers if p.name in self._satellites}
        targets.pop(self.node, None)
        return Netem(interface, targets)

    def _open_state(self, peer: str) -> LinkState:
        """The link as our own shaper sees it where the kernel does the work: up or down, and nothing more."""
        return UNSHAPED._replace(up=self.state(peer).up)

    def _keep_kernel(self, netem: Netem, crew: Crew) -> None:
        while not crew.stopping.wait(NETEM_S):
            netem.apply({peer: self.state(peer) for peer in self._links if peer in self._satellites})

    @property
    def ring(self) -> KeyRing | None:
        """The keys of a run with sealed frames."""
        return self._ring

    def start(self, crew: Crew) -> None:
        if self._netem is not None:
            netem = self._netem
            netem.start()
            crew.start("netem", lambda: self._keep_kernel(netem, crew))
        for link in self._links.values():
            crew.start(f"link-{link.peer}", link.work)
        crew.start("heal", lambda: self._heal(crew))

    @property
    def codecs(self) -> frozenset[Codec]:
        """In which hidden states leave this node."""
        return frozenset(self._codecs.values())

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
        now_s = self._clock().now()
        link = faulted(self._schedule.link(a, b, now_s), a, b, now_s, self._faults)
        rate = link.rate_bit_s * self._rate_scale
        for begins_s, ends_s, share in self._loads.get((source, target), ()):
            if begins_s <= now_s < ends_s:
                rate *= 1.0 - share
        return link._replace(delay_s=link.delay_s * self._delay_scale, rate_bit_s=rate)

    def take_plan(self, plan: SelectionPlan) -> None:
        """The ways of frames from now on, and what else links carry."""
        names = plan.nodes
        if self._routed:
            self._ways = {
                (names[way[0]], names[way[-1]]): tuple(names[n] for n in way[1:]) for way in plan.routes
            }  # fmt: skip
        loads: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {}
        for load in plan.loads:
            pair = names[load.source], names[load.target]
            loads[pair] = (*loads.get(pair, ()), (load.start_s, load.end_s, load.share))
        self._loads = loads
        self._changes = object()
        self._around.clear()

    def _way(self, source: str, target: str) -> tuple[str, ...] | None:
        """The nodes after `source` that the plan sends frames over, if every link of the way is up now."""
        way = self._ways.get((source, target))
        if way is None:
            return None
        return way if all(self._scheduled(a, b).up for a, b in pairwise((source, *way))) else None

    def inject(self, fault: LinkFault) -> None:
        """A fault over the schedule, after those there are."""
        self._faults = (*self._faults, fault)
        self.forget()

    def forget(self) -> None:
        """Look every link up anew: time has jumped, or a fault has come."""
        self._known.clear()
        self._paths.clear()
        self._changes = object()
        self._around.clear()

    def reachable(self, peer: str) -> bool:
        """True for ourselves, and for a peer that is not lost and has a way there and back now."""
        return bool(self.reachable_of((peer,), time.monotonic())[0])

    def reachable_of(self, peers: tuple[str, ...], now_s: float) -> bytes:
        """`reachable` of each at this host second, a byte each."""
        names, changes, until_s, up = self._up
        if names is peers and changes is self._changes and now_s < until_s:
            return up
        changes, until_s, found = self._changes, float("inf"), bytearray()
        for peer in peers:
            there = peer == self.node
            if not there and peer in self._links and peer not in self._gone:
                looked_s, there, _ = self._there_and_back(peer, now_s)
                until_s = min(until_s, looked_s + FRESH_S)
            found.append(there)
        self._up = peers, changes, until_s, (up := bytes(found))
        return up

    def round_trip_s(self, peer: str) -> float:
        """Scheduled delay both ways now, 0 for ourselves."""
        return 0.0 if peer == self.node else self._there_and_back(peer, time.monotonic())[2]

    def _there_and_back(self, peer: str, now_s: float) -> tuple[float, bool, float]:
        """As `_around` has it, looked up at most every `FRESH_S`: a decoded token asks some dozens of times."""
        known = self._around.get(peer)
        if known is not None and now_s - known[0] < FRESH_S:
            return known
        here = self.node
        if here not in self._satellites or peer not in self._satellites:  # not in the orbit: always there, no delay
            known = self._around[peer] = float("inf"), True, 0.0
            return known
        direct = all(self._scheduled(*p).up or self._way(*p) is not None for p in ((here, peer), (peer, here)))
        way = direct or (self._path(here, peer) is not None and self._path(peer, here) is not None)
        known = self._around[peer] = now_s, way, self._delay_s(here, peer) + self._delay_s(peer, here)
        return known

    def _delay_s(self, source: str, target: str) -> float:
        way = self._way(source, target) if self._ways else None
        if way is not None:
            return sum(self._scheduled(a, b).delay_s for a, b in pairwise((source, *way)))
        state = self._scheduled(source, target)
        path = None if state.up else self._path(source, target)
        return state.delay_s if path is None else path[1]

    def _path(self, source: str, target: str) -> tuple[tuple[str, ...], float] | None:
        """Over other nodes, where the run allows it; found anew ten times a second."""
        if not self._relay or source not in self._satellites or target not in self._satellites:
            return None
        now_s = time.monotonic()
        known = self._paths.get((source, target))
        if known is None or now_s - known[0] >= PATH_FRESH_S:
            nodes = [node for node in self._satellites if node not in self._gone]
            known = now_s, quickest_path(source, target, nodes, self._scheduled)
            self._paths[source, target] = known
        return known[1]

    def send(self, peer: str, frame: Frame, codec: Codec | None = None) -> bool:
        """False when it could not be sent: no link up, queue full, or peer lost. `codec`: other than the link's own."""
        link = self._links.get(peer)
        if link is None:
            return False
        codec = codec or self._codecs[peer]
        data = encode_frame(frame, codec) if self._ring is None else self._ring.seal(self._run, peer, frame, codec)
        way = self._way(self.node, peer) if self._ways else None
        if way is not None:
            return self._links[way[0]].send(encode_frame(Relayed(self.node, way, data)))
        if self._relay and not self.state(peer).up:
            path = self._path(self.node, peer)
            if path is not None:
                return self._links[path[0][0]].send(encode_frame(Relayed(self.node, path[0], data)))
        return link.send(data)

    def forward(self, frame: Relayed) -> bool:
        """Pass a frame to the next node of its path, under that link's shaper."""
        link = self._links.get(frame.path[1])
        rest = Relayed(frame.source, frame.path[1:], frame.payload)
        return (self._relay or self._routed) and link is not None and link.send(encode_frame(rest))

    def lost(self, peer: str, reason: str) -> None:
        """A connection to or from `peer` broke."""
        with self._lock:
            if peer not in self._links or peer in self._gone:
                return
            self._gone.add(peer)
            self._changes = object()
        self._links[peer].peer_gone()
        self._report_lost(peer, reason)

    def cut(self, revoked: frozenset[int]) -> None:
        """Let go of the peers that showed one of these certificates."""
        for peer, link in self._links.items():
            if link.serial in revoked:
                self.lost(peer, "its certificate was revoked")

    def returned(self, peer: str) -> None:
        """`peer` opened a connection to us: it is worth trying again."""
        link = self._links.get(peer)
        if link is not None and link.probe():
            with self._lock:
                self._gone.discard(peer)
                self._changes = object()

    def _heal(self, crew: Crew) -> None:
        while not crew.stopping.wait(1.0):
            for peer in sorted(self._gone):
                self.returned(peer)

    def reports(self) -> list[LinkReport]:
        """What went out to each peer since the last call, and what became of that and of earlier frames; peers with
        any of it only."""
        reports = []
        for peer, link in self._links.items():
            count = link.take_count()
            arrived = sum(count.histogram)
            if not (count.frames or count.refused or count.lost or count.cut or arrived):
                continue
            errors = sorted(count.errors_us) or [0.0]
            quantiles = tuple(errors[min(len(errors) - 1, int(q * len(errors)))] for q in (0.5, 0.99, 1.0))
            mean_us = count.scheduled_s / max(1, count.frames - count.lost, arrived) * 1e6
            reports.append(
                LinkReport(
                    peer, time.monotonic_ns(), count.frames, count.bytes, count.refused, mean_us,
                    (quantiles[0], quantiles[1], quantiles[2]), tuple(count.histogram), count.lost, count.cut,
                )
            )  # fmt: skip
        return reports

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        if self._log is not None:
            self._log.close()
        if self._netem is not None:
            self._netem.stop()
