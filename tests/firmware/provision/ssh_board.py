"""A board behind a real sshd: name spaces of this machine with an /opt, /etc and /run of their own. Not a test.

Its processes see only each other, and nothing they write lies outside of `home`.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NEEDED = ("sshd", "ssh-keygen", "unshare", "nsenter")
_INSIDE = """\
set -e
for one in etc opt run var; do mount --bind "$0/root/$one" "/$one"; done
echo ready
exec sleep 100000
"""


def missing() -> str:
    """Why there can be no such board here; empty if there can."""
    if os.geteuid() != 0:
        return "takes root"
    lacking = [name for name in NEEDED if not shutil.which(name, path=SEARCH)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    try:
        tried = subprocess.run(
            ["unshare", "-m", "-p", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "none", "/run"],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "unshare hangs here"
    return "" if tried.returncode == 0 else "no name spaces here"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class SshBoard:
    """Args: `home`, an empty folder. Use `start`, and `stop` always."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.key, self.known_hosts = home / "key", home / "known_hosts"
        self.root = home / "root"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sshd: subprocess.Popen[bytes] | None = None
        self._first = 0

    def start(self) -> None:
        for name in ("opt/hil/slots", "run", "var/log", "var/lib/hil"):
            (self.root / name).mkdir(parents=True)
        shutil.copytree("/etc", self.root / "etc", symlinks=True, ignore=shutil.ignore_patterns("hil", "ssh"))
        (self.root / "etc/hil/identity").mkdir(parents=True)
        inside = subprocess.Popen(
            ["unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _INSIDE, str(self.home)],
            stdout=subprocess.PIPE,
        )
        self._processes.append(inside)
        assert inside.stdout is not None
        assert inside.stdout.readline() == b"ready\n"
        inside.stdout.close()
        children = Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split()
        self._first = int(children[0])
        for path in (self.key, self.home / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
        self.pin((self.home / "host_key.pub").read_text())
        command = f'nsenter -t {self._first} -m -p sh -c "$SSH_ORIGINAL_COMMAND"'
        (self.home / "forced").write_text(f"#!/bin/sh\nexport PATH=/opt/board:$PATH\nexec {command}\n")
        (self.home / "forced").chmod(0o755)
        (self.home / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.home}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.home}/key.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nForceCommand {self.home}/forced\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd refuses to start without it
        self.listen()

    def listen(self) -> None:
        """Start sshd; returns once it takes connections."""
        program = shutil.which("sshd", path=SEARCH)
        assert program is not None
        with open(self.home / "sshd.log", "ab") as log:
            self._sshd = subprocess.Popen([program, "-D", "-e", "-f", f"{self.home}/sshd_config"], stderr=log)
        self._processes.append(self._sshd)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._sshd.poll() is None, (self.home / "sshd.log").read_text()
                assert time.monotonic() < deadline, "sshd does not listen"

    def cut_when(self, told: int) -> None:
        """End sshd and its sessions as soon as the board writes to the named pipe whose reading end is `told`."""
        ready, _, _ = select.select([told], [], [], 30)
        assert ready, "the board said nothing for 30 s"
        assert self._sshd is not None
        children = Path(f"/proc/{self._sshd.pid}/task/{self._sshd.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)

    def pin(self, public: str) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """A process of the board."""
        process = subprocess.Popen(["nsenter", "-t", str(self._first), "-m", "-p", *words])
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()  # the name spaces' processes go with their first
            process.wait(10)
