"""Boards on ptys, with a login, a real shell and network ports of their own, and one instrument that measures two of
them. Not a test."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import tty
from pathlib import Path

LOGIN = Path(__file__).parents[1] / "provision" / "fake_board.py"
INSIDE = """\
mount -t sysfs none /sys
ip link add eth0 address "$1" type veth peer name far address 06:00:00:00:00:01
if [ -d /sys/class/thermal ]; then
  mount -t tmpfs none /sys/class/thermal
  for one in cpu:45000 gpu:60000 soc:-256000; do
    mkdir /sys/class/thermal/thermal_zone-${one%:*}
    echo ${one%:*}-thermal >/sys/class/thermal/thermal_zone-${one%:*}/type
    echo ${one#*:} >/sys/class/thermal/thermal_zone-${one%:*}/temp
  done
  cp -r /sys/class/thermal/thermal_zone-cpu /sys/class/thermal/thermal_zone-cpu2
  echo 43000 >/sys/class/thermal/thermal_zone-cpu2/temp
fi
exec "$2" "$3" login
"""


def missing() -> str:
    """Why there can be no such board here; empty if there can."""
    if os.geteuid() != 0:
        return "takes root"
    lacking = [name for name in ("unshare", "ip") if not shutil.which(name)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    tried = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-c", INSIDE, "sh", "02:00:00:00:00:01", "true", ""],
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return "" if tried.returncode == 0 else "no name spaces or no virtual network ports here"


class Board:
    """A login and a shell on a pty, while its outlet is on. `watts` is what it takes."""

    def __init__(self, outlet: Path, mac: str) -> None:
        self._outlet, self._mac = outlet, mac
        self._near, far = pty.openpty()
        tty.setraw(far)
        self.port, self._far = os.ttyname(far), far
        self._process: subprocess.Popen[bytes] | None = None
        self._inner, self._stop = -1, threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._supply, self._typed)]
        for one in self._threads:
            one.start()

    def _supply(self) -> None:
        while not self._stop.wait(0.02):
            on = self._outlet.read_text().strip() == "on"
            if on and self._process is None:
                self._start()
            elif not on:
                self._cut()
        self._cut()

    def _start(self) -> None:
        inner, end = pty.openpty()
        self._inner = inner
        self._process = subprocess.Popen(
            ["unshare", "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INSIDE, "sh", self._mac,
             sys.executable, str(LOGIN)],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
        )  # fmt: skip
        os.close(end)
        threading.Thread(target=self._said, args=(inner,)).start()

    def _cut(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def _said(self, inner: int) -> None:
        while True:
            try:
                os.write(self._near, os.read(inner, 4096))
            except OSError:  # its power was cut
                os.close(inner)
                return

    def _typed(self) -> None:
        while b"\0END" not in (data := os.read(self._near, 4096)):
            if self._process is not None:
                os.write(self._inner, data)

    @property
    def watts(self) -> float:
        """2.5 W, and 3 W for every loop that runs."""
        process = self._process
        return 2.5 + 3.0 * self._loops(process.pid) if process is not None else 0.0

    @staticmethod
    def _loops(first: int) -> int:
        """Busy loops among the descendants of a process."""
        found, waiting = 0, [first]
        while waiting:
            pid = waiting.pop()
            try:
                found += b"while :" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"timeout")[0]
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += [int(one) for one in (task / "children").read_text().split()]
            except OSError:
                continue  # it has ended
        return found

    def close(self) -> None:
        self._stop.set()
        self._threads[0].join()
        os.write(self._far, b"\0END")
        self._threads[1].join()
        os.close(self._near)
        os.close(self._far)


class Instrument:
    """A supply with two outputs on a pty that speaks SCPI; `feeds[n - 1]` is behind output n."""

    def __init__(self, feeds: tuple[Board, ...]) -> None:
        self._feeds, self._chosen = feeds, 1
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        self.port = os.ttyname(self._far)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        heard = b""
        while b"\0END" not in heard:
            *lines, heard = (heard + os.read(self._near, 256)).split(b"\n")
            for line in lines:
                if line.startswith(b"INST:NSEL "):
                    self._chosen = int(line.split()[1])
                elif line == b"MEAS:VOLT?":
                    os.write(self._near, b"5.0000E+00\n")
                elif line == b"MEAS:CURR?":
                    os.write(self._near, f"{self._feeds[self._chosen - 1].watts / 5:.4E}\n".encode())

    def close(self) -> None:
        os.write(self._far, b"\0END")
        self._thread.join()
        os.close(self._near)
        os.close(self._far)
