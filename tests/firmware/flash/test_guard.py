"""What is never overwritten, on a kernel tree of a test's own, and on real loop devices where root has them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.flash.disk import System, disks, find_disk
from firmware_tools.flash.guard import check_target
from firmware_tools.flash.job import Job, Order
from hil_config.errors import HardwareError, HilError, SafetyRefusal
from hil_config.schema.hardware import Disk
from tests.firmware.flash.desk import BLOCK, Bench

MAX = 1 << 40


class Tree:
    """/sys, /dev and /proc as the kernel writes them."""

    def __init__(self, root: Path) -> None:
        self.system = System(root / "sys", root / "dev", root / "proc", root / "udev")
        for folder in ("sys/block", "sys/dev/block", "dev/disk/by-path", "proc/self", "udev"):
            (root / folder).mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text("")
        (root / "proc/swaps").write_text("Filename Type Size Used Priority\n")

    def disk(self, name: str, number: str, sectors: int = 8192, **files: str) -> Path:
        folder = self.system.sys / "devices" / name
        (folder / "device").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        (folder / "size").write_text(f"{sectors}\n")
        for path, text in files.items():
            file = folder / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (self.system.sys / "block" / name).symlink_to(folder)
        (self.system.sys / "dev/block" / number).symlink_to(folder)
        (self.system.dev / name).write_bytes(bytes(1 << 20))
        return folder

    def part(self, disk: Path, name: str, number: str) -> Path:
        folder = disk / name
        folder.mkdir()
        (folder / "dev").write_text(f"{number}\n")
        (folder / "partition").write_text("1\n")
        (self.system.sys / "dev/block" / number).symlink_to(folder)
        return folder

    def mount(self, number: str, place: str, source: str = "/dev/none") -> None:
        with open(self.system.proc / "self/mountinfo", "a") as file:
            file.write(f"22 1 {number} / {place} rw,relatime shared:1 - ext4 {source} rw\n")

    def check(self, **name: str) -> None:
        check_target(find_disk(Disk(**name), self.system), MAX, self.system)  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def refused(tree: Tree, **name: str) -> str:
    with pytest.raises(SafetyRefusal) as caught:
        tree.check(**name)
    assert caught.value.hint
    return caught.value.message


def test_serials_as_each_kind_of_disk_shows_them(tree: Tree) -> None:
    tree.disk("mmcblk0", "179:0", device__serial="0x1234abcd\n", device__name="SD32G\n")
    tree.disk("nvme0n1", "259:0", device__serial="S1ORIN07    \n", device__model="Fast 980\n", wwid="eui.0025\n")
    scsi = tree.disk("sda", "8:0")
    (scsi / "device" / "vpd_pg80").write_bytes(b"\0\x80\0\x08WD-12345")
    usb = tree.disk("sdb", "8:16")
    (usb / "idVendor").write_text("0781\n")
    (usb / "serial").write_text("4C53\n")
    tree.disk("sdc", "8:32")
    (tree.system.udev / "b8:32").write_text("N:sdc\nE:ID_SERIAL_SHORT=UDEV7\nE:ID_WWN=0x5000\n")
    found = {one.name: one for one in disks(tree.system)}
    assert {name: one.serial for name, one in found.items()} == {
        "mmcblk0": "0x1234abcd", "nvme0n1": "S1ORIN07", "sda": "WD-12345", "sdb": "4C53", "sdc": "UDEV7",
    }  # fmt: skip
    assert find_disk(Disk(wwn="eui.0025"), tree.system).node.endswith("nvme0n1")
    assert find_disk(Disk(wwn="0x5000"), tree.system).node.endswith("sdc")
    assert found["mmcblk0"].size == 8192 * 512 and found["mmcblk0"].model == "SD32G"
    for serial in ("0x1234abcd", "S1ORIN07", "WD-12345", "4C53"):
        tree.check(serial=serial)


def test_another_serial(tree: Tree) -> None:
    tree.disk("sda", "8:0", device__serial="A1\n")
    with pytest.raises(HardwareError) as caught:
        tree.check(serial="A2")
    assert "no disk with serial A2" in caught.value.message and "serial A1" in caught.value.message


def test_two_disks_with_one_serial(tree: Tree) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16")):
        tree.disk(name, number, device__serial="0123456789ABCDEF\n")
    assert "both have it" in refused(tree, serial="0123456789ABCDEF")


def test_by_path_is_a_whole_disk_or_nothing(tree: Tree) -> None:
    disk = tree.disk("sda", "8:0")
    tree.part(disk, "sda1", "8:1")
    (tree.system.dev / "sda1").touch()
    links = tree.system.dev / "disk/by-path"
    (links / "usb-0:1").symlink_to(tree.system.dev / "sda")
    (links / "usb-0:1-part1").symlink_to(tree.system.dev / "sda1")
    tree.check(by_path="usb-0:1")
    assert "not a whole disk" in refused(tree, by_path="usb-0:1-part1")
    with pytest.raises(HardwareError, match="usb-0:1"):
        tree.check(by_path="usb-0:2")


def test_system_disk_and_what_is_mounted(tree: Tree) -> None:
    disk = tree.disk("sda", "8:0", device__serial="A\n")
    tree.part(disk, "sda1", "8:1")
    tree.mount("8:1", "/media/my\\040card")
    assert "mounted on /media/my card" in refused(tree, serial="A")
    tree.mount("8:1", "/")
    assert "holds the system (/)" in refused(tree, serial="A")


def test_a_disk_below_lvm_below_the_system(tree: Tree) -> None:
    disk = tree.disk("sda", "8:0", device__serial="A\n")
    part = tree.part(disk, "sda3", "8:3")
    mapped = tree.disk("dm-0", "253:0")
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "sda3").symlink_to(part)
    (part / "holders").mkdir()
    (part / "holders" / "dm-0").symlink_to(mapped)
    tree.mount("253:0", "/")
    message = refused(tree, serial="A")
    assert "holds the system" in message and "sda3 is held by dm-0" in message


@pytest.mark.parametrize(
    ("offset", "sign", "what"),
    [
        (512, b"LABELONE", "LVM"),
        (4096, b"\xfc\x4e\x2b\xa9", "RAID"),
        (0, b"LUKS\xba\xbe", "encrypted"),
        (4086, b"SWAPSPACE2", "swap"),
    ],
)
@pytest.mark.parametrize("begin", [0, 2048 * 512])
def test_what_nobody_overwrites_lightly(tree: Tree, offset: int, sign: bytes, what: str, begin: int) -> None:
    tree.disk("sda", "8:0", device__serial="A\n")
    content = bytearray(2 << 20)
    content[begin + offset : begin + offset + len(sign)] = sign
    if begin:  # in the first partition
        content[446:462] = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + b"\0\x04\0\0"
        content[510:512] = b"\x55\xaa"
    (tree.system.dev / "sda").write_bytes(content)
    message = refused(tree, serial="A")
    assert what in message and ("partition 1" in message) == bool(begin)


def test_size_and_write_protection(tree: Tree) -> None:
    tree.disk("sda", "8:0", sectors=1 << 33, device__serial="A\n")
    tree.disk("sdb", "8:16", sectors=0, device__serial="B\n")
    tree.disk("sdc", "8:32", device__serial="C\n", ro="1\n")
    assert "more than max_gb" in refused(tree, serial="A")
    for serial, words in (("B", "no medium"), ("C", "write-protected")):
        with pytest.raises(HardwareError, match=words):
            tree.check(serial=serial)


def test_this_machine_s_own_disk() -> None:
    """Whatever holds / here is refused under whatever name it is found."""
    system = System()
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/")
    source = line.split(" - ")[1].split()[1]
    if not source.startswith("/dev/") or not os.path.exists(source):
        pytest.skip(f"/ is on {source}, which is no disk")
    number = os.stat(source).st_rdev
    name = Path(os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))
    whole = name.parent.name if (name / "partition").exists() else name.name
    disk = next((one for one in disks(system) if one.name == whole), None)
    if disk is None:
        pytest.skip(f"/ is on {whole}, which is made of other disks")
    with pytest.raises(SafetyRefusal, match="holds the system"):
        check_target(disk, 1 << 60, system)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(device, backing file) of a loop device."""
    if os.geteuid() != 0:
        pytest.skip("attaching a loop device takes root")
    backing = tmp_path / "backing.img"
    backing.write_bytes(bytes(4 << 20))
    done = subprocess.run(
        ["losetup", "--direct-io=on", "--find", "--show", str(backing)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        yield done.stdout.strip(), backing
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def on_loop(bench: Bench, backing: Path) -> Job:
    return Job("alpha", Disk(loop_file=str(backing)), MAX, Order(str(bench.image)), bench.state, System(), BLOCK)


def test_a_loop_device(bench: Bench, loop: tuple[str, Path]) -> None:
    device, backing = loop
    job = on_loop(bench, backing)
    plan = job.plan()
    assert plan.disk.node == device
    receipt, _ = job.run(plan, lambda *_: None)
    assert receipt.result.readback == "direct"
    assert backing.read_bytes()[: bench.image.stat().st_size] == bench.image.read_bytes()
    with pytest.raises(SafetyRefusal, match="attached"):  # the file itself is not written below the device
        bench._replace(card=backing).flash()


def test_a_mounted_loop_device_and_one_that_is_open(bench: Bench, loop: tuple[str, Path], tmp_path: Path) -> None:
    device, backing = loop
    holder = os.open(device, os.O_RDWR | os.O_EXCL)
    job = on_loop(bench, backing)
    plan = job.plan()
    try:
        with pytest.raises(SafetyRefusal, match="somebody else"):
            job.run(plan, lambda *_: None)
    finally:
        os.close(holder)
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    place = tmp_path / "mount"
    place.mkdir()
    if subprocess.run(["mount", device, str(place)], check=False).returncode:
        pytest.skip("this machine does not let root mount a loop device")
    try:
        with pytest.raises(SafetyRefusal, match=f"mounted on {place}"):
            on_loop(bench, backing).plan()
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert bench.receipts() == []


def test_a_read_only_loop_device(bench: Bench, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("attaching a loop device takes root")
    backing = tmp_path / "locked.img"
    backing.write_bytes(bytes(4 << 20))
    done = subprocess.run(
        ["losetup", "--read-only", "--find", "--show", str(backing)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        with pytest.raises(HilError) as caught:
            on_loop(bench, backing).plan()
        assert caught.value.exit_code == 6 and "write-protected" in caught.value.message
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)
