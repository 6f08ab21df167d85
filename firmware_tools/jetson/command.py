"""Command lines of NVIDIA's flashing tools per module and carrier.

Forms are those of NVIDIA's Jetson Linux quick start for r35 (JetPack 5) and r36 (JetPack 6). Not tried on hardware.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from firmware_tools.jetson_recovery import RECOVERY
from hil_config.errors import ConfigError, DataFileError, UsageError

UNTESTED = "driving NVIDIA's flashing tools is tested against stand-ins only, never on hardware"
Storage = Literal["nvme", "usb", "emmc"]
EXTERNAL = {"nvme": "nvme0n1p1", "usb": "sda1"}
FLASH, INITRD = "flash.sh", "tools/kernel_flash/l4t_initrd_flash.sh"
_LAYOUTS = ("tools/kernel_flash/flash_l4t_t234_nvme.xml", "tools/kernel_flash/flash_l4t_external.xml")
_QSPI = ("bootloader/generic/cfg/flash_t234_qspi.xml", "bootloader/t186ref/cfg/flash_t234_qspi.xml")

AGX, SMALL = frozenset({"7023", "7223"}), frozenset({"7323", "7423", "7523", "7623"})
"""AGX Orin has an eMMC of its own; Orin NX and Nano boot from QSPI and keep their system outside of the module."""


class Order(msgspec.Struct, frozen=True):
    """What to flash: folder Linux_for_Tegra, name of the carrier's .conf (empty: NVIDIA's developer kit), storage."""

    folder: str
    storage: Storage
    carrier: str = ""


def carrier_of(product: str, order: Order) -> str:
    """The configuration's name.

    Raises:
        ConfigError: a module that this does not know how to flash. DataFileError: no such carrier in the folder.
    """
    if product not in AGX | SMALL:
        known = ", ".join(RECOVERY[one] for one in sorted(AGX | SMALL))
        raise ConfigError(f"0955:{product} ({RECOVERY.get(product, 'unknown')}) cannot be flashed", f"known: {known}")
    name = order.carrier or ("jetson-agx-orin-devkit" if product in AGX else "jetson-orin-nano-devkit")
    if "/" in name or not (Path(order.folder) / f"{name}.conf").is_file():
        raise DataFileError(f"{order.folder}: no carrier {name}.conf", f"--carrier; see ls {order.folder}/*.conf")
    return name


def command_of(product: str, order: Order, port: str = "", boards: int = 1) -> tuple[str, ...]:
    """Program and arguments, to be run in the folder.

    Args:
        port: the module's USB port, where several wait; boards: more than one flashes that many at once.

    Raises:
        UsageError: storage that the module does not have. DataFileError: files of the release are missing.
    """
    carrier = carrier_of(product, order)
    if order.storage == "emmc":
        if product not in AGX:
            raise UsageError(f"{RECOVERY[product]} has no eMMC", "--storage nvme or usb; SD cards: hil flash")
        if boards == 1:
            return (f"./{FLASH}", *(("--usb-instance", port) if port else ()), carrier, "internal")
    words = [f"./{INITRD}"]
    if order.storage != "emmc":
        words += ["--external-device", EXTERNAL[order.storage], "-c", _first(order.folder, _LAYOUTS)]
        if product in SMALL:
            words += ["-p", f"-c {_first(order.folder, _QSPI)}"]
    words += ["--showlogs", "--network", "usb0"]
    if boards > 1:
        words += ["--massflash", str(boards)]
    elif port:
        words += ["--usb-instance", port]
    return (*words, carrier, "internal" if product in SMALL or order.storage == "emmc" else "external")


def release_of(folder: str) -> str:
    """Such as `R36 4.3`, as the root file system says it; empty if `apply_binaries.sh` has not run."""
    try:
        first = (Path(folder) / "rootfs/etc/nv_tegra_release").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return ""
    words = first.replace(",", "").replace("#", "").split()
    return f"{words[0]} {words[words.index('REVISION:') + 1]}" if "REVISION:" in words[:-1] else words[0]


def _first(folder: str, names: tuple[str, ...]) -> str:
    for name in names:
        if (Path(folder) / name).is_file():
            return name
    raise DataFileError(f"{folder}: neither {' nor '.join(names)}", "is it the Jetson Linux release for this module?")
