"""Local runs: a key made for the run signs the model, and the run's agents trust that key alone.

What agents serve is therefore exactly the manifest the run was prepared with, even if the cache is rebuilt
meanwhile. The secret half never leaves this process and is forgotten when the agents have started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hil_config.durable_file import write_durably
from hil_config.wire.manifest import MANIFEST_NAME, read_manifest_bytes
from hil_config.wire.minisign import SIGNATURE_SUFFIX, sign
from models.sign import new_key


def ephemeral_trust(folder: Path, shards: Path) -> dict[str, Any]:
    """The `trust` field of the agents' configuration; the signature is written into the run's `folder`."""
    secret, path = new_key(), folder / (MANIFEST_NAME + SIGNATURE_SUFFIX)
    write_durably(path, sign(secret, read_manifest_bytes(shards), f"run {folder.name}").encode())
    return {"keys": [secret.public.text], "signature": str(path)}
