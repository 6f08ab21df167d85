"""What a node refuses to serve: anything that is not, bit for bit, what a trusted key signed last."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hil_config.errors import ArtefactError, ConfigError
from hil_config.wire.manifest import MANIFEST_NAME, encode_manifest, read_manifest, read_shard
from hil_config.wire.minisign import SIGNATURE_SUFFIX
from models.sign import new_key, sign_folder
from node_agent.config import read_config
from node_agent.shards.store import ShardStore
from node_agent.shards.trust import Trust, VersionMemory, trusted_manifest


@pytest.fixture
def shards(reference_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference_shards, tmp_path / "shards"))


def test_unsigned_and_wrongly_signed_models_are_refused_before_a_shard_is_opened(shards: Path) -> None:
    secret = new_key()
    trust = Trust(keys=(secret.public.text,))
    with pytest.raises(ArtefactError, match="no signature"):
        ShardStore(shards, trust)
    sign_folder(shards, new_key())
    with pytest.raises(ArtefactError, match="signed by key"):
        ShardStore(shards, trust)
    sign_folder(shards, secret)
    session = ShardStore(shards, trust).session("expert", "int8", 0, 0)
    assert session.run(np.zeros((1, 128), np.float32))[0].shape == (1, 128)


def test_an_older_version_is_refused_also_after_a_restart(shards: Path, tmp_path: Path) -> None:
    secret = new_key()
    old = Path(shutil.copytree(shards, tmp_path / "old"))
    sign_folder(old, secret, 1)
    sign_folder(shards, secret, 2)
    trust = Trust(keys=(secret.public.text,), memory=str(tmp_path / "memory"))
    ShardStore(old, trust)
    ShardStore(shards, trust)
    ShardStore(shards, trust)  # the same again is no rollback
    with pytest.raises(ArtefactError, match=r"version 1, but version 2 was served here: rollback refused"):
        ShardStore(old, trust)


def test_a_crash_while_remembering_leaves_the_old_memory_and_a_damaged_one_refuses(tmp_path: Path) -> None:
    memory = VersionMemory(tmp_path)
    memory.admit("m", 5, "here")
    (file,) = tmp_path.glob("*.json")
    (tmp_path / f".{file.name}.1.part").write_bytes(b'{"na')  # what a crash in the middle of writing leaves
    assert VersionMemory(tmp_path).highest("m") == 5
    memory.admit("m", 6, "here")
    file.write_bytes(b"")
    with pytest.raises(ArtefactError, match="cannot be read"):
        memory.admit("m", 7, "here")


def test_ten_thousand_flipped_bits_none_served(shards: Path) -> None:
    manifest, rng, served = read_manifest(shards), random.Random(1), 0
    for _ in range(100):
        shard = rng.choice([s for s in manifest.shards if s.bytes < 200_000])
        with open(shards / shard.name, "r+b", buffering=0) as file:
            for _ in range(100):
                place = rng.randrange(shard.bytes)
                file.seek(place)
                byte = file.read(1)
                file.seek(place)
                file.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))
                with contextlib.suppress(ArtefactError):
                    read_shard(shards, shard)
                    served += 1
                file.seek(place)
                file.write(byte)
        read_shard(shards, shard)
    assert served == 0


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Bit flips, cuts, doublings, and digits that stay digits, so that the JSON often stays right."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(out))
        action = rng.randrange(4)
        if action == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif action == 1:
            del out[place : place + rng.randint(1, 40)]
        elif action == 2:
            out[place:place] = out[place : place + rng.randint(1, 40)]
        else:
            digits = [i for i in range(place, min(place + 400, len(out))) if 48 <= out[i] < 58]
            for index in digits[:1]:
                out[index] = 48 + (out[index] - 47) % 10
    return bytes(out)


def test_a_thousand_mutated_manifests_none_served(shards: Path) -> None:
    secret, rng = new_key(), random.Random(2)
    sign_folder(shards, secret)
    trust = Trust(keys=(secret.public.text,))
    path = shards / MANIFEST_NAME
    good, served = path.read_bytes(), 0
    trusted_manifest(shards, trust)
    for _ in range(1000):
        changed = mutate(rng, good)
        path.write_bytes(changed)
        with contextlib.suppress(ArtefactError):
            trusted_manifest(shards, trust)
            served += changed != good
    assert served == 0


def test_a_mutated_manifest_without_any_signature_raises_nothing_but_artefact_errors(shards: Path) -> None:
    rng = random.Random(3)
    path = shards / MANIFEST_NAME
    good = path.read_bytes()
    for _ in range(300):
        path.write_bytes(mutate(rng, good))
        with contextlib.suppress(ArtefactError):
            manifest = trusted_manifest(shards, Trust())
            for shard in rng.sample(manifest.shards, 2):
                read_shard(shards, shard)


def test_a_signature_of_another_folder_does_not_help(shards: Path, tmp_path: Path) -> None:
    secret = new_key()
    other = Path(shutil.copytree(shards, tmp_path / "other"))
    sign_folder(shards, secret)
    manifest = msgspec.structs.replace(read_manifest(other), model_version=9)
    (other / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    name = MANIFEST_NAME + SIGNATURE_SUFFIX
    shutil.copy(shards / name, other / name)
    with pytest.raises(ArtefactError, match="it was changed"):
        ShardStore(other, Trust(keys=(secret.public.text,)))


def test_only_an_agent_on_loopback_may_go_without_keys(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    power = {"profile": "x", "idle_w": 1.0, "per_core_w": 1.0, "cores": 4, "cpu_scale": 1.0}
    tls = {"ca": "ca.pem", "certificate": "c.pem", "key": "k.pem"}
    config = {
        "node": "a", "bench": "b", "broker_host": "10.0.0.2", "broker_port": 8883, "data_host": "10.0.0.1",
        "data_port": 0, "shards": "s", "spool": "s", "power_model": power, "tls": tls,
        "command_key": "command.pub.pem",
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode(config))
    with pytest.raises(ConfigError, match=r"trust\.keys is empty"):
        read_config(path)
    path.write_bytes(msgspec.json.encode({**config, "trust": {"keys": [new_key().public.text]}}))
    assert read_config(path).trust.keys
