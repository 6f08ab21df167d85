"""A list for Raspberry Pi Imager, so that people can flash our image with the program they know.

Fields as in the Imager's own schema (doc/json-schema/os-list-schema.json and os-sublist-example.json of
github.com/raspberrypi/rpi-imager). Sizes and hashes come from reading the whole image.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from firmware_tools.flash.image import Image
from hil_config.errors import UsageError

INIT_FORMATS = ("none", "systemd", "cloudinit", "cloudinit-rpi")
"""How the Imager may customise the image; with the wrong one it silently does nothing."""


def entry(
    image: Path, url: str, name: str, description: str, icon: str, release_date: str, init_format: str,
    devices: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """One operating system of the list.

    Raises:
        UsageError: a value that the Imager would refuse. ArtefactError: the image is damaged.
    """
    try:
        if date.fromisoformat(release_date).isoformat() != release_date:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"release date {release_date!r}, wanted YYYY-MM-DD", "for instance 2026-11-25") from error
    for what, text in (("url", url), ("icon", icon)):
        if not text.startswith(("http://", "https://")):
            raise UsageError(f"{what} {text!r}: the Imager takes http or https", "give the address it is published at")
    if init_format not in INIT_FORMATS:
        raise UsageError(f"init format {init_format!r}, wanted one of {', '.join(INIT_FORMATS)}", "none is safe")
    facts = Image(str(image)).inspect()
    return {
        "name": name, "description": description, "icon": icon, "url": url,
        "extract_size": facts.size, "extract_sha256": facts.sha256,
        "image_download_size": image.stat().st_size, "image_download_sha256": facts.file_sha256,
        "release_date": release_date, "init_format": init_format, "devices": list(devices),
    }  # fmt: skip
