"""NVIDIA modules on USB: which one it is and what it waits for, read from /sys.

Product ids are those that NVIDIA's flashing guide and public scripts name (0955 is NVIDIA): confirm them against the
guide of your JetPack. Not tried on hardware.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

VENDOR = "0955"
RECOVERY = {
    "7023": "AGX Orin 32/64 GB", "7223": "AGX Orin 32 GB", "7323": "Orin NX 16 GB", "7423": "Orin NX 8 GB",
    "7523": "Orin Nano 8 GB", "7623": "Orin Nano 4 GB", "7019": "AGX Xavier", "7e19": "Xavier NX",
}  # fmt: skip
STATES = {"7035": "flashing from its initial file system", "7020": "running Linux"}


class Module(msgspec.Struct, frozen=True):
    """A module on a USB port; `port` is the kernel's name of it (bus-port.port) and stays while the cable does.

    `devnum` is another one each time it starts anew.
    """

    port: str
    product: str
    name: str
    state: str
    serial: str = ""
    devnum: str = ""


def modules(sys: Path = Path("/sys")) -> tuple[Module, ...]:
    """Every NVIDIA module that is plugged in."""
    found = []
    for folder in sorted((sys / "bus/usb/devices").glob("*")):
        if _text(folder / "idVendor") != VENDOR:
            continue
        product = _text(folder / "idProduct")
        state = "recovery mode" if product in RECOVERY else STATES.get(product, "unknown")
        found.append(
            Module(
                folder.name, product, RECOVERY.get(product, "unknown"), state, _text(folder / "serial"),
                _text(folder / "devnum"),
            )
        )  # fmt: skip
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().lower()
    except OSError:
        return ""
