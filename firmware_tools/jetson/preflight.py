"""Everything that makes NVIDIA's tools fail half-way, looked at before. Only reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from firmware_tools.jetson.command import FLASH, INITRD, Order, release_of
from firmware_tools.jetson_recovery import Module, modules

FREE_BYTES = 30e9
"""Root file system of r36, its raw image and its sparse image, side by side, with some room."""

PROGRAMS = {
    "cpp": "cpp", "dtc": "device-tree-compiler", "exportfs": "nfs-kernel-server", "lsusb": "usbutils",
    "openssl": "openssl", "python3": "python3", "qemu-aarch64-static": "qemu-user-static", "sshpass": "sshpass",
    "xmllint": "libxml2-utils", "zstd": "zstd",
}  # fmt: skip


class Host(msgspec.Struct, frozen=True):
    """Where a machine's facts lie; tests give copies."""

    sys: str = "/sys"
    proc: str = "/proc"
    rules: tuple[str, ...] = ("/etc/udev/rules.d", "/run/udev/rules.d", "/lib/udev/rules.d")
    search: str | None = None


class Check(msgspec.Struct, frozen=True):
    """One finding. Without `must` it is advice: a flash may well succeed."""

    name: str
    ok: bool
    found: str
    do: str = ""
    must: bool = True


def preflight(order: Order, host: Host) -> tuple[Check, ...]:
    """All checks, in the order in which one mends them."""
    folder = Path(order.folder)
    missing = [name for name in (FLASH, INITRD) if not os.access(folder / name, os.X_OK)]
    release = release_of(order.folder)
    lacking = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=host.search)})
    place = folder if folder.is_dir() else Path("/")
    free = shutil.disk_usage(place).free
    return (
        Check("folder", not missing, f"no {', '.join(missing)}" if missing else order.folder,
              "unpack NVIDIA's Jetson Linux and give --l4t .../Linux_for_Tegra"),
        Check("rootfs", bool(release), release or "no rootfs/etc/nv_tegra_release",
              "unpack the sample root file system into rootfs/, then sudo ./apply_binaries.sh"),
        Check("root", os.geteuid() == 0, "root" if os.geteuid() == 0 else "not root", "sudo hil bench jetson ..."),
        Check("programs", not lacking, "all there" if not lacking else f"missing: {', '.join(lacking)}",
              f"sudo apt install {' '.join(lacking)}" if lacking else ""),
        Check("space", free >= FREE_BYTES, f"{free / 1e9:.0f} GB free, wanted {FREE_BYTES / 1e9:.0f}", "make room"),
        *_nfs(order, host),
        _autosuspend(host),
        _rules(host),
        _module(host),
    )  # fmt: skip


def _nfs(order: Order, host: Host) -> tuple[Check, ...]:
    if order.storage == "emmc":
        return ()
    loaded = "nfsd" in _text(Path(host.proc) / "filesystems").split()
    serving = _text(Path(host.proc) / "fs/nfsd/threads").strip() not in ("", "0")
    taken = _listens(host, 2049) and not serving
    return (
        Check("nfsd", loaded, "loaded" if loaded else "not in /proc/filesystems", "sudo modprobe nfsd"),
        Check("port 2049", not taken, "held by something else than nfsd" if taken else "free, or nfsd's",
              "ss -ltnp sport = 2049 names it; stop it"),
    )  # fmt: skip


def _listens(host: Host, port: int) -> bool:
    """/proc/net/tcp: local address in hexadecimal, state 0A is LISTEN."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in _text(Path(host.proc) / "net" / name).splitlines()]
    return any(len(words) > 3 and words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in lines)


def _autosuspend(host: Host) -> Check:
    path = "module/usbcore/parameters/autosuspend"
    found = _text(Path(host.sys) / path).strip()
    return Check(
        "autosuspend", found == "-1", f"{found or 'unknown'}, wanted -1", f"echo -1 | sudo tee /sys/{path}", False
    )


def _rules(host: Host) -> Check:
    for folder in host.rules:
        for path in sorted(Path(folder).glob("*.rules")):
            text = _text(path)
            if "0955" in text and "UDISKS_IGNORE" in text:
                return Check("udev", True, str(path), must=False)
    rule = 'SUBSYSTEM=="block", ATTRS{idVendor}=="0955", ENV{UDISKS_IGNORE}="1"'
    do = f"write {rule} into /etc/udev/rules.d/10-hil-jetson.rules, then sudo udevadm control --reload"
    return Check("udev", False, "no rule keeps automounters off the module's disk", do, False)


def _module(host: Host) -> Check:
    found = waiting(host)
    said = ", ".join(f"{one.name} at {one.port}" for one in found)
    others = ", ".join(f"{one.port}: {one.state}" for one in modules(Path(host.sys)) if one not in found)
    return Check("recovery", bool(found), said or f"no module in recovery mode{f' ({others})' if others else ''}",
                 "hold or bridge REC while power comes on; USB cable in the flashing port")  # fmt: skip


def waiting(host: Host) -> tuple[Module, ...]:
    """Modules in recovery mode."""
    return tuple(one for one in modules(Path(host.sys)) if one.state == "recovery mode")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
