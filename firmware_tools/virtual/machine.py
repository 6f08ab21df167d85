"""One emulated board: what QEMU is told, whether it runs, on and off.

Its network: `hil_config.virtual_network`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from firmware_tools.broker import cache_folder
from firmware_tools.state import State
from firmware_tools.virtual import qmp, recipe
from hil_config.errors import ConfigError, EnvironmentFault, HardwareError
from hil_config.virtual_network import (
    BROKER_ADDRESS,
    BROKER_PORT,
    GROUND_ADDRESS,
    GUEST_ADDRESS,
    GUEST_DATA_PORT,
    MOST_BOARDS,
    peer_address,
)

if TYPE_CHECKING:
    from hil_config.schema.bench import Bench, Board

START_S, END_S = 20.0, 10.0


class Forward(msgspec.Struct, frozen=True):
    """What the guest calls `guest` is `port` on this machine."""

    guest: str
    port: int


class Machine(msgspec.Struct, frozen=True):
    """Everything that is needed to start it; kept beside the bench file so that any command can."""

    name: str
    disk: str
    kernel: str
    initrd: str
    console_port: int
    data_port: int
    forwards: tuple[Forward, ...]
    folder: str
    mac: str = ""

    @property
    def qmp_socket(self) -> Path:
        """Short, since a Unix socket's path may have no more than 107 bytes."""
        name = hashlib.sha256(f"{self.folder}/{self.name}".encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"hil-{os.getuid()}-{name}.qmp"

    @property
    def pid_file(self) -> Path:
        return Path(self.folder) / f"{self.name}.pid"

    @property
    def console_log(self) -> Path:
        return Path(self.folder) / f"{self.name}.console.raw"


def machine_of(bench: Bench, board: Board, state: State) -> Machine:
    """The machine that a bench file's virtual board is; kernel and initial file system come from the build's cache.

    Raises:
        ConfigError: more boards than a guest can reach. EnvironmentFault: nothing was built.
    """
    from firmware_tools.virtual.build import cached

    name = board.name
    disk = None if board.disk is None else board.disk.file
    line = None if board.console is None else board.console.loopback_port
    if disk is None or line is None:  # which no bench file says of a board that `via: virtual` switches
        raise ConfigError(f"board {name} has no disk.file, or no console on loopback", "hil config check BENCH.yaml")
    built = cached()
    if built is None:
        raise EnvironmentFault(
            f"board {name}: no virtual board was built by this user (there is none in {cache_folder() / 'virtual'})",
            "hil bench virtual build, as root, and this command as root too",
        )
    if len(bench.boards) > MOST_BOARDS:
        raise ConfigError(f"bench with board {name} has more boards than a guest can reach", f"at most {MOST_BOARDS}")
    forwards = [
        Forward(f"{BROKER_ADDRESS}:{BROKER_PORT}", bench.broker.port),
        Forward(f"{GROUND_ADDRESS}:{GUEST_DATA_PORT}", bench.ground_port),
    ]
    for index, other in enumerate(bench.boards):
        if other.name != name and other.data_port:
            address, port = peer_address(index)
            forwards.append(Forward(f"{address}:{port}", other.data_port))
    return Machine(
        name, disk, built.kernel, built.initrd, line, board.data_port,
        tuple(one for one in forwards if one.port), str(state.place("virtual", name).parent),
        board.mac or "",
    )  # fmt: skip


def command(machine: Machine) -> list[str]:
    """QEMU's command line."""
    emulator = shutil.which("qemu-system-aarch64")
    if emulator is None:
        raise EnvironmentFault("qemu-system-aarch64 is not installed", "apt install qemu-system-arm")
    relay = _word(f"{shlex.quote(sys.executable)} -m firmware_tools.virtual.relay 127.0.0.1")
    net = ["user,id=n0,restrict=on", *(f"guestfwd=tcp:{one.guest}-cmd:{relay} {one.port}" for one in machine.forwards)]
    if machine.data_port:
        net.append(f"hostfwd=tcp:127.0.0.1:{machine.data_port}-{GUEST_ADDRESS}:{GUEST_DATA_PORT}")
    digest = hashlib.sha256(machine.name.encode()).hexdigest()
    serial, mac = digest[:12].upper(), machine.mac or f"52:54:00:{digest[12:14]}:{digest[14:16]}:{digest[16:18]}"
    return [
        emulator, "-name", machine.name, "-M", "virt", "-cpu", "cortex-a76", "-smp", "1", "-m", str(recipe.MEMORY_MIB),
        "-nographic", "-nodefaults", "-no-user-config",
        "-kernel", machine.kernel, "-initrd", machine.initrd, "-append", "console=ttyAMA0 quiet panic=-1",
        "-drive", f"file={_word(machine.disk)},format=raw,if=none,id=d0,cache=writeback",
        "-device", f"nvme,drive=d0,serial=HIL{serial}",
        "-netdev", ",".join(net), "-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile=",
        "-chardev", f"socket,id=con,host=127.0.0.1,port={machine.console_port},server=on,wait=off,"
                    f"logfile={_word(str(machine.console_log))},logappend=on",
        "-serial", "chardev:con", "-qmp", f"unix:{machine.qmp_socket},server=on,wait=off",
        "-pidfile", str(machine.pid_file),
    ]  # fmt: skip


def _word(text: str) -> str:
    """A value within an option of QEMU, which takes a comma for its end."""
    return text.replace(",", ",,")


def process_of(machine: Machine) -> int | None:
    """Process id of the running emulator, or None."""
    try:
        number = int(machine.pid_file.read_text())
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if str(machine.pid_file).encode() in words else None


def start(machine: Machine) -> None:
    """Switch on; nothing happens if it runs.

    Raises:
        HardwareError: it ended at once, with what QEMU said.
    """
    if process_of(machine) is not None:
        return
    if not Path(machine.disk).exists():
        raise HardwareError(
            f"board {machine.name}: {machine.disk} is not there", f"hil flash {machine.name} --image ..."
        )
    machine.qmp_socket.unlink(missing_ok=True)
    log = Path(machine.folder) / f"{machine.name}.qemu.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command(machine), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    pause = threading.Event()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise HardwareError(f"board {machine.name}: the emulator ended at once: {said[0]}", f"see {log}")
        if process_of(machine) is not None and _answers(machine):
            # Nobody waits for it: it goes on when this command ends. Its end is seen through /proc.
            process.returncode = 0
            return
        pause.wait(0.02)
    process.kill()
    process.wait()
    raise HardwareError(f"board {machine.name}: the emulator did not start within {START_S:.0f} s", f"see {log}")


def _answers(machine: Machine) -> bool:
    """Has it its disk open, and locked? Process id and socket are there before that; an answer is not."""
    try:
        return machine.qmp_socket.exists() and qmp.order(machine.qmp_socket, "query-status") is not None
    except HardwareError:
        return False


def stop(machine: Machine) -> None:
    """Cut the power: no shutdown, nothing is written any more."""
    number = process_of(machine)
    if number is None:
        return
    qmp.order(machine.qmp_socket, "quit")
    pause = threading.Event()
    deadline = time.monotonic() + END_S
    while process_of(machine) is not None:
        try:  # if this process started it, somebody must take its exit code
            os.waitpid(number, os.WNOHANG)
        except ChildProcessError:
            pass
        if time.monotonic() > deadline:
            raise HardwareError(f"board {machine.name}: the emulator does not end", f"kill {number}")
        pause.wait(0.02)
    machine.pid_file.unlink(missing_ok=True)


def reset(machine: Machine) -> None:
    """The reset button."""
    qmp.order(machine.qmp_socket, "system_reset")
