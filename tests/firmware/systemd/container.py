"""A Debian system in a container: a board with the first boot and the services of a distribution. Not a test.

Kernel and processor are this machine's. What stands above them is what runs on a board: cloud-init and systemd's
generator find what `hil firstboot` wrote, NetworkManager takes the address, systemd starts the agent under its unit and
forbids it what the unit forbids. Network and broker live in a network namespace of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from firmware_tools.broker import cache_folder
from firmware_tools.virtual.recipe import WHEELS

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = (
    "mmdebstrap", "systemd-nspawn", "nsenter", "ip", "mcopy", "mkfs.vfat", "sfdisk", "ssh-keygen", "ssh-keyscan",
)  # fmt: skip
SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "udev", "cloud-init", "python3", "openssl", "openssh-server", "sudo", "iproute2",
    "netplan.io", "network-manager", "chrony", "kmod", "procps",
)  # fmt: skip
PYTHON = "3.13"
"""Of Debian 13, as of Raspberry Pi OS Trixie."""

FILES = {
    # Raspberry Pi OS has these two: where cloud-init looks, and who does what netplan says.
    "etc/cloud/cloud.cfg.d/99_board.cfg": (
        "datasource_list: [NoCloud, None]\ndatasource: {NoCloud: {seedfrom: 'file:///boot/firmware'}}\n"
    ),
    "usr/lib/netplan/00-network-manager-all.yaml": "network: {version: 2, renderer: NetworkManager}\n",
}
LINE = Path(__file__).with_name("console_line.py")
BUILD_S = 600.0
UP_S = 120.0


def missing() -> list[str]:
    """Programs that are not there."""
    return [name for name in PROGRAMS if not shutil.which(name, path=SEARCH)]


def command(*words: str, timeout_s: float = 60.0, stdin: str = "") -> str:
    """Its output; CalledProcessError if it fails."""
    done = subprocess.run(
        words, input=stdin, env={**os.environ, "PATH": SEARCH, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"},
        capture_output=True, text=True, timeout=timeout_s, check=True,
    )  # fmt: skip
    return done.stdout


def root_folder() -> Path:
    """The system's root, installed once and kept in the cache by what it is made of."""
    words = json.dumps([SOURCE, PACKAGES, WHEELS, PYTHON, FILES])
    folder = cache_folder() / "container" / hashlib.sha256(words.encode()).hexdigest()[:16]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as name:
        root = Path(name) / "root"
        command("mmdebstrap", "--variant=minbase", "--mode=root", "--dpkgopt=force-unsafe-io",
                '--aptopt=APT::Install-Recommends "false"', f"--include={','.join(PACKAGES)}", "trixie", str(root),
                SOURCE, timeout_s=BUILD_S)  # fmt: skip
        site = root / f"usr/local/lib/python{PYTHON}/dist-packages"
        platforms = [f"--platform={kind}_x86_64" for kind in ("manylinux2014", "manylinux_2_27", "manylinux_2_28")]
        command(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", str(site),
                "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms, *WHEELS,
                timeout_s=BUILD_S)  # fmt: skip
        for path, text in FILES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            (root / path).chmod(0o600)
        (root / "boot/firmware").mkdir(parents=True, exist_ok=True)
        root.rename(folder)
    return folder


class CannotStart(Exception):
    """This machine runs no such containers; says what the first attempt said."""


class Net:
    """A network namespace with a bridge, for containers and whoever talks to them."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        command("ip", "netns", "add", name)
        for words in (
            ("link", "set", "lo", "up"), ("link", "add", "bridge0", "type", "bridge"),
            ("addr", "add", f"{address}/24", "dev", "bridge0"), ("link", "set", "bridge0", "up"),
        ):  # fmt: skip
            command("ip", "-n", name, *words)

    def inside(self, *words: str) -> list[str]:
        """The command in it. `ip netns exec` would take /sys/fs/cgroup away."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *words]

    def close(self) -> None:
        command("ip", "netns", "del", self.name)


class Container:
    """One board. `home`/boot is its boot partition, a folder as not every kernel has FAT, `home`/console its line."""

    def __init__(self, home: Path, name: str, net: Net, root: Path) -> None:
        self.name, self.boot, self.root = name, home / "boot", home / "root"
        self._net, self._home = net, home
        self._running: subprocess.Popen[bytes] | None = None
        for folder in ("boot", "root", "upper", "work"):
            (home / folder).mkdir(parents=True)
        layers = f"lowerdir={root},upperdir={home}/upper,workdir={home}/work"
        command("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def insert(self, card: Path) -> None:
        """What a card's boot partition holds; every file may be executed, as FAT has it."""
        command("mcopy", "-s", "-n", "-i", f"{card}@@{2048 * 512}", "::/*", str(self.boot))
        for path in self.boot.rglob("*"):
            path.chmod(0o755)

    @property
    def log(self) -> str:
        return (self._home / "console.log").read_text(errors="replace")

    def on(self) -> None:
        """Power on. What the kernel's command line says for systemd and cloud-init, its first process is told."""
        told = [w for w in (self.boot / "cmdline.txt").read_text().split() if w.startswith(("systemd.", "ds="))]
        wire = f"ve-{self.name}"
        words = ["systemd-nspawn", "-q", "-D", str(self.root), "-M", f"{self._net.name}-{self.name}", "--boot",
                 "--register=no", "--keep-unit", "--private-network", f"--network-veth-extra={wire}:eth0",
                 f"--bind={self.boot}:/boot/firmware", "--console=interactive", *told]  # fmt: skip
        line = [sys.executable, str(LINE), str(self._home / "console"), str(self._home / "console.log")]
        self._running = subprocess.Popen(
            [*line, *self._net.inside(*words)],
            env={**os.environ, "PATH": SEARCH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        plug = ("ip", "-n", self._net.name, "link", "set", wire, "master", "bridge0", "up")
        running = self._running
        self.until(
            lambda: (
                running.poll() is not None or subprocess.run(plug, capture_output=True, check=False).returncode == 0
            ),
            "its network port",
        )
        if running.poll() is not None:
            self._running = None
            raise CannotStart(self.log[-300:].strip())

    def off(self) -> int:
        """Cut the power, unless it is off by itself; what nspawn ended with (133: it was to start again)."""
        running = self._running
        assert running is not None
        first = self._first()
        if running.poll() is None and first:
            os.kill(first, signal.SIGKILL)
        ended = running.wait(UP_S)
        self._running = None
        return ended

    def ended(self) -> int:
        """Wait until it has switched itself off; as `off`."""
        assert self._running is not None
        self._running.wait(UP_S)
        return self.off()

    def _first(self) -> int:
        """Process id, here, of the container's first process; 0 if there is none."""
        assert self._running is not None
        found = str(self._running.pid)
        for _ in ("nspawn", "the first process"):
            children = Path(f"/proc/{found}/task/{found}/children")
            found = next(iter(children.read_text().split()), "") if children.exists() else ""
        return int(found or 0)

    def run(self, script: str, timeout_s: float = 60.0) -> str:
        """A shell command as root inside it; CalledProcessError if it fails."""
        return command("nsenter", "-t", str(self._first()), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
                       "sh", "-c", script, timeout_s=timeout_s)  # fmt: skip

    def says(self, script: str) -> str:
        """Its output without the line's end, whatever it ends with; "" while it cannot be asked."""
        try:
            return self.run(f"{script} || true").strip()
        except subprocess.CalledProcessError:
            return ""

    def until(self, true: Callable[[], bool], what: str) -> None:
        pause, deadline = threading.Event(), time.monotonic() + UP_S
        while not true():
            assert time.monotonic() < deadline, f"{self.name}: {what} did not come; its console:\n{self.log[-3000:]}"
            pause.wait(0.1)

    def close(self) -> None:
        if self._running is not None:
            self.off()
        command("umount", str(self.root))
