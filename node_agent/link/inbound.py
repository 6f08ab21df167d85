"""What a peer sent, out of its envelopes: relayed frames go on, sealed ones are opened, the rest is judged."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hil_config.errors import RemoteProtocolError
from hil_config.seal import KeyRing
from hil_config.wire.frames import Frame, FrameDecoder, Hello, Relayed, Sealed
from hil_config.wire.plan import MAX_HOPS

_ENVELOPES = (Relayed, Sealed)


class Inbound:
    """Args:
    ring: opens what is sealed; with it nothing that is not sealed is taken.
    forward: passes a relayed frame to the next node of its path; False if it could not.
    refused: called with (peer that handed it over, reason) for a frame that was not taken: the first of each
        reason, and then at every tenfold of their number.
    """

    def __init__(
        self, node: str, run: str, ring: KeyRing | None, forward: Callable[[Relayed], bool],
        refused: Callable[[str, str, int], None],
    ) -> None:  # fmt: skip
        self._node = node
        self._run = run
        self._ring = ring
        self._forward = forward
        self._refused = refused
        self._lock = threading.Lock()
        self.relayed = 0
        self.refusals = 0
        self._tell_at = 1

    def take(self, peer: str, frame: Frame) -> tuple[str, Frame] | None:
        """(who made it, the frame itself), or None: passed on, or refused."""
        if self._ring is None and not isinstance(frame, _ENVELOPES):
            return peer, frame
        try:
            return self._take(peer, frame)
        except RemoteProtocolError as error:
            with self._lock:
                self.refusals += 1
                tell = self.refusals >= self._tell_at
                if tell:
                    self._tell_at *= 10
            if tell:
                self._refused(peer, error.message, self.refusals)
            return None

    def _take(self, peer: str, frame: Frame) -> tuple[str, Frame] | None:
        if isinstance(frame, Relayed):
            if not frame.path or frame.path[0] != self._node or len(frame.path) > MAX_HOPS:
                raise RemoteProtocolError(f"relayed over {frame.path}, which does not begin with {self._node!r}")
            if len(frame.path) > 1:
                if not self._forward(frame):
                    raise RemoteProtocolError(f"cannot pass a frame of {frame.source!r} on to {frame.path[1]!r}")
                with self._lock:
                    self.relayed += 1
                return None
            peer, frame = frame.source, _inner(frame)
        if isinstance(frame, Sealed):
            if self._ring is None:
                raise RemoteProtocolError(f"a sealed frame of {frame.sender!r}, but this run is in the clear")
            return frame.sender, self._ring.open(self._run, frame)
        if self._ring is not None:
            raise RemoteProtocolError(f"{type(frame).__name__} of {peer!r} is not sealed")
        return peer, frame


def _inner(frame: Relayed) -> Frame:
    """The one whole frame that was relayed."""
    decoder = FrameDecoder()
    decoder.receive(frame.payload)
    inner = decoder.next_frame()
    if inner is None or decoder.pending or isinstance(inner, (Hello, Relayed)):
        raise RemoteProtocolError(f"a relayed envelope of {frame.source!r} without one whole frame in it")
    return inner
