"""What an image does on its first boot, told from the files of its boot partition.

A configuration in the wrong form is ignored in silence by every image: therefore a form that does not fit is refused.
Not tried with images of these distributions: the forms are those of their documentation and of Raspberry Pi Imager.
"""

from __future__ import annotations

import re

import msgspec

from firmware_tools.firstboot.inject import BootPartition
from hil_config.errors import ConfigError, DataFileError

SEED_FILES = frozenset({"user-data", "meta-data", "network-config"})
PI_FILES = frozenset({"config.txt", "cmdline.txt"})
BOOKWORM = "2023-10"
"""First Raspberry Pi OS whose boot partition is at /boot/firmware; `issue.txt` begins with the image's date."""

FLAVOURS = {
    "rpi-cloud-init": "Raspberry Pi OS with cloud-init (Trixie)",
    "rpi-firstrun": "Raspberry Pi OS without cloud-init (Bookworm)",
    "ubuntu": "Ubuntu for Raspberry Pi (cloud-init, system-boot)",
    "nocloud": "a cloud-init seed (FAT labelled CIDATA)",
    "hil": "an image that runs hil-firstboot.sh by itself",
}
CLOUD_INIT = frozenset({"rpi-cloud-init", "ubuntu", "nocloud"})


class Seen(msgspec.Struct, frozen=True):
    """What tells flavours apart: names in the root of the boot partition, its label, the date in issue.txt."""

    names: frozenset[str]
    label: str = ""
    date: str = ""


def look(boot: BootPartition) -> Seen:
    """Read it from a boot partition."""
    names = frozenset(name.lower() for name in boot.names())
    date = ""
    if "issue.txt" in names:
        match = re.search(r"\d{4}-\d{2}-\d{2}", boot.read("issue.txt").decode(errors="replace"))
        date = match[0] if match else ""
    return Seen(names, boot.label().lower(), date)


def detect(seen: Seen) -> str:
    """The flavour, or an empty string."""
    if seen.label == "cidata":
        return "nocloud"
    if seen.names >= PI_FILES:
        if seen.label == "system-boot" and seen.names & SEED_FILES:
            return "ubuntu"
        return "rpi-cloud-init" if seen.names & SEED_FILES else "rpi-firstrun"
    return ""


def choose(seen: Seen, asked: str, where: str) -> str:
    """The flavour to write.

    Raises:
        DataFileError: it cannot be told, or the image is too old. ConfigError: the one asked for does not fit.
    """
    found = detect(seen)
    flavour = asked or found
    if not flavour:
        some = ", ".join(sorted(seen.names)[:6]) or "no files"
        raise DataFileError(
            f"{where}: cannot tell what its image does on a first boot (label {seen.label or 'none'!r}; {some})",
            f"name it with --flavour: {', '.join(FLAVOURS)}",
        )
    wrong = _misfit(flavour, seen)
    if wrong:
        looks = f"it looks like {found}: {FLAVOURS[found]}" if found else "no flavour fits"
        hint = f"leave --flavour out, or --flavour {found}" if found else "flash another image"
        raise ConfigError(f"{where}: flavour {flavour} does not fit: {wrong}; {looks}", hint)
    if flavour.startswith("rpi-") and seen.date and seen.date < BOOKWORM:
        raise DataFileError(f"{where}: Raspberry Pi OS of {seen.date}, older than Bookworm", "flash a newer image")
    return flavour


def _misfit(flavour: str, seen: Seen) -> str:
    if flavour in ("rpi-cloud-init", "rpi-firstrun", "ubuntu") and not seen.names >= PI_FILES:
        return f"no {' and '.join(sorted(PI_FILES - seen.names))} on its boot partition"
    if flavour in ("rpi-cloud-init", "ubuntu") and not seen.names & SEED_FILES:
        return "no user-data on its boot partition, so it has no cloud-init that reads it there"
    if flavour == "rpi-firstrun" and seen.names & SEED_FILES:
        return "it has user-data, so it is configured by cloud-init"
    if flavour == "rpi-cloud-init" and seen.label == "system-boot":
        return "its boot partition is labelled system-boot"
    if flavour == "ubuntu" and seen.label.startswith("boot"):
        return f"its boot partition is labelled {seen.label}"
    if flavour == "nocloud" and seen.label != "cidata":
        return f"cloud-init looks for a file system labelled CIDATA, this is {seen.label or 'unlabelled'!r}"
    if flavour == "hil" and detect(seen) not in ("", "nocloud"):
        return "its image does not run hil-firstboot.sh"
    return ""
