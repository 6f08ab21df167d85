"""Take every number once: the sliding window of RFC 4303 (3.4.3), for sealed frames and signed orders."""

from __future__ import annotations

WINDOW = 4096


class ReplayWindow:
    """Which of the last `WINDOW` sequence numbers have been seen."""

    def __init__(self) -> None:
        self._top = 0
        self._seen = 0  # bit i: top - i

    def fresh(self, seq: int) -> bool:
        """Whether `seq` has not been seen and is not too old to tell."""
        if seq > self._top:
            return True
        age = self._top - seq
        return age < WINDOW and not self._seen >> age & 1

    def mark(self, seq: int) -> bool:
        """Take `seq` as seen; False if it was not fresh."""
        if not self.fresh(seq):
            return False
        if seq > self._top:
            self._seen = (self._seen << min(seq - self._top, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._top = seq
        else:
            self._seen |= 1 << (self._top - seq)
        return True
