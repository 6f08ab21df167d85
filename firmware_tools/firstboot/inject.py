"""Files onto the boot (FAT) partition of an image or card with mtools: no mount, and no root for image files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from firmware_tools.flash.partitions import boot_partition, read_partitions
from hil_config.errors import EnvironmentFault, HardwareError

TIMEOUT_S = 120.0


class BootPartition:
    """The boot partition of `disk`, an image file or a block device. Args: `folder` on it that is ours.

    Raises:
        DataFileError: it has none. EnvironmentFault: mtools is not installed, or the disk cannot be opened.
    """

    def __init__(self, disk: str) -> None:
        if not shutil.which("mcopy"):
            raise EnvironmentFault("mtools is not installed", "apt install mtools")
        try:
            with open(disk, "rb", buffering=0) as file:
                parts = read_partitions(lambda offset, length: os.pread(file.fileno(), length, offset))
                bare = not parts and _is_fat(os.pread(file.fileno(), 512, 0))
        except OSError as error:
            raise EnvironmentFault(f"{disk}: cannot be read: {error.strerror}", "check its path and mode") from error
        self.disk = disk
        self._drive = f"{disk}@@{0 if bare else boot_partition(parts, disk).begin}"

    def names(self, folder: str = "") -> tuple[str, ...]:
        """What lies in a folder; empty where there is none."""
        done = self._run("mdir", "-b", "-i", self._drive, f"::/{folder}", check=False)
        lines = [line.strip().rstrip("/").rpartition("/")[2] for line in done.stdout.decode().splitlines()]
        return tuple(line for line in lines if line) if done.returncode == 0 else ()

    def label(self) -> str:
        """Volume label; empty where there is none."""
        said = self._run("mlabel", "-s", "-i", self._drive, "::", check=False).stdout.decode(errors="replace")
        _, found, name = said.partition("Volume label is ")
        return name.split(" (abbr=")[0].strip() if found else ""

    def read(self, name: str) -> bytes:
        """One file."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            self._run("mcopy", "-n", "-i", self._drive, f"::/{name}", str(copy))
            return copy.read_bytes()

    def write(self, files: dict[str, bytes], folder: str = "") -> None:
        """Write files, an own folder replaced as a whole, and read every byte back.

        Raises:
            HardwareError: what is read back differs.
        """
        place = f"{folder}/" if folder else ""
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            if folder:
                self._run("mdeltree", "-i", self._drive, f"::/{folder}", check=False)
                self._run("mmd", "-i", self._drive, f"::/{folder}")
            for file, data in files.items():
                (home / file).write_bytes(data)
                self._run("mcopy", "-o", "-i", self._drive, str(home / file), f"::/{place}{file}")
        try:
            with open(self.disk, "rb") as disk:
                os.fsync(disk.fileno())
                os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise HardwareError(f"{self.disk}: did not take everything: {error.strerror}", "flash it again") from error
        for file, data in files.items():
            if self.read(f"{place}{file}") != data:
                raise HardwareError(f"{self.disk}: {place}{file} reads back differently", "flash the card again")

    def _run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise HardwareError(
                f"{self.disk}: {words[0]} did not end within {TIMEOUT_S:.0f} s", "try another reader, then another card"
            ) from error
        if check and done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise EnvironmentFault(f"{self.disk}: {words[0]}: {said[0]}", "is the card writable, and not full?")
        return done


def _is_fat(sector: bytes) -> bool:
    """Whether a disk without partitions begins with a FAT file system, as seeds for cloud-init do."""
    return sector[510:512] == b"\x55\xaa" and (sector[54:57] == b"FAT" or sector[82:85] == b"FAT")
