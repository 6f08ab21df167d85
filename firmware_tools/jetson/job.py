"""Flash modules with NVIDIA's tools: run, follow, decode, cycle the power, try again."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from firmware_tools.jetson.command import UNTESTED
from firmware_tools.jetson.flash_log import Fault, Reader
from firmware_tools.jetson.preflight import Host, waiting
from firmware_tools.jetson_recovery import Module
from firmware_tools.state import utc_now
from hil_config.errors import EnvironmentFault, HardwareError

Tell = Callable[[str], None]


class Limits(msgspec.Struct, frozen=True):
    """Seconds. Building the system image prints nothing for minutes."""

    silence_s: float = 1_200.0
    total_s: float = 7_200.0
    recovery_s: float = 60.0
    poll_s: float = 0.5


LIMITS = Limits()


class Flashed(msgspec.Struct, frozen=True):
    """Receipt. `tested` says what nobody has tried."""

    board: str
    command: tuple[str, ...]
    release: str
    product: str
    port: str
    attempts: int
    log: str
    ended: str
    tested: str = UNTESTED


def follow(command: tuple[str, ...], folder: Path, log: Path, tell: Tell, limits: Limits) -> tuple[int | None, Reader]:
    """Run one command to its end; its output goes to `log`, changes of its progress to `tell`.

    Returns:
        Its exit code, None if it was silent or ran for too long and was ended, and what its log says.
    """
    reader, shown, begin, rest = Reader(), "", time.monotonic(), b""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise EnvironmentFault(f"{command[0]}: {error.strerror}", f"is {folder} NVIDIA's Linux_for_Tegra?") from error
    assert process.stdout is not None
    with process, open(log, "ab") as file, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while True:
                left = min(limits.silence_s, limits.total_s - (time.monotonic() - begin))
                if left <= 0 or not selector.select(left):
                    return None, reader
                data = os.read(process.stdout.fileno(), 65_536)
                if not data:
                    reader.feed(rest.decode(errors="replace"))  # a last line may have no end
                    return process.wait(), reader
                file.write(data)
                *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    reader.feed(line.decode(errors="replace"))
                now = f"{reader.percent:3d} % {reader.phase}"
                if now != shown:
                    shown = now
                    tell(now)
        finally:
            if process.poll() is None:  # it has a session of its own, so that its helpers end with it
                os.killpg(process.pid, signal.SIGKILL)


def flash(
    command: tuple[str, ...], folder: Path, log: Path, modules: tuple[Module, ...], host: Host,
    cycle: Callable[[], None] | None, tell: Tell, attempts: int = 3, limits: Limits = LIMITS,
) -> int:  # fmt: skip
    """Flash modules with one command; returns how many attempts it took.

    Args:
        cycle: cuts the board's power and gives it back; None where nothing switches it.

    Raises:
        HardwareError: it failed, with the cause that the log shows and what to do.
    """
    ports = ", ".join(one.port for one in modules)
    for attempt in range(1, attempts + 1):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"# {utc_now()} attempt {attempt}: {' '.join(command)}\n")
        code, reader = follow(command, folder, log, tell, limits)
        if code == 0 and reader.done:
            return attempt
        fault, line = reader.cause() or (_unknown(code), "")
        said = f"{fault.cause} ({line[:120]})" if line else fault.cause
        if not fault.cycle or attempt == attempts or cycle is None:
            again = "" if cycle or not fault.cycle else "; with `power` in the bench file this is tried again by itself"
            tries = f" after {attempt} attempts" if attempt > 1 else ""
            raise HardwareError(f"module at {ports}: {said}{tries}; log {log}", fault.do + again)
        tell(f"{fault.cause}: cycling its power, attempt {attempt + 1} of {attempts}")
        cycle()
        modules = tuple(wait_recovery(one, host, limits) for one in modules)
    raise AssertionError("unreachable")


def wait_recovery(before: Module, host: Host, limits: Limits) -> Module:
    """The module on the same port, in recovery mode under another device number: proof that it started anew.

    Raises:
        HardwareError: it does not come back so.
    """
    end = time.monotonic() + limits.recovery_s
    while True:
        for one in waiting(host):
            if one.port == before.port and one.devnum != before.devnum:
                return one
        if time.monotonic() >= end:
            raise HardwareError(
                f"module at {before.port}: not in recovery mode after its power was cycled",
                "bridge REC (FC_REC to ground) while flashing, so that every start is one into recovery mode",
            )
        time.sleep(limits.poll_s)


def _unknown(code: int | None) -> Fault:
    if code is None:
        return Fault("silent", "the tool was silent for too long and was ended", "read the log's end", cycle=True)
    if code == 0:
        return Fault("unproved", "the tool ended with 0 but never said that the flash succeeded", "read the log's end")
    return Fault("unknown", f"the tool ended with {code}", "read the log's end")
