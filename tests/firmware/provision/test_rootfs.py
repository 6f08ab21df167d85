"""Our first boot in a Jetson's root file system: a folder with the names of Linux_for_Tegra, and the scripts run in it.

Never tried on hardware.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_tools.firstboot.rootfs import HOME, UNIT, UNITS, inject, injected, withdraw
from firmware_tools.jetson.command import Order
from firmware_tools.jetson.preflight import preflight
from hil_config.door import run
from hil_config.errors import ConfigError, EnvironmentFault, UsageError
from tests.firmware.linux_for_tegra import PASSWORD, machine

BENCH = """\
bench: lab
identity: identity
broker: {host: 192.168.50.1, port: 8883}
boards:
  - name: alpha
    profile: jetson-orin-nano
    kind: jetson
    address: 10.0.0.7
    data_port: 7070
    console: {port: "socket://127.0.0.1:1", password_file: pw}
  - {name: bravo, profile: jetson-orin-nano, kind: jetson, address: 10.0.0.8, console: {port: "socket://127.0.0.1:2", password_file: pw}}
  - {name: plain, profile: raspberry-pi-5, kind: debian, address: 10.0.0.9}
"""  # noqa: E501  # YAML's own line


@pytest.fixture
def folder(tmp_path: Path, l4t: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Linux_for_Tegra beside a bench with an identity."""
    monkeypatch.chdir(tmp_path)
    for name in ("usr", "home", "opt", "var/lib", "etc/NetworkManager"):
        (l4t / "rootfs" / name).mkdir(parents=True)
    Path("bench.yaml").write_text(BENCH)
    Path("pw").write_text(f"{PASSWORD}\n")
    assert run(["bench", "init", "lab"]) == 0
    assert run(["models", "keygen", "--out", "model"]) == 0
    return l4t


def firstboot(folder: Path, *words: str) -> int:
    return run(["firstboot", *words, "--l4t", str(folder), "--ntp", "192.168.50.1", "--trust", "model.pub"])


@pytest.mark.skipif(not shutil.which("openssl"), reason="not installed: openssl")
def test_the_board_finds_its_agent_unit_and_token_and_takes_them_over_once(folder: Path, tmp_path: Path) -> None:
    assert firstboot(folder, "alpha") == 0
    rootfs, home = folder / "rootfs", folder / "rootfs" / HOME
    assert injected(rootfs) == "alpha"
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (home / "hil").iterdir()} == {0o600}
    token = (home / "hil/token").read_bytes()
    assert token and token != (home / "hil/password.hash").read_bytes()
    assert (rootfs / UNITS / "multi-user.target.wants" / UNIT).resolve() == rootfs / UNITS / UNIT
    start = next(line for line in (rootfs / UNITS / UNIT).read_text().splitlines() if line.startswith("ExecStart="))
    words = [str(rootfs) + word if word.startswith(f"/{HOME}") else word for word in start[10:].split()]

    # What the board does when it starts: its root file system, seen from here.
    done = subprocess.run(
        words, env={**os.environ, "HIL_ROOT": str(rootfs)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "hil-start: done" in done.stdout, done.stdout + done.stderr
    assert injected(rootfs) == "" and not (home / "hil").exists()
    assert (rootfs / "etc/hil/token").read_bytes() == token
    assert (rootfs / "etc/hostname").read_text() == "alpha\n"
    assert "User=root" in (rootfs / UNITS / "hil-agent.service").read_text(), "the unit of Jetsons"
    config = json.loads((rootfs / "etc/hil/agent.json").read_text())
    assert (config["node"], config["broker_host"], config["data_host"]) == ("alpha", "192.168.50.1", "10.0.0.7")
    assert (rootfs / "opt/hil/current/node_agent/cli.py").exists()
    kept = [path.read_bytes() for path in (tmp_path / ".hil").rglob("*") if path.is_file()]
    assert not any(secret in data for data in kept for secret in (token, PASSWORD.encode()))


def test_the_unit_is_sound(folder: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed: apt install systemd")
    inject(folder / "rootfs", {"firstboot.env": b"NODE=alpha\n"})
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / "rootfs" / UNITS / UNIT)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and UNIT not in done.stderr, done.stderr


def test_it_is_replaced_and_withdrawn_whole(folder: Path) -> None:
    rootfs = folder / "rootfs"
    inject(rootfs, {"firstboot.env": b"NODE=alpha\n", "old": b"1"})
    inject(rootfs, {"firstboot.env": b"NODE=bravo\n", "token": b"secret-of-a-test"})
    assert injected(rootfs) == "bravo" and not (rootfs / HOME / "hil/old").exists()
    assert [path.name for path in (rootfs / HOME).iterdir()] == ["hil"]
    with open(rootfs / HOME / "hil/token", "rb") as held:
        withdraw(rootfs)
        assert held.read() == bytes(len(b"secret-of-a-test")), "overwritten before it was removed"
    withdraw(rootfs)
    assert injected(rootfs) == ""
    (rootfs / HOME).rmdir()
    (rootfs / HOME).write_text("in the way")
    with pytest.raises(EnvironmentFault, match="File exists"):
        inject(rootfs, {"firstboot.env": b"NODE=alpha\n"})
    with pytest.raises(ConfigError, match="is no root file system"):
        inject(folder, {})


def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert firstboot(folder, "plain") == ConfigError.exit_code
    assert firstboot(folder, "alpha", "bravo") == UsageError.exit_code
    assert firstboot(folder, "alpha", "--flavour", "hil") == UsageError.exit_code
    said = capsys.readouterr().err
    for words in ("not jetson", "holds the first boot of one board", "a Jetson's root file system is a folder"):
        assert words in said
    assert injected(folder / "rootfs") == ""


def test_a_flash_takes_the_first_boot_of_its_own_board_and_withdraws_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = machine(tmp_path)
    home = Path(host.sys).parent
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    own = [one for one in preflight(Order(str(folder), "nvme"), host) if one.must and not one.ok]
    if own:
        pytest.skip(f"this machine: {', '.join(f'{one.name}: {one.found}' for one in own)}")
    assert firstboot(folder, "bravo") == 0
    words = ["bench", "jetson", "flash", "alpha", "--l4t", str(folder), "--machine", str(home), "--yes", "alpha"]
    capsys.readouterr()
    assert run(words) == ConfigError.exit_code
    assert "holds the first boot of bravo, to flash: alpha" in capsys.readouterr().err
    assert firstboot(folder, "alpha") == 0
    tool = folder / "tools/kernel_flash/l4t_initrd_flash.sh"
    good = tool.read_text()
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert run([*words, "--attempts", "1"]) != 0
    assert injected(folder / "rootfs") == "alpha", "for the next attempt"
    tool.write_text(good)
    assert run(words) == 0, capsys.readouterr()
    assert injected(folder / "rootfs") == ""
    assert "no first boot of ours" not in capsys.readouterr().err


@pytest.mark.parametrize("user", ["a b", "-x", "hil ALL=(ALL) ALL", "x" * 33])
def test_a_user_who_cannot_be_is_refused_before_a_token_is_made(
    folder: Path, user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bench.yaml").write_text(BENCH.replace("{port:", f'{{user: "{user}", port:', 1))
    assert firstboot(folder, "alpha") == ConfigError.exit_code
    assert f"board alpha: console.user {user!r} is no name for a user" in capsys.readouterr().err
    assert not list(Path("identity").rglob("alpha.json")) and injected(folder / "rootfs") == ""


@pytest.mark.parametrize(
    ("old", "key"), [("host: 192.168.50.1", "broker.host"), ("    address: 10.0.0.7\n    data_port: 7070\n", "address")]
)
def test_an_agent_that_would_look_for_the_bench_on_its_own_board(
    folder: Path, old: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert BENCH.count(old) == 1
    Path("bench.yaml").write_text(BENCH.replace(old, "host: localhost" if "host" in old else ""))
    assert firstboot(folder, "alpha") == ConfigError.exit_code
    assert f"board alpha: {key} is " in (said := capsys.readouterr().err) and "is the board itself" in said
    assert not list(Path("identity").rglob("alpha.json")) and injected(folder / "rootfs") == ""


def test_a_password_that_is_none_ends_no_token(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert firstboot(folder, "alpha") == 0
    token = Path("identity/tokens/alpha.json").read_text()
    Path("pw").write_text("\n")
    assert firstboot(folder, "alpha") == ConfigError.exit_code
    assert "its first line is empty" in capsys.readouterr().err
    assert Path("identity/tokens/alpha.json").read_text() == token
