"""Disks as the kernel shows them in /sys, found by names that do not change when they are plugged in again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from hil_config.errors import EnvironmentFault, HardwareError, SafetyRefusal

SECTOR = 512


class DiskName(Protocol):
    """What a bench file says about a disk (`hil_config.schema.hardware.Disk`)."""

    @property
    def stable_id(self) -> str: ...
    @property
    def named_by(self) -> str: ...
    @property
    def size_gb(self) -> float | None: ...


class System(msgspec.Struct, frozen=True):
    """Where the kernel's trees are; tests have their own."""

    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    udev: Path = Path("/run/udev/data")


class FoundDisk(msgspec.Struct, frozen=True):
    """A disk or image file. `size` in bytes; None for a file that takes whatever comes."""

    node: str
    block: bool
    size: int | None
    number: str = ""
    model: str = ""
    serial: str = ""
    wwn: str = ""
    backing_file: str = ""
    sector: int = SECTOR

    @property
    def name(self) -> str:
        return Path(self.node).name

    def described(self) -> str:
        """One line for a person."""
        size = "any size" if self.size is None else f"{self.size / 1e9:.2f} GB"
        words = [self.node, self.model or ("disk" if self.block else "image file"), size]
        words += [f"{key} {value}" for key, value in (("serial", self.serial), ("wwn", self.wwn)) if value]
        words += [f"backed by {self.backing_file}"] if self.backing_file else []
        return ", ".join(words)


def disks(system: System) -> Iterator[FoundDisk]:
    """Every whole disk the kernel knows."""
    for folder in sorted((system.sys / "block").glob("*")):
        if not folder.name.startswith(("ram", "zram", "dm-", "md")):
            yield _disk(system, folder)


def find_disk(name: DiskName, system: System) -> FoundDisk:
    """The one disk that a bench file names.

    Raises:
        HardwareError: it is not there. SafetyRefusal: the name fits more than one disk, or a partition.
    """
    if name.named_by == "file":
        return _file(Path(name.stable_id), name.size_gb)
    if name.named_by == "by_path":
        return _by_path(system, name.stable_id)
    wanted = name.stable_id
    key = {"serial": "serial", "wwn": "wwn", "loop_file": "backing_file"}[name.named_by]
    found = [one for one in disks(system) if getattr(one, key) == wanted]
    if len(found) > 1:
        raise SafetyRefusal(
            f"{name.named_by} {wanted}: {' and '.join(one.node for one in found)} both have it",
            "name the disk by_path, or unplug the other",
        )
    if not found:
        there = "; ".join(one.described() for one in disks(system) if getattr(one, key)) or "none has one"
        raise HardwareError(
            f"no disk with {name.named_by} {wanted}; there are: {there}",
            "insert the card, or mend `disk` in the bench file",
        )
    return found[0]


def _by_path(system: System, name: str) -> FoundDisk:
    link = system.dev / "disk" / "by-path" / name
    folder = system.sys / "block" / Path(os.path.realpath(link)).name
    if not link.exists():
        near = ", ".join(sorted(path.name for path in link.parent.glob("*") if "-part" not in path.name))
        raise HardwareError(f"no disk at {link}; there are: {near or 'none'}", "insert the card in that port")
    if not folder.exists():
        raise SafetyRefusal(f"{link} is not a whole disk", "name the disk, not one of its partitions")
    return _disk(system, folder)


def _file(path: Path, size_gb: float | None) -> FoundDisk:
    size = None if size_gb is None else int(size_gb * 1e9) // SECTOR * SECTOR
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: {error.strerror}", "mend `disk` in the bench file, or the folder's mode"
        ) from error
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise SafetyRefusal(f"{path}: is not a plain file", "name a disk by serial, wwn or by_path")
    if found is not None and found.st_size:
        size = found.st_size
    return FoundDisk(str(path), False, size, model="image file")


def _disk(system: System, folder: Path) -> FoundDisk:
    number = _text(folder / "dev")
    properties = dict(
        line[2:].split("=", 1)
        for line in _text(system.udev / f"b{number}").splitlines()
        if line.startswith("E:") and "=" in line
    )
    serial = _text(folder / "device" / "serial") or _text(folder / "serial") or properties.get("ID_SERIAL_SHORT", "")
    words = (_text(folder / "device" / "vendor"), _text(folder / "device" / "model"), _text(folder / "device" / "name"))
    return FoundDisk(
        node=str(system.dev / folder.name.replace("!", "/")),
        block=True,
        size=int(_text(folder / "size") or 0) * SECTOR,
        number=number,
        model=" ".join(word for word in words if word),
        serial=serial or _page_80(folder / "device" / "vpd_pg80") or _usb_serial(folder / "device"),
        wwn=_text(folder / "wwid") or _text(folder / "device" / "wwid") or properties.get("ID_WWN", ""),
        backing_file=_text(folder / "loop" / "backing_file"),
        sector=int(_text(folder / "queue" / "logical_block_size") or SECTOR),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0")
    except OSError:
        return ""


def _page_80(path: Path) -> str:
    """SCSI vital product data page 80h: four bytes of header, then the serial number."""
    try:
        return path.read_bytes()[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""


def _usb_serial(device: Path) -> str:
    """The serial of the USB device that a disk hangs on."""
    if not device.exists():
        return ""
    folder = device.resolve()
    while folder != folder.parent:
        if (folder / "idVendor").exists():
            return _text(folder / "serial")
        folder = folder.parent
    return ""
