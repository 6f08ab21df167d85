"""First boot: the payload goes onto an image's boot partition, the board's script takes it over, secrets leave."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_tools import identity as x509
from firmware_tools.firstboot.agent_package import agent_tar
from firmware_tools.firstboot.crypt_hash import sha512_crypt
from firmware_tools.firstboot.inject import BootPartition
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.identity_store import IdentityStore
from firmware_tools.virtual.recipe import FIRSTBOOT
from hil_config.errors import DataFileError, EnvironmentFault, SafetyRefusal, UsageError

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NEEDED = ("sfdisk", "mkfs.vfat", "mcopy", "openssl")
MISSING = [name for name in NEEDED if not shutil.which(name, path=SEARCH)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
TOKEN = "one-time-token-of-a-test"


def settings(ca: bytes = b"PEM", **changes: object) -> Settings:
    values: dict[str, object] = {
        "node": "alpha", "bench": "lab", "place": Place("10.0.0.1", 8883, "10.0.0.2", 7070), "profile": {},
        "ca": ca, "token": TOKEN, "password_hash": sha512_crypt("geheim"), "authorized_keys": "ssh-ed25519 AAAA x\n",
    }  # fmt: skip
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path, fat = tmp_path / "card.img", tmp_path / "boot.fat"
    with open(path, "wb") as file:
        file.truncate(80 << 20)
    environment = {**os.environ, "PATH": SEARCH}
    table = "label: dos\nstart=2048, size=131072, type=c\nstart=133120, type=83\n"
    subprocess.run(["sfdisk", "-q", str(path)], input=table, text=True, env=environment, check=True)
    with open(fat, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.vfat", "-F", "32", "-s", "1", str(fat)], env=environment, check=True, capture_output=True)
    with open(path, "r+b") as file:
        file.seek(2048 * 512)
        file.write(fat.read_bytes())
    return path


def test_files_go_onto_the_boot_partition_and_replace_older_ones(image: Path) -> None:
    boot = BootPartition(str(image))
    boot.write({"stale": b"1"}, FOLDER)
    files = payload(settings(), agent_tar())
    boot.write(files, FOLDER)
    assert set(boot.names(FOLDER)) == set(files)
    assert boot.read(f"{FOLDER}/firstboot.env").startswith(b"NODE=alpha\nBENCH=lab\n")


def test_an_image_without_a_boot_partition(tmp_path: Path) -> None:
    path = tmp_path / "raw.img"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(DataFileError, match="no FAT partition"):
        BootPartition(str(path))


def test_values_that_would_break_the_file_of_lines() -> None:
    for name in ("a\nTOKEN=x", "a=b", "it's"):
        with pytest.raises(UsageError):
            payload(settings(node=name), b"")


class Root:
    """A board's root file system and boot partition as folders; the script runs on this machine's sh."""

    def __init__(self, home: Path, files: dict[str, bytes]) -> None:
        self.home, self.boot = home / "root", home / "boot"
        (self.boot / FOLDER).mkdir(parents=True)
        for folder in ("etc", "home", "opt", "var/lib"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.home / "etc/shadow").write_text("root:!:19000:0:99999:7:::\n")
        for name, data in files.items():
            (self.boot / FOLDER / name).write_bytes(data)

    @property
    def script(self) -> Path:
        """The copy on the card while it is there; an image's own later."""
        own = self.boot / FOLDER / FIRSTBOOT.name
        return own if own.exists() else FIRSTBOOT

    def run(self, umask: int = -1) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.script), str(self.boot)], env={**os.environ, "HIL_ROOT": str(self.home)},
            capture_output=True, text=True, timeout=60, check=False, umask=umask,
        )  # fmt: skip

    def read(self, path: str) -> bytes:
        return (self.home / path).read_bytes()


def test_the_board_takes_everything_over_and_secrets_leave(tmp_path: Path) -> None:
    store = IdentityStore.create(tmp_path / "identity", "lab", ())
    root = Root(tmp_path, payload(settings(store.ca, token=store.make_token("alpha")), agent_tar()))
    inode = (root.boot / FOLDER / "token").stat().st_ino
    done = root.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert inode and not (root.boot / FOLDER).exists()
    assert root.read("etc/hostname") == b"alpha\n"
    assert (root.home / "opt/hil/current/node_agent/cli.py").exists()
    assert b"hil:$6$" in root.read("etc/shadow")
    assert (root.home / "home/hil/.ssh/authorized_keys").exists()
    for path in ("etc/hil/identity/key.pem", "etc/hil/token", "etc/hil/agent.json"):
        assert (root.home / path).stat().st_mode & 0o077 == 0, path
    request, token = root.read("etc/hil/identity/request.pem"), root.read("etc/hil/token")
    for wrong in ("", "0" * 64):
        with pytest.raises(SafetyRefusal, match="does not know"):
            store.enrol("alpha", wrong, request)
    proof = hashlib.sha256(token + request + token).hexdigest()
    with pytest.raises(SafetyRefusal, match="no enrolment token"):
        store.enrol("bravo", proof, request)
    certificate = x509.read_certificate(store.enrol("alpha", proof, request))
    assert certificate.name == "alpha" and certificate.days_left() > 80
    other = x509.make_request(x509.make_key(), "alpha")
    with pytest.raises(SafetyRefusal, match="used before"):
        store.enrol("alpha", hashlib.sha256(token + other + token).hexdigest(), other)
    again = x509.read_certificate(store.enrol("alpha", "", request))
    assert again.serial == certificate.serial, "the line may have broken before the board had it"
    store.revoke("alpha")
    with pytest.raises(SafetyRefusal, match="used before"):
        store.enrol("alpha", proof, request)
    key = root.read("etc/hil/identity/key.pem")
    assert root.run().returncode == 0, "a second boot finds nothing to do"
    assert root.read("etc/hil/identity/key.pem") == key


@pytest.mark.parametrize(("user", "home"), [("root", "root"), ("pi", "srv/pi"), ("hil", "home/hil")])
def test_a_key_goes_to_where_its_users_home_is(tmp_path: Path, user: str, home: str) -> None:
    root = Root(tmp_path, payload(settings(user=user), agent_tar()))
    with (root.home / "etc/passwd").open("a") as file:
        file.write("pi:x:1001:1001:,,,:/srv/pi:/bin/bash\n")
    done = root.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.relative_to(root.home) for path in root.home.rglob("authorized_keys")] == [
        Path(home, ".ssh/authorized_keys")
    ]


MODES = {
    "etc/hostname": 0o644, "etc/hosts": 0o644, "etc/passwd": 0o644,
    "etc/hil": 0o700, "etc/hil/identity": 0o700, "etc/hil/agent.json": 0o600, "etc/hil/token": 0o600,
    "etc/hil/identity/key.pem": 0o600, "etc/hil/identity/ca.pem": 0o644, "etc/hil/identity/request.pem": 0o644,
    "etc/hil/firstboot.done": 0o644, "home/hil/.ssh": 0o700, "home/hil/.ssh/authorized_keys": 0o600,
    "opt/hil": 0o755, "opt/hil/slots": 0o755, "opt/hil/current/": 0o755, "opt/hil/current/node_agent/cli.py": 0o644,
}  # fmt: skip


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("group", ["", "root:x:0:\nshadow:x:42:\n"], ids=["no-group", "shadow"])
def test_every_file_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int, group: str) -> None:
    root = Root(tmp_path, payload(settings(), agent_tar()))
    (root.home / "etc/group").write_text(group)
    for name in ("passwd", "shadow"):  # as an image may bring them
        (root.home / "etc" / name).chmod(0o600)
    done = root.run(umask)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path: (root.home / path).stat().st_mode & 0o7777 for path in MODES}
    assert found == MODES
    shadow, theirs = (root.home / "etc/shadow").stat(), bool(group) and os.geteuid() == 0
    assert shadow.st_mode & 0o7777 == (0o640 if theirs else 0o600)
    assert not theirs or (shadow.st_uid, shadow.st_gid) == (0, 42)
    assert root.read("etc/hosts") == b"127.0.1.1 alpha\n"
    assert not list(root.home.rglob("*.new"))


def test_a_damaged_payload_changes_nothing(tmp_path: Path) -> None:
    files = payload(settings(), agent_tar())
    files["agent.tar"] = files["agent.tar"][:-100]
    root = Root(tmp_path, files)
    done = root.run()
    assert done.returncode == 1 and "FAILED at checksums" in done.stdout
    assert not (root.home / "etc/hil").exists()


def test_mtools_must_be_there(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentFault, match="mtools is not installed"):
        BootPartition(str(image))
