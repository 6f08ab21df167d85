"""`hil bench init` and the certificates of a bench."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from firmware_tools import identity as x509
from firmware_tools.broker import Recipe
from firmware_tools.identity_store import OWN, IdentityStore
from hil_config.door import run
from hil_config.errors import ConfigError
from hil_config.revocation import read_revocations
from hil_config.tls import check_own_certificate, identity_files


def made(tmp_path: Path) -> Path:
    folder = tmp_path / "identity"
    assert run(["bench", "init", "lab", "--folder", str(folder), "--port", "18883"]) == 0
    return folder


def test_init_makes_everything_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    for path in folder.rglob("*"):
        if path.is_file() and "key" in path.name and "pub" not in path.name:
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert folder.stat().st_mode & 0o077 == 0
    config = (folder / "broker" / "mosquitto.conf").read_text()
    assert "require_certificate true" in config and "crlfile" in config
    before = (folder / "ca.pem").read_bytes()
    assert run(["bench", "init", "lab", "--folder", str(folder)]) == 11
    assert (folder / "ca.pem").read_bytes() == before
    assert "PRIVATE" not in capsys.readouterr().out


def test_the_command_that_starts_the_broker_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my bench's"
    assert run(["bench", "init", "lab", "--folder", str(folder), "--port", "18883"]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("start the broker: ")]
    assert shlex.split(line)[-2:] == ["-c", str(folder / "broker" / "mosquitto.conf")]
    fetched = Recipe("/a b/mosquitto", ("-c", "f"), {"LD_LIBRARY_PATH": "/a b/lib"}, "f")
    assert fetched.typed() == "LD_LIBRARY_PATH='/a b/lib' '/a b/mosquitto' -c f"


def test_list_renew_and_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    words = ["--folder", str(folder), "--json"]
    request = tmp_path / "alpha.csr"
    request.write_bytes(x509.make_request(x509.make_key(), "alpha"))
    out = tmp_path / "alpha.pem"
    assert run(["bench", "identity", "issue", "alpha", str(request), "--out", str(out), "--folder", str(folder)]) == 0
    capsys.readouterr()
    assert run(["bench", "identity", "list", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["certificates"]
    assert [row["name"] for row in rows] == ["broker", "ground", "monitor", "alpha"]
    assert all(89 < row["days_left"] <= 90 for row in rows)
    key = (folder / "ground" / "key.pem").read_bytes()
    assert run(["bench", "identity", "renew", "ground", *words]) == 0
    assert (folder / "ground" / "key.pem").read_bytes() != key
    assert run(["bench", "identity", "revoke", "alpha", *words]) == 0
    store = IdentityStore(folder)
    assert store.valid("alpha") is None
    assert (folder / "broker" / "crl.pem").read_bytes() == (folder / "crl.pem").read_bytes()
    for words_, code in ((["renew", "alpha"], 2), (["revoke", "nobody"], 3)):
        assert run(["bench", "identity", *words_, "--folder", str(folder)]) in (code, 3)
    assert run(["bench", "identity", "list", "--folder", str(tmp_path / "other")]) == 3


@pytest.mark.parametrize("name", OWN)
def test_a_party_whose_key_got_out_has_a_new_one_after_its_revocation(tmp_path: Path, name: str) -> None:
    words = ["--folder", str(made(tmp_path))]
    before = IdentityStore(tmp_path / "identity").valid(name)
    assert before is not None
    assert run(["bench", "identity", "revoke", name, *words]) == 0
    assert run(["bench", "identity", "renew", name, *words]) == 0
    after = IdentityStore(tmp_path / "identity").valid(name)
    assert after is not None and after.addresses == before.addresses
    check_own_certificate(identity_files(tmp_path / "identity" / name))
    revoked = read_revocations(identity_files(tmp_path / "identity" / name)).serials
    assert revoked == {int(before.serial, 16)} and int(after.serial, 16) not in revoked


def test_a_store_never_makes_two_lists_of_one_second(tmp_path: Path) -> None:
    store = IdentityStore.create(tmp_path / "identity", "lab", ())
    files = identity_files(store.folder / "ground")
    numbers = [read_revocations(files).number]
    for name in ("monitor", "broker", "ground"):
        store.revoke(name)
        numbers.append(read_revocations(files).number)
    assert numbers == sorted(set(numbers)) and len(read_revocations(files).serials) == 3


def test_two_who_change_the_register_side_by_side_lose_nothing(tmp_path: Path) -> None:
    first = IdentityStore.create(tmp_path / "identity", "lab", ())
    second = IdentityStore(first.folder)
    for store, name in ((first, "alpha"), (second, "bravo"), (first, "charlie")):
        store.sign(name, x509.make_request(x509.make_key(), name))
    second.revoke("alpha")
    rows = {one.name: one.revoked for one in IdentityStore(first.folder).rows() if one.name not in OWN}
    assert rows == {"alpha": True, "bravo": False, "charlie": False}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few kilobytes takes root")
def test_an_authority_appears_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "small"
    place.mkdir()
    words = ["bench", "init", "lab", "--folder", str(place / "identity"), "--port", "18883"]
    codes = []
    for pages in range(1, 24):  # the disk is full one file later each time
        size = f"size={pages * os.sysconf('SC_PAGESIZE')}"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(place)], check=False).returncode:
            pytest.skip("this machine does not let root mount a tmpfs")
        try:
            codes.append(run(words))
            if (place / "identity").exists():
                store = IdentityStore(place / "identity")
                assert {one.name for one in store.rows()} == set(OWN)
                assert all((place / "identity" / name / "crl.pem").read_bytes() for name in OWN)
            else:
                assert list(place.iterdir()) == [], "nothing is left behind"
                assert "No space left on device" in capsys.readouterr().err
        finally:
            subprocess.run(["umount", str(place)], check=True)
    assert set(codes) == {0, 9} and codes[-1] == 0


def test_an_authority_goes_into_an_empty_folder_and_over_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "identity").mkdir()
    folder = made(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes").write_text("mine")
    assert run(["bench", "init", "lab", "--folder", str(tmp_path / "other")]) == 11
    assert "is not empty" in capsys.readouterr().err
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["notes"]


def test_without_a_broker_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_tools.broker.SYSTEM_FOLDERS", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["bench", "init", "lab", "--folder", str(tmp_path / "identity")]) == 9
    assert not (tmp_path / "identity").exists()


def test_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "crl.pem").unlink()
    with pytest.raises(ConfigError, match=r"crl\.pem: cannot be read: No such file"):
        IdentityStore(folder).file("crl.pem")


def test_where_a_certificate_cannot_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    request = tmp_path / "alpha.csr"
    request.write_bytes(x509.make_request(x509.make_key(), "alpha"))
    out = tmp_path / "alpha.csr" / "alpha.pem"
    assert run(["bench", "identity", "issue", "alpha", str(request), "--out", str(out), "--folder", str(folder)]) == 9
    assert f"{out}: cannot be written" in capsys.readouterr().err
