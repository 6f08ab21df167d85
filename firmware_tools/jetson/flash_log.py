"""What NVIDIA's flashing tools print, as progress and as causes with what to do.

Texts are those that users report publicly (NVIDIA's forum; meta-tegra issue 1892, Seeed Linux_for_Tegra issue 53).
"""

from __future__ import annotations

import re

import msgspec

PHASES: tuple[tuple[str, int, str], ...] = (
    (r"Step 1: ", 2, "making the flash package"),
    (r"Making system\.img|populating rootfs", 10, "making the system image"),
    (r"Step 2: ", 30, "booting the module over USB"),
    (r"Sending bct_br", 35, "sending to its boot ROM"),
    (r"Step 3: ", 45, "starting the flash"),
    (r"Waiting for target to boot-up", 48, "waiting for its flashing system"),
    (r"SSH ready|Waiting for device to expose ssh", 52, "waiting for its flashing system"),
    (r"Flash index file|Writing .*partition|Writing item=", 60, "writing"),
    (r"Successfully flash the (external|emmc)|Successfully flashed the", 85, "writing"),
    (r"Successfully flash the qspi|Erasing .*mtd", 92, "writing its QSPI"),
)
DONE = re.compile(r"Flash is successful|has been flashed successfully|Flashing success")
_PERCENT = re.compile(r"\[[ .]*\]\s*(\d{1,3})%|\s(\d{1,3})%\s*$")


class Fault(msgspec.Struct, frozen=True):
    """A cause. `cycle`: another try after a power cycle makes sense."""

    name: str
    cause: str
    do: str
    cycle: bool = False


FAULTS: tuple[tuple[str, Fault], ...] = (
    (
        r"(\w[\w./-]*): (?:command )?not found|install the (\S+) package|Please install (\S+)",
        Fault("missing", "a program is missing on this machine", "sudo tools/l4t_flash_prerequisites.sh"),
    ),
    (
        r"No space left on device",
        Fault("space", "this machine's disk is full", "make room: an image of the whole system is built there"),
    ),
    (
        r"DummySN|board.?id.{0,40}(?:empty|invalid)|EEPROM.{0,40}(?:blank|empty|not programmed)",
        Fault("eeprom", "the carrier's or module's EEPROM is empty", "give --carrier, or have the EEPROM programmed"),
    ),
    (
        r"might be timeout in USB write",
        Fault(
            "usb",
            "USB write timeout: the boot ROM is in the middle of an older session, or the cable or hub is bad",
            "cut the power, enter recovery mode again; no hub, another cable; autosuspend off",
            cycle=True,
        ),
    ),
    (
        r"Device ping failed after RCM boot|Device failed to boot to the initrd",
        Fault(
            "ping",
            "its flashing system did not answer on usb0",
            "keep firewall and NetworkManager off usb0; is nfsd loaded, port 2049 free?",
            cycle=True,
        ),
    ),
    (
        r"RPC: Program not registered|NFS server is not running|mount\.nfs: ",
        Fault("nfs", "this machine serves no NFS", "sudo modprobe nfsd; sudo systemctl start nfs-kernel-server"),
    ),
    (
        r"No Board Spec|probing the target board failed|Could not detect a board|No devices to flash",
        Fault("absent", "no module answers in recovery mode", "hold or bridge REC while power comes on", cycle=True),
    ),
    (
        r"partprobe failed|Device or resource busy",
        Fault(
            "busy", "something here took the module's disk, such as an automounter", "stop udisks2 while flashing", True
        ),
    ),
    (r"Error: Return value \d+", Fault("tool", "one of its steps failed", "read the log above its first error")),
)


class Reader:
    """Reads a log line by line. `percent` never goes back; `faults` in the order in which they came."""

    def __init__(self) -> None:
        self.percent = 0
        self.phase = "starting"
        self.done = False
        self.faults: list[tuple[Fault, str]] = []

    def feed(self, line: str) -> None:
        """One line, without its end."""
        for pattern, percent, phase in PHASES:
            if re.search(pattern, line) and percent >= self.percent:
                self.percent, self.phase = percent, phase
        if self.phase == "writing" and (match := _PERCENT.search(line)):
            share = min(int(match[1] or match[2]), 100)
            self.percent = max(self.percent, 60 + share * 25 // 100)
        for pattern, fault in FAULTS:
            if re.search(pattern, line):
                self.faults.append((fault, line.strip()))
                break
        if DONE.search(line):
            self.done, self.percent, self.phase = True, 100, "done"

    def cause(self) -> tuple[Fault, str] | None:
        """What went wrong first; what a tool only passes on counts if there is nothing better."""
        for found in self.faults:
            if found[0].name != "tool":
                return found
        return self.faults[0] if self.faults else None
