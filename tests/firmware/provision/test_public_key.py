"""Only public keys go onto a card: a file named by mistake stays where it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firmware_tools.firstboot.public_key import check_signed, public_keys, trust_key
from hil_config.door import run
from hil_config.errors import ArtefactError, ConfigError, HilError

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPt1dG9yaWFsIGtleSBvZiBub2JvZHkgYXQgYWxsISE= ada@lab"


@pytest.fixture
def bench(tmp_path: Path) -> list[str]:
    file = tmp_path / "bench.yaml"
    file.write_text("bench: lab\nboards:\n  - {name: alpha, profile: raspberry-pi-5, disk: {file: a.img}}\n")
    return ["firstboot", "alpha", "--bench", str(file)]


def test_a_private_key_is_refused_and_not_shown(
    tmp_path: Path, bench: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "id"
    for kind, text in (
        ("OPENSSH", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"),
        ("PKCS 8", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"),
    ):
        private.write_text(text)
        assert run([*bench, "--ssh-key", str(private)]) == 3, kind
        said = capsys.readouterr().err
        assert f"{private}: is a private key" in said and "c2VjcmV0" not in said


def test_public_keys(tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(f'# of the lab\n\n{ED25519}\nrestrict,from="10.0.0.0/8" {ED25519}\n')
    assert public_keys(file).splitlines() == [ED25519, f'restrict,from="10.0.0.0/8" {ED25519}']
    for text in ("", "# nothing\n", "hello\n", f"{ED25519}\nrun: rm -rf /\n"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="no public SSH key"):
            public_keys(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no text"):
        public_keys(file)


def test_what_models_are_signed_with(tmp_path: Path, bench: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "keygen", "--out", str(tmp_path / "model")]) == 0
    public, private = tmp_path / "model.pub", tmp_path / "model.key"
    assert public.read_text().splitlines()[-1] == trust_key(public)
    (tmp_path / "empty.pub").write_text("")
    for wrong in (private, tmp_path / "empty.pub"):
        with pytest.raises(HilError):
            trust_key(wrong)
        assert run([*bench, "--trust", str(wrong)]) == 5
    assert private.read_text().split()[-1] not in capsys.readouterr().err


def test_a_model_that_boards_would_refuse(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for name in ("mine", "other"):
        assert run(["models", "keygen", "--out", str(tmp_path / name)]) == 0
    mine, other = (trust_key(tmp_path / f"{name}.pub") for name in ("mine", "other"))
    shards.mkdir()
    with pytest.raises(ArtefactError, match="cannot be read"):
        check_signed(shards, (mine,))
    assert run(["models", "build", "--out", str(shards)]) == 0
    check_signed(shards, ())
    with pytest.raises(ArtefactError, match="nobody has signed it"):
        check_signed(shards, (mine,))
    assert run(["models", "sign", str(shards), "--key", str(tmp_path / "mine.key")]) == 0
    check_signed(shards, (other, mine))
    with pytest.raises(ArtefactError, match="signed by key"):
        check_signed(shards, (other,))


@pytest.mark.parametrize("option", ["--shards", "--wheels", "--l4t"])
def test_a_file_is_no_folder(tmp_path: Path, bench: list[str], option: str) -> None:
    (tmp_path / "file").write_text("")
    assert run([*bench, option, str(tmp_path / "file")]) == 2


def test_what_ssh_keygen_writes(tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        file = tmp_path / kind
        done = subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=False)
        if done.returncode:
            pytest.skip("no ssh-keygen here")
        assert public_keys(file.with_suffix(".pub")) == file.with_suffix(".pub").read_text()
        with pytest.raises(ConfigError, match="private key"):
            public_keys(file)
