"""Fetching a package without root, on a machine whose apt-get and dpkg-deb are scripts of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_tools import apt_package, broker
from hil_config.errors import EnvironmentFault

APT = """\
while [ "$1" != -c ]; do shift; done
cache=$(sed -n 's/^Dir::Cache "\\(.*\\)";$/\\1/p' "$2")
case "$*" in
*update) {update} ;;
*install*) {install} ;;
esac
"""
SUCCEED = ': > "$cache/archives/mosquitto_2.0.11_all.deb"'
UNPACK = """\
[ "$1" = -x ] || exit 2
mkdir -p "$3/usr/sbin"
printf '#!/bin/sh\\necho mosquitto version 2.0.11\\nexit 3\\n' > "$3/usr/sbin/mosquitto"
chmod 755 "$3/usr/sbin/mosquitto"
"""


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder of programs. No Mosquitto, an empty cache, and a package database."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "status").touch()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(broker, "SYSTEM_FOLDERS", str(tmp_path / "system"))
    monkeypatch.setattr(apt_package, "STATUS", tmp_path / "status")
    script(programs, "apt-get", APT.format(update=":", install=SUCCEED))
    script(programs, "dpkg-deb", UNPACK)
    return programs


def kept(machine: Path) -> list[Path]:
    """What is left in the cache folder of Mosquitto, hidden folders of a download too."""
    folder = machine.parent / "cache" / "spacemoe-hil" / "mosquitto"
    return list(folder.iterdir()) if folder.exists() else []


def test_fetched_once_and_found_from_then_on(machine: Path) -> None:
    told: list[str] = []
    first = broker.find_mosquitto(told.append)
    assert first.version == "2.0.11"
    assert [entry for entry in kept(machine) if first.program.is_relative_to(entry)] == kept(machine)
    for program in machine.iterdir():
        program.unlink()
    assert broker.find_mosquitto(told.append) == first
    assert len(told) == 1


def test_a_broken_source_is_no_reason_to_stop(machine: Path) -> None:
    script(machine, "apt-get", APT.format(update="echo 'E: one of many' >&2; exit 100", install=SUCCEED))
    assert broker.find_mosquitto().version == "2.0.11"


@pytest.mark.parametrize(
    ("install", "complaint"),
    [
        ("echo 'W: old list' >&2; echo 'E: Unable to locate package' >&2; exit 100", "E: Unable to locate"),
        ("exit 100", "exit code 100"),
        (":", "apt could not fetch it"),
    ],
)
def test_what_apt_says_reaches_the_person(machine: Path, install: str, complaint: str) -> None:
    script(machine, "apt-get", APT.format(update=":", install=install))
    with pytest.raises(EnvironmentFault, match=complaint) as caught:
        broker.find_mosquitto()
    assert caught.value.hint == "sudo apt-get install mosquitto"
    assert kept(machine) == []


@pytest.mark.parametrize(
    ("unpack", "complaint"),
    [
        ("echo 'dpkg-deb: error: No space left on device' >&2; exit 2", "No space left on device"),
        (
            UNPACK.replace("echo mosquitto version 2.0.11", "echo cannot open shared object file >&2"),
            "cannot open",
        ),
        ('mkdir -p "$3"', "is not there"),
    ],
)
def test_what_cannot_be_used_is_not_kept(machine: Path, unpack: str, complaint: str) -> None:
    script(machine, "dpkg-deb", unpack)
    with pytest.raises(EnvironmentFault, match=complaint):
        broker.find_mosquitto()
    assert kept(machine) == []


def test_a_cache_that_cannot_be_made(machine: Path) -> None:
    (machine.parent / "cache").write_text("a file where a folder is wanted")
    with pytest.raises(EnvironmentFault, match="cannot be kept in") as caught:
        broker.find_mosquitto()
    assert caught.value.hint == "sudo apt-get install mosquitto"
