"""Flash one board: find its disk, refuse what must be refused, write, and leave a receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from firmware_tools.flash import bmap
from firmware_tools.flash.device import Target
from firmware_tools.flash.disk import DiskName, FoundDisk, System, find_disk
from firmware_tools.flash.guard import check_fits, check_not_image, check_target
from firmware_tools.flash.image import BLOCK, Facts, Image, check_sha256
from firmware_tools.flash.write import Progress, Written, write_image
from firmware_tools.state import State, utc_now
from hil_config.errors import ArtefactError, ConfigError, SafetyRefusal, UsageError


class Partial(msgspec.Struct, frozen=True):
    """How far a disk is known to be good; kept until a receipt is written."""

    disk: str
    sha256: str
    good_to: int


class Receipt(msgspec.Struct, frozen=True):
    """Proof of one flash. There is none unless what was read back is what was sent."""

    kind: str
    board: str
    disk: FoundDisk
    disk_id: str
    image: str
    bmap_sha256: str
    result: Written
    begun: str
    ended: str
    verified: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What would be written where; nothing has been touched yet."""

    board: str
    disk: FoundDisk
    disk_id: str
    image: str
    packing: str
    size: int | None
    sha256: str
    bytes_to_write: int | None
    resumes_at: int
    bmap: str = ""


class Order(msgspec.Struct, frozen=True):
    """What a person asked for."""

    source: str
    sha256: str = ""
    bmap: str = ""
    use_bmap: bool = True


class Job:
    """One board's flash. Args: `disk` and `max_bytes` are from the bench file."""

    def __init__(
        self, board: str, disk: DiskName, max_bytes: int, order: Order, state: State, system: System, block: int = BLOCK
    ) -> None:
        self.board = board
        self._name = disk
        self._max = max_bytes
        self._order = order
        self._state = state
        self._system = system
        self._block = block
        self._fingerprint = ""
        self._image = Image(order.source)
        self._facts: Facts | None = None
        self._map: bmap.BlockMap | None = None
        self._map_file: Path | None = None

    def plan(self) -> Plan:
        """Everything that can be refused before a byte is written is refused here.

        Raises:
            UsageError, DataFileError, ArtefactError: about the image. HardwareError, SafetyRefusal: the disk.
        """
        disk = self._found()
        stated = self._image.stated_size()
        if stated is not None:
            check_fits(disk, stated, self._image.source)
        self._read_map()
        sha256 = self._order.sha256.lower()
        size = stated
        if self._image.remote:
            if not sha256:
                raise UsageError(
                    f"{self._image.source}: an image from the network needs its hash before a disk is touched",
                    "add --sha256 HASH, as published beside the image",
                )
        else:
            self._facts = self._image.inspect(self._block)
            self._fingerprint = self._image.fingerprint()
            size = self._facts.size
            check_fits(disk, size, self._image.source)
            if sha256:
                check_sha256(self._image, self._facts, sha256)
            sha256 = self._facts.sha256
        if size == 0:
            raise ArtefactError(f"{self._image.source}: is empty", "get the image again; nothing was written")
        if self._map is not None and size is not None and self._map.image_size != size:
            raise ArtefactError(
                f"{self._map_file}: is for an image of {self._map.image_size} bytes, {self._image.source} has {size}",
                "get image and block map of one release, or add --no-bmap",
            )
        return Plan(
            self.board, disk, self._name.stable_id, self._image.source, self._image.packing or "none", size, sha256,
            self._map.mapped if self._map else size, self._resume_to(sha256), str(self._map_file or ""),
        )  # fmt: skip

    def _found(self) -> FoundDisk:
        """The disk as it is now, if it may be overwritten."""
        disk = find_disk(self._name, self._system)
        check_target(disk, self._max, self._system)
        if self._image.path is not None:
            check_not_image(disk, self._image.path)
        return disk

    def _check_same(self, planned: FoundDisk) -> None:
        """While a person was asked a card may have been changed, and the kernel have given its name to another."""
        disk = self._found()
        if (disk.node, disk.number, disk.size) != (planned.node, planned.number, planned.size):
            raise SafetyRefusal(
                f"board {self.board}: to be written was {planned.described()}, now it is {disk.described()}; nothing "
                "was written",
                "run the command again",
            )

    def _read_map(self) -> None:
        if not self._order.use_bmap:
            return
        path = self._image.path
        self._map_file = Path(self._order.bmap) if self._order.bmap else bmap.beside(path) if path else None
        if self._map_file is not None:
            self._map = bmap.read_bmap(self._map_file)

    def _resume_to(self, sha256: str) -> int:
        partial = self._state.read("partial", self.board, Partial)
        if partial is None or (partial.disk, partial.sha256) != (self._name.stable_id, sha256):
            return 0
        return partial.good_to

    def run(self, plan: Plan, show: Progress) -> tuple[Receipt, Path]:
        """Write, verify, and leave a receipt. A second run after a cut goes on where the first one was."""
        begun = utc_now()

        def reached(good_to: int) -> None:
            partial = Partial(plan.disk_id, plan.sha256, max(good_to, plan.resumes_at))
            self._state.write("partial", self.board, partial)

        with self._state.busy(self.board, "hil flash"):
            self._check_same(plan.disk)
            target = Target(plan.disk)
            try:
                reached(0)
                if self._image.fingerprint() != self._fingerprint:
                    raise ArtefactError(f"{plan.image}: was changed after it was inspected", "run the command again")
                written = write_image(
                    target,
                    self._image,
                    self._map,
                    self._facts,
                    plan.sha256,
                    plan.resumes_at,
                    reached,
                    show,
                    self._block,
                )
            finally:
                target.close()
            map_hash = hashlib.sha256(self._map_file.read_bytes()).hexdigest() if self._map_file else ""
            receipt = Receipt(
                "flash", self.board, plan.disk, plan.disk_id, plan.image, map_hash, written, begun, utc_now()
            )
            path = self._state.receipt(self.board, "flash", receipt)
            self._state.forget("partial", self.board)
        return receipt, path


def confirm(plan: Plan, yes: tuple[str, ...], ask: Callable[[str], str]) -> None:
    """A person types the board's name; a script gives the exact id of its disk.

    Raises:
        UsageError: neither.
    """
    if yes:
        if plan.disk_id not in yes:
            raise UsageError(
                f"board {plan.board}: --yes {' '.join(yes)} does not name its disk {plan.disk_id}",
                f"if it is the right one: --yes {plan.disk_id}",
            )
        return
    typed = ask(f"Everything on {plan.disk.described()} will be lost. Type {plan.board} to go on")
    if typed.strip() != plan.board:
        raise UsageError(
            f"board {plan.board}: {typed.strip()!r} was typed; nothing was written", "type the board's name"
        )


def disk_of(board: str, disk: DiskName | None) -> DiskName:
    """ConfigError if the bench file does not say which disk is the board's."""
    if disk is None:
        raise ConfigError(
            f"board {board} has no `disk` in the bench file, so nothing may be overwritten for it",
            "add for instance `disk: {serial: ...}`; `lsblk -o NAME,SIZE,MODEL,SERIAL,WWN` shows the serials",
        )
    return disk
