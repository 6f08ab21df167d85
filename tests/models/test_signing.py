"""Keys and signatures: ours are minisign's, and whatever is changed afterwards is refused by name."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from hil_config.errors import ArtefactError, UsageError
from hil_config.wire.manifest import MANIFEST_NAME, read_manifest
from hil_config.wire.minisign import PublicKey, parse_public_key, sign, verify
from models.cli import models
from models.sign import new_key, public_text, read_public_key, read_secret_key, sign_folder, verify_folder, write_keys

MINISIGN = shutil.which("minisign")
needs_minisign = pytest.mark.skipif(MINISIGN is None, reason="minisign is not installed: apt-get install minisign")


def test_a_pair_survives_the_disk_and_is_private(tmp_path: Path) -> None:
    secret = new_key()
    key, public = write_keys(secret, tmp_path / "lab")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert read_secret_key(key) == secret and read_public_key(public) == secret.public
    assert secret.seed.hex() not in repr(secret)
    with pytest.raises(UsageError, match="never overwritten"):
        write_keys(new_key(), tmp_path / "lab")


@needs_minisign
def test_minisign_accepts_our_signature_and_we_accept_its_own(tmp_path: Path) -> None:
    assert MINISIGN is not None
    key, public = write_keys(new_key(), tmp_path / "lab")
    file = tmp_path / "file"
    file.write_bytes(b"some bytes\n" * 999)
    ours = tmp_path / "ours.minisig"
    ours.write_text(sign(read_secret_key(key), file.read_bytes(), "by us"))
    base = [MINISIGN, "-m", str(file), "-x"]
    subprocess.run([*base, str(ours), "-V", "-p", str(public)], check=True, capture_output=True)
    theirs = tmp_path / "theirs.minisig"
    subprocess.run([*base, str(theirs), "-S", "-s", str(key), "-t", "by it"], check=True, capture_output=True)
    assert verify((read_public_key(public),), file.read_bytes(), theirs.read_text(), "file") == "by it"


def test_every_flipped_bit_of_message_or_signature_is_noticed() -> None:
    secret, message = new_key(), b"the manifest"
    text = sign(secret, message, "model x version 1")
    assert verify((secret.public,), message, text, "x") == "model x version 1"
    for place in range(8 * len(message)):
        changed = bytearray(message)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ArtefactError, match="it was changed"):
            verify((secret.public,), bytes(changed), text, "x")
    second = text.index("\n") + 1  # the first line is a comment that nobody signs
    for place in range(second, len(text) - 1):
        for bit in (1, 2, 4):
            changed_text = text[:place] + chr(ord(text[place]) ^ bit) + text[place + 1 :]
            with pytest.raises(ArtefactError):
                verify((secret.public,), message, changed_text, "x")


def test_another_key_is_named() -> None:
    secret, other = new_key(), new_key()
    with pytest.raises(ArtefactError, match=f"signed by key {secret.public.name}, trusted is {other.public.name}"):
        verify((other.public,), b"m", sign(secret, b"m", ""), "x")
    forged = PublicKey(secret.public.id, other.public.key)  # the same identifier, another key
    with pytest.raises(ArtefactError, match="it was changed"):
        verify((forged,), b"m", sign(secret, b"m", ""), "x")


@pytest.mark.parametrize("text", ["", "abc", "RWQ=", public_text(new_key().public)[:-6], "a\nb\nc"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError, match="not a minisign public key"):
        parse_public_key(text, "here")


def test_a_damaged_secret_key_is_refused_without_being_repeated(tmp_path: Path) -> None:
    key, _ = write_keys(new_key(), tmp_path / "lab")
    first, line = key.read_text().splitlines()
    for changed in (line[:100] + ("A" if line[100] != "A" else "B") + line[101:], line[:-8], "", "?" * 212):
        key.write_text(f"{first}\n{changed}\n")
        with pytest.raises(ArtefactError) as caught:
            read_secret_key(key)
        assert line[60:90] not in str(caught.value)


def test_signing_a_folder_raises_its_version_and_never_lowers_it(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    secret = new_key()
    _, public = write_keys(secret, tmp_path / "lab")
    with pytest.raises(ArtefactError, match="no signature"):
        verify_folder(folder, public)
    sign_folder(folder, secret, 3)
    assert verify_folder(folder, public).model_version == 3
    with pytest.raises(UsageError, match="versions only rise"):
        sign_folder(folder, secret, 2)
    path = folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"model_version": 3', b'"model_version": 4'))
    with pytest.raises(ArtefactError, match="it was changed"):
        verify_folder(folder, public)


def test_the_commands_from_key_to_verified_folder(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    run = CliRunner().invoke
    made = run(models, ["keygen", "--out", str(tmp_path / "lab"), "--json"])
    assert made.exit_code == 0 and "seed" not in made.output
    pair = json.loads(made.output)
    assert read_secret_key(Path(pair["key"])).seed.hex() not in made.output
    done = run(models, ["sign", str(folder), "--key", pair["key"], "--model-version", "2", "--json"])
    assert done.exit_code == 0 and json.loads(done.output)["model_version"] == 2
    checked = run(models, ["verify", str(folder), "--public-key", pair["public"], "--json"])
    assert checked.exit_code == 0 and json.loads(checked.output)["signed"] is True
    assert read_manifest(folder).model_version == 2
