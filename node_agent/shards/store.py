"""The shards a node holds: nothing is opened that the manifest does not vouch for."""

from __future__ import annotations

import os
from pathlib import Path

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import Precision, ShardKind, manifest_hash, read_shard
from node_agent.power_modes.duty import DutyLimit
from node_agent.shards.deltas import DeltaShelf
from node_agent.shards.providers import ON_CPU, Providers
from node_agent.shards.sessions import Session, open_session
from node_agent.shards.trust import NO_TRUST, Trust, trusted_manifest

BYTES_A_THREAD: dict[ShardKind, int] = {"head": 8 << 20, "trunk": 4 << 20}
"""One row through a matrix is a walk through its bytes. Measured on two cores, int4: a head of 51 MB takes 4.1 ms with
one thread, 3.2 with two; a trunk step of 9 MB, its weights not in the cache, 1.01 and 0.71. A second thread has to be
woken, which the trunk of a small model does not repay. More than two were not measured."""


def threads_for(kind: ShardKind, size: int) -> int:
    """How many threads a shard of `size` bytes is worth on this machine. An expert has one: others share the board."""
    each = BYTES_A_THREAD.get(kind)
    return 1 if each is None else max(1, min(2, os.cpu_count() or 1, size // each))


class ShardStore:
    """Verified sessions of one model folder, opened when asked for and kept until dropped.

    Args:
        trunk_threads: threads of a trunk session; 0 goes by its size (`threads_for`).
        head_threads: threads of the head, likewise.
        grouping: whether experts may be grouped (`shards.groups`); False is the portable profile.
    """

    def __init__(
        self,
        folder: Path,
        trust: Trust = NO_TRUST,
        trunk_threads: int = 0,
        providers: Providers = ON_CPU,
        grouping: bool = True,
        head_threads: int = 0,
    ) -> None:
        self.folder = folder
        self.trust = trust
        self.providers = providers
        self.grouping = grouping
        self._ordered: dict[ShardKind, int] = {"trunk": trunk_threads, "head": head_threads}
        self.manifest = trusted_manifest(folder, trust)
        self.sha256 = manifest_hash(self.manifest)
        self.deltas = DeltaShelf(self.manifest, trust)
        self._open: dict[str, Session] = {}
        self.duty = DutyLimit()

    def session(self, kind: ShardKind, precision: Precision, layer: int = -1, expert: int = -1) -> Session:
        """The session of a shard whose bytes were checked just now or when it was opened; ArtefactError if not."""
        shard = self.manifest.find(kind, precision, layer, expert)
        session = self._open.get(shard.name)
        if session is None:
            threads = self._ordered.get(kind, 0) or threads_for(kind, shard.bytes)
            path = str(self.folder / shard.name)
            session = open_session(read_shard(self.folder, shard), shard, path, threads, self.providers)
            session.duty = self.duty
            self._open[shard.name] = session
        return session

    def keep_only(self, names: set[str]) -> None:
        """Drop every open session whose shard is not named."""
        self._open = {name: session for name, session in self._open.items() if name in names}

    def require(self, sha256: str) -> None:
        """ArtefactError unless this folder is the model the ground means."""
        if sha256 != self.sha256:
            raise ArtefactError(
                f"{self.folder}: manifest {self.sha256[:12]}, the ground wants {sha256[:12]}",
                "deploy the same build to every board",
            )
