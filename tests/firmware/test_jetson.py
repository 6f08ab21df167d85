"""NVIDIA's tools, driven: a copied /sys, and shell scripts in place of Linux_for_Tegra. Never tried on hardware."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from firmware_tools.firstboot.crypt_hash import sha512_crypt
from firmware_tools.jetson.cli import _cycler
from firmware_tools.jetson.command import UNTESTED, Order, carrier_of, command_of, release_of
from firmware_tools.jetson.default_user import create_user
from firmware_tools.jetson.flash_log import Reader
from firmware_tools.jetson.preflight import preflight
from firmware_tools.state import State
from hil_config.door import run
from hil_config.errors import ConfigError, DataFileError, EnvironmentFault, HardwareError, UsageError
from hil_config.schema.load import load_bench
from tests.firmware.linux_for_tegra import GOOD, PASSWORD, PING, USB, executable, machine, module

LOGS = {
    "usb": USB, "ping": PING,
    "eeprom": "Board ID(3767) version(300) sku(0005)\nERROR: carrier EEPROM is blank, using DummySN\n",
    "missing": "./l4t_initrd_flash.sh: line 12: sshpass: command not found\n",
    "space": "tar: ./usr/lib/x: Cannot write: No space left on device\nError: Return value 2\n",
    "nfs": "clnt_create: RPC: Program not registered\n",
    "absent": "Error: probing the target board failed.\n",
    "busy": "Error: partprobe failed after partitioning /dev/sdb\n",
    "tool": "Error: Return value 4\n",
}  # fmt: skip


def test_a_good_log_is_progress() -> None:
    reader, seen = Reader(), [0]
    for line in GOOD.splitlines():
        reader.feed(line)
        seen.append(reader.percent)
    assert seen == sorted(seen) and reader.done and reader.percent == 100 and reader.cause() is None
    assert len(set(seen)) > 8 and 70 in seen, "40 % of the writing are 70 % of all"


@pytest.mark.parametrize("name", LOGS)
def test_causes(name: str) -> None:
    reader = Reader()
    for line in LOGS[name].splitlines():
        reader.feed(line)
    found = reader.cause()
    assert found is not None and found[0].name == name and not reader.done
    assert found[0].cycle == (name in ("usb", "ping", "absent", "busy"))


def test_command_lines(l4t: Path) -> None:
    nvme, emmc, usb = (Order(str(l4t), kind) for kind in ("nvme", "emmc", "usb"))
    small = "./tools/kernel_flash/l4t_initrd_flash.sh --external-device nvme0n1p1 -c " + (
        "tools/kernel_flash/flash_l4t_t234_nvme.xml -p"
    )
    qspi = "-c bootloader/generic/cfg/flash_t234_qspi.xml"
    tail = ("--showlogs", "--network", "usb0")
    assert command_of("7523", nvme) == (*small.split(), qspi, *tail, "jetson-orin-nano-devkit", "internal")
    assert command_of("7323", nvme, "1-2") == (
        *small.split(), qspi, *tail, "--usb-instance", "1-2", "jetson-orin-nano-devkit", "internal",
    )  # fmt: skip
    assert "sda1" in command_of("7523", usb)
    assert command_of("7523", nvme, "1-2", 4)[-4:] == ("--massflash", "4", "jetson-orin-nano-devkit", "internal")
    assert command_of("7023", emmc) == ("./flash.sh", "jetson-agx-orin-devkit", "internal")
    agx = command_of("7023", nvme)
    assert agx[-1] == "external" and "-p" not in agx and "jetson-agx-orin-devkit" in agx
    assert carrier_of("7523", Order(str(l4t), "nvme", "mine")) == "mine"
    assert release_of(str(l4t)) == "R36 4.3"


def test_command_lines_that_cannot_be(l4t: Path) -> None:
    with pytest.raises(UsageError, match="has no eMMC"):
        command_of("7523", Order(str(l4t), "emmc"))
    with pytest.raises(ConfigError, match="Xavier NX"):
        command_of("7e19", Order(str(l4t), "nvme"))
    for carrier in ("other", "../mine"):
        with pytest.raises(DataFileError, match="no carrier"):
            command_of("7523", Order(str(l4t), "nvme", carrier))
    (l4t / "tools/kernel_flash/flash_l4t_t234_nvme.xml").unlink()
    with pytest.raises(DataFileError, match="neither"):
        command_of("7523", Order(str(l4t), "nvme"))
    (l4t / "tools/kernel_flash/flash_l4t_external.xml").write_text("")
    assert "tools/kernel_flash/flash_l4t_external.xml" in command_of("7523", Order(str(l4t), "nvme")), "r35's name"


def test_preflight_finds_nothing_on_a_sound_machine(tmp_path: Path, l4t: Path) -> None:
    bad = {one.name for one in preflight(Order(str(l4t), "nvme"), machine(tmp_path)) if not one.ok}
    assert bad <= {"root", "space"}, "these two are this machine's own"
    assert {"nfsd", "port 2049"}.isdisjoint(one.name for one in preflight(Order(str(l4t), "emmc"), machine(tmp_path)))


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("nfsd", "proc/filesystems", "\text4\n"),
        ("port 2049", "proc/fs/nfsd/threads", "0\n"),
        ("autosuspend", "sys/module/usbcore/parameters/autosuspend", "2\n"),
        ("udev", "rules/10-x.rules", "# nothing\n"),
    ],
)
def test_preflight_names_what_is_amiss(tmp_path: Path, l4t: Path, name: str, path: str, text: str) -> None:
    found = {one.name: one for one in preflight(Order(str(l4t), "nvme"), machine(tmp_path, **{path: text}))}
    assert not found[name].ok and found[name].do
    assert found[name].must == (name in ("nfsd", "port 2049"))


def test_preflight_without_module_folder_and_programs(tmp_path: Path, l4t: Path) -> None:
    host = machine(tmp_path)
    module(tmp_path / "machine/sys", "1-2", "7020")
    (tmp_path / "machine/bin/dtc").unlink()
    found = {one.name: one for one in preflight(Order(str(l4t), "nvme"), host)}
    assert not found["recovery"].ok and "1-2: running Linux" in found["recovery"].found
    assert "device-tree-compiler" in found["programs"].do
    empty = {one.name: one for one in preflight(Order(str(tmp_path / "none"), "nvme"), host)}
    assert not empty["folder"].ok and not empty["rootfs"].ok


def test_the_user_is_made_without_a_password_among_the_arguments(l4t: Path) -> None:
    owner = (0, 42) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(l4t / "rootfs/etc/shadow", *owner)
    assert create_user(l4t, "hil", "alpha", PASSWORD)
    assert not create_user(l4t, "hil", "bravo", PASSWORD), "the second time there is nothing to make"
    shadow = l4t / "rootfs/etc/shadow"
    line = next(line for line in shadow.read_text().splitlines() if line.startswith("hil:"))
    hashed = line.split(":")[1]
    assert sha512_crypt(PASSWORD, hashed.split("$")[2]) == hashed and shadow.stat().st_mode & 0o777 == 0o640
    assert (shadow.stat().st_uid, shadow.stat().st_gid) == owner
    assert (l4t / "args").read_text() == "-u hil -n alpha -a --accept-license\n"
    assert (l4t / "rootfs/etc/hostname").read_text() == "bravo\n"
    for name in ("Hil", "a b", "-p", ""):
        with pytest.raises(UsageError):
            create_user(l4t, name, "alpha", PASSWORD)
    executable(l4t / "tools/l4t_create_default_user.sh", "exit 1\n")
    with pytest.raises(EnvironmentFault, match="ended with 1"):
        create_user(l4t, "other", "alpha", PASSWORD)


def test_a_power_cycle_that_is_stopped_leaves_no_board_off(tmp_path: Path) -> None:
    path, said = tmp_path / "bench.yaml", tmp_path / "said"
    on, off = f"echo on >{said}", f"echo off >{said}; kill -INT $PPID"
    power = f'{{via: command, on_command: [sh, -c, "{on}"], off_command: [sh, -c, "{off}"]}}'
    path.write_text(f"bench: lab\nboards: [{{name: a, profile: jetson-orin-nano, kind: jetson, power: {power}}}]\n")
    bench = load_bench(path)
    cycle = _cycler(bench.boards, bench, State(path))
    assert cycle is not None
    with pytest.raises(KeyboardInterrupt):
        cycle()
    assert said.read_text() == "on\n"


BENCH = """\
bench: lab
boards:
  - {name: alpha, profile: jetson-orin-nano, kind: jetson, console: {port: "socket://127.0.0.1:1", password_file: pw}}
  - {name: bravo, profile: jetson-orin-nano, kind: jetson}
  - {name: plain, profile: local-process}
"""


def test_the_commands(
    tmp_path: Path, l4t: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    machine(tmp_path)
    Path("bench.yaml").write_text(BENCH)
    Path("pw").write_text(f"{PASSWORD}\n")
    tree, home = str(tmp_path / "machine/sys"), str(tmp_path / "machine")
    words = ["bench", "jetson", "flash", "alpha", "--l4t", str(l4t), "--machine", home]
    assert run([*words, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert UNTESTED in said.err and "--usb-instance 1-2 jetson-orin-nano-devkit internal" in said.out
    assert run(["bench", "jetson", "flash", "plain", "--l4t", str(l4t)]) == ConfigError.exit_code
    assert run([*words, "bravo", "--dry-run"]) == HardwareError.exit_code, "two boards, one module"
    module(Path(tree), "1-3", "7523")
    assert run([*words, "bravo", "--dry-run", "--json"]) == 0
    capsys.readouterr()
    module(Path(tree), "1-3", "7323")
    assert run([*words, "bravo", "--dry-run"]) == HardwareError.exit_code, "two kinds"
    assert run([*words, "--port", "1-9", "--dry-run"]) == HardwareError.exit_code
    capsys.readouterr()
    code = run(["bench", "jetson", "check", "--l4t", str(l4t), "--machine", home, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (code == 0) == answer["ok"] and answer["tested"] == UNTESTED


def test_the_whole_command_leaves_a_receipt_and_no_password(
    tmp_path: Path, l4t: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    host = machine(tmp_path)
    home = Path(host.sys).parent
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    own = [one for one in preflight(Order(str(l4t), "nvme"), host) if one.must and not one.ok]
    if own:
        pytest.skip(f"this machine: {', '.join(f'{one.name}: {one.found}' for one in own)}")
    Path("bench.yaml").write_text(BENCH)
    Path("pw").write_text(f"{PASSWORD}\n")
    words = ["bench", "jetson", "flash", "alpha", "--l4t", str(l4t), "--machine", str(home)]
    assert run(words) == UsageError.exit_code, "nobody said yes"
    capsys.readouterr()
    assert run([*words, "--yes", "alpha", "--json"]) == 0
    (receipt,) = json.loads(capsys.readouterr().out)["boards"]
    assert receipt["tested"] == UNTESTED and receipt["attempts"] == 1 and receipt["release"] == "R36 4.3"
    kept = [path.read_bytes() for path in (tmp_path / ".hil").rglob("*") if path.is_file()]
    assert len(kept) >= 2 and not any(PASSWORD.encode() in data for data in kept)
    assert os.access(receipt["log"], os.R_OK)
