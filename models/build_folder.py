"""The folder a build works in: what is finished there is kept over an interruption, and one builder is at work."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hil_config.wire.manifest import Shard
from models.card import CARD_NAME, IMPORTANCE_NAME, TOKENIZER_NAME
from models.checkpoint import Checkpoint
from models.export_onnx import Built
from models.shard_writer import write_shard

BUILD_REVISION = 5
"""Raised when the same checkpoint gives other bytes, so that folders of the older layout are built again."""

_RECORD = "finished.jsonl"


def source_sha256(checkpoint: Checkpoint) -> str:
    """SHA-256 of the build revision and of all checkpoint files: equal means the folder would be equal."""
    beside = [checkpoint.folder / name for name in (CARD_NAME, IMPORTANCE_NAME, TOKENIZER_NAME)]
    texts = [hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "-" for path in beside]
    return hashlib.sha256(f"{BUILD_REVISION} {checkpoint.sha256()} {' '.join(texts)}".encode()).hexdigest()


class BuildFolder:
    """`.<name>.part` beside the destination. Its record lists finished shards of one source, a line each."""

    def __init__(self, out: Path, source: str) -> None:
        self.path = out.with_name(f".{out.name}.part")
        self._record = self.path / _RECORD
        self._finished = self._read(source)
        if self._finished is None:
            self.discard()
            self.path.mkdir()
            self._finished = {}
            self._append(source.encode())

    def _read(self, source: str) -> dict[str, Shard] | None:
        """What an earlier build of the same source finished; None where there was none. A cut last line is left out."""
        try:
            head, *lines = self._record.read_bytes().split(b"\n")
        except OSError:
            return None
        if head != source.encode():
            return None
        found = {}
        for line in lines:
            try:
                shard = msgspec.json.decode(line, type=Shard)
            except ValueError:
                continue
            path = self.path / shard.name
            if path.exists() and path.stat().st_size == shard.bytes:
                found[shard.name] = shard
        return found

    def _append(self, line: bytes) -> None:
        with open(self._record, "ab") as handle:
            handle.write(line + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def finished(self, name: str) -> Shard | None:
        assert self._finished is not None
        return self._finished.get(name)

    def write(self, name: str, built: Built) -> tuple[str, int]:
        """SHA-256 and size of the shard written."""
        return write_shard(self.path / name, built.graph, built.weights)

    def record(self, shard: Shard) -> None:
        """A written shard counts as finished from now on."""
        self._append(msgspec.json.encode(shard))

    def keep_only(self, names: set[str]) -> None:
        """Remove the record and whatever a build with other precisions left."""
        for path in self.path.iterdir():
            if path.name not in names:
                path.unlink()

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def sole_builder(out: Path) -> Iterator[None]:
    """Holds `.<name>.lock` beside the destination; a second builder of the same folder waits here."""
    path = out.with_name(f".{out.name}.lock")
    while True:
        lock = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.stat(path).st_ino == os.fstat(lock).st_ino:
                break
        except FileNotFoundError:
            pass
        os.close(lock)  # the one before us removed the file we waited for
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)
