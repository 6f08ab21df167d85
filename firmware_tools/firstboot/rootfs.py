"""A first boot in a root file system that is still a folder, such as Linux_for_Tegra/rootfs. Never tried on hardware.

/var/lib/hil-firstboot/hil/     what `hil firstboot` writes onto a card's boot partition, mode 0600
hil-firstboot.service           runs hil-start.sh once; the folder `hil` is gone afterwards, the unit then idle
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from firmware_tools.firstboot.payload import FOLDER
from hil_config.durable_file import write_durably
from hil_config.errors import ConfigError, EnvironmentFault

HOME = "var/lib/hil-firstboot"
UNITS, UNIT = "etc/systemd/system", "hil-firstboot.service"
TEXT = f"""\
[Unit]
Description=First boot of a board of the testbed
ConditionPathExists=/{HOME}/{FOLDER}
After=local-fs.target
Before=hil-agent.service hil-agent.path

[Service]
Type=oneshot
ExecStart=/bin/sh /{HOME}/{FOLDER}/hil-start.sh /{HOME}
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
"""


def injected(rootfs: Path) -> str:
    """Name of the board whose first boot lies there; empty for none."""
    try:
        lines = (rootfs / HOME / FOLDER / "firstboot.env").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _refused(rootfs, error) from error
    return next((line.removeprefix("NODE=") for line in lines if line.startswith("NODE=")), "")


def inject(rootfs: Path, files: dict[str, bytes]) -> None:
    """Put files and unit there in place of what an earlier call put there; the folder appears whole or not at all.

    Raises:
        ConfigError: it is no root file system. EnvironmentFault: it cannot be written.
    """
    if not (rootfs / "etc/passwd").is_file() or not (rootfs / "usr").is_dir():
        raise ConfigError(f"{rootfs}: is no root file system", "unpack NVIDIA's sample root file system into it")
    home = rootfs / HOME
    new = home / f"{FOLDER}.new"
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        for name, data in files.items():
            write_durably(new / name, data, 0o600)
        withdraw(rootfs)
        new.rename(home / FOLDER)
        units = rootfs / UNITS
        wants = units / "multi-user.target.wants" / UNIT
        wants.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(units / UNIT, TEXT.encode(), 0o644)
        wants.unlink(missing_ok=True)
        wants.symlink_to(f"../{UNIT}")
    except OSError as error:
        raise _refused(rootfs, error) from error


def withdraw(rootfs: Path) -> None:
    """Overwrite and remove what was put there: the board has it now, and it holds secrets."""
    place = rootfs / HOME / FOLDER
    if not place.exists():
        return
    try:
        for path in place.iterdir():
            with open(path, "r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
        shutil.rmtree(place)
    except OSError as error:
        raise _refused(rootfs, error) from error


def _refused(rootfs: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{error.filename or rootfs}: {error.strerror}", "run it as root, as NVIDIA's own tools are"
    )
