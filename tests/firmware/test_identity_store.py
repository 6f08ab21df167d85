"""`hil bench init` and the certificates of a bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firmware_tools import identity as x509
from firmware_tools.identity_store import OWN, IdentityStore
from hil_config.door import run
from hil_config.revocation import read_revocations
from hil_config.tls import identity_files


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
