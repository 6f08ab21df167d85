"""A folder with an image, a card that is a file, and a flash in one call."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from firmware_tools.flash.disk import System
from firmware_tools.flash.job import Job, Order, Receipt
from firmware_tools.state import State
from hil_config.schema.hardware import Disk

BLOCK = 64 << 10
SIZE = 40 * BLOCK + 512 * 3


class Bench(NamedTuple):
    """A folder with an image and a card that is a file."""

    folder: Path
    image: Path
    card: Path
    state: State

    def job(self, source: Path | str | None = None, size_gb: float | None = None, **order: object) -> Job:
        disk = Disk(file=str(self.card), size_gb=size_gb)
        wanted = Order(str(source or self.image), **order)  # type: ignore[arg-type]
        return Job("alpha", disk, 1 << 40, wanted, self.state, System(), BLOCK)

    def flash(self, source: Path | str | None = None, size_gb: float | None = None, **order: object) -> Receipt:
        job = self.job(source, size_gb, **order)
        return job.run(job.plan(), lambda *_: None)[0]

    def receipts(self) -> list[Path]:
        return sorted((self.state.folder / "receipts").glob("*.json"))
