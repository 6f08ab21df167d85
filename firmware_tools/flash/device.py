"""An open disk or image file: aligned transfers past the page cache, errors in our words."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

from firmware_tools.flash.disk import FoundDisk
from hil_config.errors import EnvironmentFault, HardwareError, HilError, SafetyRefusal

_GONE = (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)


def aligned_buffer(size: int) -> memoryview:
    """A buffer that O_DIRECT accepts: whole pages."""
    return memoryview(mmap.mmap(-1, size))


class Target:
    """Open for writing until `close`. `direct` says whether reads and writes pass the page cache by.

    Raises:
        SafetyRefusal: somebody else has it open. HardwareError, EnvironmentFault: it cannot be opened.
    """

    def __init__(self, disk: FoundDisk) -> None:
        self.disk = disk
        self.sector = max(disk.sector, 4096 if not disk.block else disk.sector)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if disk.block else os.O_CREAT)
        self.direct = True
        try:
            if not disk.block:
                Path(disk.node).parent.mkdir(parents=True, exist_ok=True)
            try:
                self._fd = os.open(disk.node, flags | os.O_DIRECT, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL or disk.block:
                    raise
                self.direct = False  # a file system without it, such as tmpfs
                self._fd = os.open(disk.node, flags, 0o600)
        except OSError as error:
            raise self._translated(error, "cannot be opened") from error
        if disk.block:
            # A loop device over a file that is itself cached: what is read back may never have reached the medium.
            dio = Path("/sys/block") / disk.name / "loop" / "dio"
            self.direct = not dio.exists() or dio.read_text().strip() == "1"
        else:
            try:
                self._lock()
            except HilError:
                os.close(self._fd)
                raise

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SafetyRefusal(
                f"{self.disk.node} is not written: another process has locked it, such as a running virtual board",
                "switch the board off first: hil power BOARD off",
            ) from error
        size = os.fstat(self._fd).st_size
        if self.disk.size is not None and size < self.disk.size:
            try:
                os.ftruncate(self._fd, self.disk.size)
            except OSError as error:
                raise self._translated(error, f"cannot have {self.disk.size} bytes") from error

    @property
    def readback(self) -> str:
        """What a read after a write proves: `direct`, it came from the medium; `cached`, perhaps from memory."""
        return "direct" if self.direct else "cached"

    def write(self, data: memoryview, offset: int) -> None:
        """Write whole sectors."""
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], offset + done)
        except OSError as error:
            raise self._translated(error, f"cannot be written at byte {offset + done}") from error

    def read(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; fewer bytes at the end of the disk."""
        done = 0
        try:
            while done < len(buffer):
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
                if count == 0:
                    break
                done += count
        except OSError as error:
            raise self._translated(error, f"cannot be read back at byte {offset + done}") from error
        return done

    def sync(self) -> None:
        """Everything written is on the medium, as far as the medium says so."""
        try:
            os.fsync(self._fd)
            if not self.direct:
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._translated(error, "did not take everything (fsync)") from error

    def truncate(self, size: int) -> None:
        """A file gets its own size again, or that of the image if it had none: the last write was padded."""
        if not self.disk.block:
            try:
                os.ftruncate(self._fd, size if self.disk.size is None else self.disk.size)
            except OSError as error:
                raise self._translated(error, "cannot be cut to its size") from error

    def close(self) -> None:
        os.close(self._fd)

    def _translated(self, error: OSError, what: str) -> HilError:
        node, code = self.disk.node, error.errno
        words = f"{node}: {what}: {error.strerror}"
        if code == errno.EBUSY:
            return SafetyRefusal(f"{node} is not written: somebody else uses it", f"see who: lsof {node}")
        if code in (errno.EACCES, errno.EPERM):
            return EnvironmentFault(words, "run as root, or join the group that owns the device")
        if code == errno.EROFS:
            return HardwareError(words, "move the card's write lock")
        if not self.disk.block:
            if code == errno.EFBIG:
                return EnvironmentFault(words, f"mend `size_gb`: the file system of {Path(node).parent} takes less")
            if code in (errno.ENOSPC, errno.EDQUOT):
                return EnvironmentFault(words, f"free space in {Path(node).parent} and run the command again")
            return EnvironmentFault(words, "check the file system that holds it")
        if code in (*_GONE, errno.ENOSPC, errno.ENOENT):  # an unplugged disk has no space left
            return HardwareError(f"{words}: the device went away", "plug it in and run the command again; it resumes")
        return HardwareError(words, "the card or its reader is failing: try another reader, then another card")
