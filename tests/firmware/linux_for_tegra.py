"""A folder with the names and the behaviour of NVIDIA's tools, and a machine that they are used on. Not a test."""

from __future__ import annotations

from pathlib import Path

from firmware_tools.jetson.preflight import PROGRAMS, Host

PASSWORD = "plain-words-nobody-may-see"
GOOD = """\
***************************************
*  Step 1: Generate flash packages *
***************************************
Making system.img...
populating rootfs from /l4t/rootfs ... done.
*  Step 2: Boot the device with flash initrd image *
[   0.0383 ] Boot Rom communication
[   0.0395 ] Sending bct_br
[   0.0395 ] Sending mb1
*  Step 3: Start the flashing process *
Waiting for target to boot-up...
Waiting for device to expose ssh ......Device should have booted into initrd kernel now.
SSH ready
Flash index file is /mnt/internal/flash.idx
[ 2]: l4t_flash_from_kernel: Starting to flash to external storage
Writing system.img partition
[..................]  40%
[..................]  100%
Successfully flash the external device
[ 102]: l4t_flash_from_kernel: Successfully flash the qspi
Flash is successful
Reboot device
"""
USB = """\
[   0.0380 ] Boot Rom communication
[   0.0395 ] Sending bct_br
[   0.0399 ] ERROR: might be timeout in USB write.
Error: Return value 3
Command tegrarcm_v2 --instance 1-2 --new_session --chip 0x23 0 --uid --download bct_br br_bct_BR.bct
"""
PING = """\
*  Step 3: Start the flashing process *
Waiting for target to boot-up...
16:12:15.019 - Error: Timeout
16:12:15.022 - Error: Device ping failed after RCM boot.
"""


def module(tree: Path, port: str, product: str, devnum: str = "6") -> None:
    folder = tree / "bus/usb/devices" / port
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("idVendor", "0955"), ("idProduct", product), ("devnum", devnum)):
        (folder / name).write_text(f"{text}\n")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def make_l4t(folder: Path) -> Path:
    """Of r36, in a new folder."""
    for name in (
        "tools/kernel_flash/flash_l4t_t234_nvme.xml", "bootloader/generic/cfg/flash_t234_qspi.xml",
        "jetson-orin-nano-devkit.conf", "jetson-agx-orin-devkit.conf", "mine.conf",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    etc = folder / "rootfs/etc"
    etc.mkdir(parents=True)
    (etc / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/bash\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (etc / "shadow").chmod(0o640)
    executable(folder / "flash.sh", 'echo "The target generic has been flashed successfully."\n')
    executable(folder / "tools/kernel_flash/l4t_initrd_flash.sh", f"cat <<'EOF'\n{GOOD}EOF\n")
    executable(
        folder / "tools/l4t_create_default_user.sh",
        'echo "$@" >>args\necho "$2:x:1000:1000::/home/$2:/bin/bash" >>rootfs/etc/passwd\n'
        'echo "$2:made-up:19000:0:99999:7:::" >>rootfs/etc/shadow\necho "Password: made-up"\n',
    )
    return folder


def machine(tmp_path: Path, **changes: str) -> Host:
    """A machine on which nothing is amiss, as files; `changes` replaces files of it."""
    texts = {
        "sys/module/usbcore/parameters/autosuspend": "-1\n", "proc/filesystems": "nodev\tnfsd\n\text4\n",
        "proc/fs/nfsd/threads": "8\n",
        "proc/net/tcp": "  sl  local_address rem_address   st\n   0: 00000000:0801 00000000:0000 0A 00000000\n",
        "rules/10-x.rules": 'SUBSYSTEM=="block", ATTRS{idVendor}=="0955", ENV{UDISKS_IGNORE}="1"\n', **changes,
    }  # fmt: skip
    home = tmp_path / "machine"
    for name, text in texts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    for name in PROGRAMS:
        executable(home / "bin" / name, "")
    module(home / "sys", "1-2", "7523")
    return Host(f"{home}/sys", f"{home}/proc", (f"{home}/rules",), f"{home}/bin")
