"""What a virtual board is made of. Everything that decides its content is here or hashed from here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    "busybox-static", "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1", "zlib1g", "libffi8",
    "openssl", "linux-image-cloud-arm64",
)  # fmt: skip
WHEELS = ("numpy", "onnxruntime", "paho-mqtt", "psutil", "msgspec", "cryptography")
# With manylinux2014 alone pip takes an onnxruntime that was built for numpy 1 and does not import.
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
MODULES = (
    "kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio_pci_legacy_dev.ko", "kernel/drivers/virtio/virtio_pci_modern_dev.ko",
    "kernel/drivers/virtio/virtio_pci.ko", "kernel/net/core/failover.ko", "kernel/drivers/net/net_failover.ko",
    "kernel/drivers/net/virtio_net.ko", "kernel/fs/fat/fat.ko", "kernel/fs/fat/vfat.ko",
    "kernel/fs/nls/nls_cp437.ko", "kernel/fs/nls/nls_ascii.ko", "kernel/fs/nls/nls_iso8859-1.ko",
    "kernel/fs/nls/nls_utf8.ko",
)  # fmt: skip
"""In an order in which they can be loaded; NVMe and ext4 are built into Debian's cloud kernel."""

UNNEEDED = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n", "usr/share/perl",
    "usr/lib/aarch64-linux-gnu/perl-base", "usr/lib/aarch64-linux-gnu/gconv", "lib/modules", "boot", "var/cache",
    "usr/share/zoneinfo",
)  # fmt: skip
APPLETS = (
    "ash", "awk", "base64", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "free",
    "grep", "head", "hostname", "id", "kill", "ln", "login", "ls", "mkdir", "mount", "mv", "pidof", "printf", "ps",
    "readlink", "reboot", "rm", "sed", "sh", "sha256sum", "sleep", "sort", "stty", "sync", "tail", "tar", "test",
    "touch", "tr", "umount", "uname", "wc",
)  # fmt: skip
"""What busybox stands in for where the packages above bring nothing."""

BOOT_MIB, DISK_MIB = 96, 640
MEMORY_MIB = 512
"""onnxruntime, numpy and the reference model's shards fit; more boards fit a machine the less each takes."""

ROOTFS = Path(__file__).parent / "rootfs"
FIRSTBOOT = Path(__file__).parent.parent / "firstboot" / "hil-firstboot.sh"


def recipe_hash() -> str:
    """Names the image in the cache."""
    words: list[object] = [SUITE, PACKAGES, WHEELS, PLATFORMS, MODULES, UNNEEDED, APPLETS, BOOT_MIB, DISK_MIB]
    for path in (*sorted(ROOTFS.iterdir()), FIRSTBOOT, Path(__file__).with_name("build.py")):
        words.append([path.name, hashlib.sha256(path.read_bytes()).hexdigest()])
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
