"""What makes an image of a distribution call our first-boot script once: its own files, in its own form.

No password, hash or token is in them: cloud-init keeps what it reads in /var/lib/cloud for good, and nobody removes
user-data from the boot partition. Secrets lie in the folder `hil` alone, which the script overwrites and removes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from firmware_tools.firstboot.network import Network
from firmware_tools.firstboot.payload import FOLDER
from firmware_tools.firstboot.wifi import Wifi, wifi_files
from firmware_tools.provision.time_keeper import keeper_file
from hil_config.errors import ConfigError, UsageError

START = Path(__file__).with_name("hil-start.sh")
FIRSTRUN = Path(__file__).with_name("hil-firstrun.sh")
MOUNT = "/boot/firmware"
SEED_MOUNT = "/run/hil-seed"
RUN = (
    f"systemd.run={MOUNT}/firstrun.sh", "systemd.run_success_action=reboot", "systemd.unit=kernel-command-line.target",
)  # fmt: skip


REGDOM = "cfg80211.ieee80211_regdom="


class Start(msgspec.Struct, frozen=True):
    """One board. `instance` differs for every writing: cloud-init runs once per instance."""

    node: str
    instance: str
    network: Network
    user: str = "hil"
    authorized_keys: str = ""
    password: bool = False
    ntp: str = ""
    jetson: bool = False
    wifi: Wifi | None = None


def start_files(start: Start) -> dict[str, bytes]:
    """What joins the payload in `FOLDER`: the script that installs units, and what it needs to know.

    Raises:
        UsageError: the time server is not a name or address.
    """
    if not re.fullmatch(r"[A-Za-z0-9.:-]*", start.ntp):
        raise UsageError(f"time server {start.ntp!r} is not a name or address", "such as --ntp 192.168.50.1")
    values = {"NTP": start.ntp, "JETSON": "yes" if start.jetson else "",
              "COUNTRY": start.wifi.country if start.wifi else ""}  # fmt: skip
    files = {START.name: START.read_bytes(), "start.env": "".join(f"{k}={v}\n" for k, v in values.items()).encode()}
    if start.wifi is not None:
        files |= wifi_files(start.wifi)
    if start.ntp:
        files["chrony.conf"] = keeper_file("chrony", start.ntp)
    keyfile = start.network.network_manager()
    return files | ({"hil.nmconnection": keyfile.encode()} if keyfile else {})


def user_data(start: Start, label: str = "") -> bytes:
    """cloud-init's user-data. `label`: of the seed's file system, where the image does not mount it by itself."""
    run = ["sh", f"{MOUNT}/{FOLDER}/{START.name}", MOUNT]
    if label:
        script = f"mkdir -p -m 700 {SEED_MOUNT} && mount -o umask=077 -L {label} {SEED_MOUNT} && "
        script += f"sh {SEED_MOUNT}/{FOLDER}/{START.name} {SEED_MOUNT}; umount {SEED_MOUNT}"
        run = ["sh", "-c", script]
    user: dict[str, Any] = {
        "name": start.user, "groups": ["adm", "dialout", "sudo", "video"], "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": True,
    }  # fmt: skip
    keys = [line for line in start.authorized_keys.splitlines() if line.strip()]
    content: dict[str, Any] = {
        "hostname": start.node, "manage_etc_hosts": True, "timezone": "Etc/UTC", "ssh_pwauth": start.password,
        "users": [user | ({"ssh_authorized_keys": keys} if keys else {})], "runcmd": [run],
    }  # fmt: skip
    return b"#cloud-config\n" + json.dumps(content, indent=2).encode() + b"\n"  # JSON is YAML, without its traps


def seed(start: Start, label: str = "") -> dict[str, bytes]:
    """The three files of a NoCloud seed."""
    meta = {"instance-id": start.instance, "local-hostname": start.node}
    return {
        "network-config": json.dumps(start.network.cloud_init(), indent=2).encode() + b"\n",
        "meta-data": json.dumps(meta, indent=2).encode() + b"\n",
        "user-data": user_data(start, label),
    }


def files_for(flavour: str, start: Start, cmdline: bytes, where: str, label: str = "CIDATA") -> dict[str, bytes]:
    """Files for the root of the boot partition, in the order in which they are written: what starts it comes last.

    Raises:
        ConfigError: the kernel's command line runs something else on its first boot.
    """
    if flavour == "hil":
        return {}
    if flavour == "nocloud":
        return seed(start, label)
    words = cmdline.decode(errors="replace").split()
    if start.wifi is not None and cmdline:  # without a country Raspberry Pi OS leaves the radio off
        words = [word for word in words if not word.startswith(REGDOM)] + [f"{REGDOM}{start.wifi.country}"]
    if flavour in ("rpi-cloud-init", "ubuntu"):
        # An instance named on the command line, as the Imager does, hides the one in meta-data.
        words = [word for word in words if not re.match(r"ds=nocloud\b", word, re.IGNORECASE)]
        line = " ".join([*words, f"ds=nocloud;i={start.instance}"])
        return {**seed(start), "cmdline.txt": line.encode() + b"\n"}
    others = [word for word in words if word.startswith("systemd.run=") and word not in RUN]
    if others:
        raise ConfigError(f"{where}: cmdline.txt has {others[0]} already", "flash the card again, without the Imager's")
    line = " ".join([word for word in words if word not in RUN] + list(RUN))
    return {"firstrun.sh": FIRSTRUN.read_bytes(), "cmdline.txt": line.encode() + b"\n"}
