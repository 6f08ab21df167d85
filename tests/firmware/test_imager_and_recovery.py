"""The Imager's list, and NVIDIA modules found in a copied /sys."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import pytest

from firmware_tools.jetson_recovery import modules
from hil_config.door import run

WORDS = ("--url", "https://lab.example/board.img.xz", "--icon", "https://lab.example/icon.png", "--date", "2026-11-25")
REQUIRED = {
    "name", "description", "icon", "url", "extract_size", "extract_sha256", "image_download_size", "release_date",
}  # fmt: skip
"""What the Imager's schema requires of an entry."""


def test_an_imager_list(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = bytes(range(256)) * 100
    image = tmp_path / "board.img.xz"
    image.write_bytes(lzma.compress(data))
    assert run(["bench", "imager-list", str(image), *WORDS, "--device", "pi5-64bit"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["os_list"]
    assert set(one) >= REQUIRED
    assert (one["extract_size"], one["extract_sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert one["image_download_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert (one["init_format"], one["devices"]) == ("none", ["pi5-64bit"])
    assert run(["bench", "imager-list", str(image), *WORDS[:-1], "yesterday"]) == 2
    assert run(["bench", "imager-list", str(image), *WORDS[:-1], "2026-02-30"]) == 2
    image.write_bytes(image.read_bytes()[:-8])
    assert run(["bench", "imager-list", str(image), *WORDS]) == 5


def test_modules_in_recovery_mode(tmp_path: Path) -> None:
    for port, vendor, product, serial in (
        ("1-1.2", "0955", "7523", "142150"),
        ("1-1.3", "0955", "7323", ""),
        ("1-2", "0955", "7020", "x1"),
        ("2-1", "0955", "9999", ""),
        ("2-2", "8087", "7523", ""),
    ):
        folder = tmp_path / "bus/usb/devices" / port
        folder.mkdir(parents=True)
        (folder / "idVendor").write_text(f"{vendor}\n")
        (folder / "idProduct").write_text(f"{product}\n")
        if serial:
            (folder / "serial").write_text(f"{serial}\n")
    found = {one.port: one for one in modules(tmp_path)}
    assert {port: (one.name, one.state) for port, one in found.items()} == {
        "1-1.2": ("Orin Nano 8 GB", "recovery mode"),
        "1-1.3": ("Orin NX 16 GB", "recovery mode"),
        "1-2": ("unknown", "running Linux"),
        "2-1": ("unknown", "unknown"),
    }
    assert found["1-1.2"].serial == "142150"
    assert modules(tmp_path / "none") == ()


def test_the_command_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "recovery", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["modules"], list)
