"""Disk images as a stream of bytes: plain, xz, zst, gz or zip, from a file or over HTTP, never unpacked to disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from firmware_tools.broker import cache_folder
from firmware_tools.flash.remote import RemoteFile
from hil_config.durable_file import write_durably
from hil_config.errors import ArtefactError, DataFileError, UsageError

# zstandard's stream_reader takes a cut file for a whole one (206 of 360 MiB, no error); this one does not.
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 1 << 20
"""With two blocks in flight all of them stay in a processor's cache; of 4 MiB each, fast disks wait for memory."""
__all__ = ["BLOCK", "Facts", "Image", "check_sha256", "fill", "zstd"]
_BROKEN = (EOFError, lzma.LZMAError, zstd.ZstdError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
_MAGIC = ((b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"\x1f\x8b", "gz"), (b"PK\x03\x04", "zip"))


class Facts(msgspec.Struct, frozen=True):
    """What a pass over a whole image found. `file_sha256` is of the file as published, packed or not.

    `blocks` are the SHA-256 of its parts of `block` bytes, so that writing and reading back need no other pass.
    """

    size: int
    sha256: str
    file_sha256: str
    block: int
    blocks: tuple[str, ...]


class _Hashed(io.RawIOBase):
    """Passes reads through and hashes what was read in order; a jump ends the hash."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.digest = hashlib.sha256()
        self._next = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._inner.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def readinto(self, buffer: Any) -> int:
        at = self._inner.tell() if self._inner.seekable() else self._next
        count = int(cast(Any, self._inner).readinto(buffer))
        if at == self._next:
            self.digest.update(memoryview(buffer)[:count])
            self._next += count
        return count

    def rest(self) -> str:
        """SHA-256 of the whole file, reading what was not needed (a decompressor stops at its end mark)."""
        if self._inner.seekable():
            self._inner.seek(self._next)
        while self.readinto(bytearray(BLOCK)):
            pass
        return self.digest.hexdigest()


class Image:
    """An image to be written. Args: `source`, a path or an http(s) address.

    Raises:
        DataFileError: no such file. LinkError: no such address.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.remote = source.startswith(("http://", "https://"))
        if "://" in source and not self.remote:
            raise UsageError(f"{source}: wanted a file, http:// or https://", "download it first")
        with self._opened() as file:
            head = file.read(6)
            self.packing = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
            if self.packing == "zip" and not file.seekable():
                raise DataFileError(f"{source}: a zip file whose server cannot jump", "download it first")
            self.packed_size = self._size(file)

    @property
    def path(self) -> Path | None:
        return None if self.remote else Path(self.source)

    def _opened(self) -> IO[bytes]:
        if self.remote:
            return cast(IO[bytes], RemoteFile(self.source))
        try:
            if os.path.exists(self.source) and not os.path.isfile(self.source):
                raise DataFileError(f"{self.source}: is not a plain file", "copy its content into a file first")
            return open(self.source, "rb", buffering=0)
        except OSError as error:
            raise DataFileError(f"{self.source}: cannot be read: {error.strerror}", "check the path") from error

    def _size(self, file: IO[bytes]) -> int | None:
        return cast(RemoteFile, file).size if self.remote else os.fstat(file.fileno()).st_size

    @contextmanager
    def stream(self, published: bool = True) -> Iterator[tuple[IO[bytes], Callable[[], str]]]:
        """(the image's bytes, SHA-256 of the published file once all was read). Damage is an ArtefactError.

        Args:
            published: False for who knows that hash already; it then comes out wrong.
        """
        raw = self._opened()
        hashed = _Hashed(raw)
        try:
            source = hashed if published else cast(io.RawIOBase, raw)
            if not (self.packing or self.remote):  # `fill` has its own buffers: one more would copy everything
                yield cast(IO[bytes], source), hashed.rest
                return
            with io.BufferedReader(source, BLOCK) as whole, _unpacked(self.packing, cast(IO[bytes], whole)) as content:
                yield content, hashed.rest
        except _BROKEN as error:
            word = str(error) or "ends too early"
            raise ArtefactError(f"{self.source}: damaged {self.packing or 'image'}: {word}", "get it again") from error
        finally:
            raw.close()

    def stated_size(self) -> int | None:
        """Size of the unpacked image if it can be known without unpacking; what a header says is not proof."""
        if not self.packing:
            return self.packed_size
        if self.packing == "zst":
            with self._opened() as file:
                try:
                    return zstd.get_frame_info(file.read(32)).decompressed_size or None
                except zstd.ZstdError:
                    return None  # reading it says what is wrong
        return None

    def inspect(self, block: int = BLOCK) -> Facts:
        """Size and hashes from a pass over the whole image; kept for files that have not changed since.

        Args:
            block: bytes of each part that gets a hash of its own.

        Raises:
            ArtefactError: the archive is damaged.
        """
        key = self.fingerprint(block)
        kept = cache_folder() / "images" / f"{key}.json"
        if key:
            try:
                return msgspec.json.decode(kept.read_bytes(), type=Facts)
            except (OSError, ValueError):
                pass  # not there, or damaged: written again below
        digest, size = hashlib.sha256(), 0
        with self.stream() as (content, published):
            buffer = memoryview(bytearray(block))
            blocks = []
            while count := fill(content, buffer):
                digest.update(buffer[:count])
                blocks.append(hashlib.sha256(buffer[:count]).hexdigest())
                size += count
            facts = Facts(size, digest.hexdigest(), published(), block, tuple(blocks))
        if key:
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_durably(kept, msgspec.json.encode(facts))
            except OSError:
                pass  # no room or no right there: the next command reads the image again
        return facts

    def fingerprint(self, block: int = BLOCK) -> str:
        """Changes when the file does, as far as its times and size tell; empty for the network."""
        if self.path is None:
            return ""
        try:
            status = os.stat(self.path)
        except OSError:
            return "gone"
        words = [str(self.path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, block]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]


def fill(content: IO[bytes], buffer: memoryview) -> int:
    """Read until the buffer is full or the end is reached; returns the bytes read."""
    done = 0
    while done < len(buffer):
        count = int(cast(Any, content).readinto(buffer[done:]))
        if count == 0:
            break
        done += count
    return done


@contextmanager
def _unpacked(packing: str, file: IO[bytes]) -> Iterator[IO[bytes]]:
    if packing == "xz":
        with lzma.open(file, "rb") as content:
            yield cast(IO[bytes], content)
    elif packing == "zst":
        with zstd.open(file, "rb") as content:
            yield cast(IO[bytes], content)
    elif packing == "gz":
        with gzip.open(file, "rb") as content:
            yield cast(IO[bytes], content)
    elif packing == "zip":
        with zipfile.ZipFile(file) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith((".img", ".raw", ".wic"))]
            if len(members) != 1:
                names = ", ".join(one.filename for one in archive.infolist()[:8])
                raise DataFileError(f"zip: wanted exactly one .img, found {names or 'nothing'}", "unpack it first")
            with archive.open(members[0]) as content:
                yield content
    else:
        yield file


def check_sha256(image: Image, facts: Facts, wanted: str) -> None:
    """ArtefactError unless `wanted` (64 hex digits) is the hash of the published file or of the unpacked image."""
    if wanted.lower() not in (facts.sha256, facts.file_sha256):
        raise ArtefactError(
            f"{image.source}: SHA-256 {facts.file_sha256} (unpacked {facts.sha256}), wanted {wanted.lower()}",
            "get the image again, or the hash that belongs to it",
        )
