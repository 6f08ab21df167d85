"""A flash of a module with NVIDIA's tools, which are shell scripts here: attempts, causes, and what hangs."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from firmware_tools.jetson import job
from firmware_tools.jetson.command import Order, command_of
from firmware_tools.jetson.preflight import waiting
from hil_config.errors import HardwareError
from tests.firmware.linux_for_tegra import GOOD, USB, executable, machine, module

FAST = job.Limits(silence_s=20, total_s=40, recovery_s=0.2, poll_s=0.02)


class Bench:
    """A module whose power can be cycled; `starts` is what its device number is after each cycle."""

    def __init__(self, tmp_path: Path, l4t: Path) -> None:
        self.host, self.l4t, self.log = machine(tmp_path), l4t, tmp_path / "log"
        self.tree, self.cycles, self.said = tmp_path / "machine/sys", 0, list[str]()

    def cycle(self) -> None:
        self.cycles += 1
        module(self.tree, "1-2", "7523", str(6 + self.cycles))

    def tool(self, text: str) -> None:
        executable(self.l4t / "tools/kernel_flash/l4t_initrd_flash.sh", text)

    def flash(self, attempts: int = 3, power: bool = True, limits: job.Limits = FAST) -> int:
        command = command_of("7523", Order(str(self.l4t), "nvme"))
        found, cycle = waiting(self.host), self.cycle if power else None
        return job.flash(command, self.l4t, self.log, found, self.host, cycle, self.said.append, attempts, limits)


@pytest.fixture
def bench(tmp_path: Path, l4t: Path) -> Bench:
    return Bench(tmp_path, l4t)


def test_a_flash_that_succeeds_at_once(bench: Bench) -> None:
    assert bench.flash() == 1 and bench.cycles == 0
    assert bench.said[-1] == "100 % done" and "Flash is successful" in bench.log.read_text()


def test_a_usb_timeout_is_tried_again_after_a_power_cycle(bench: Bench) -> None:
    bench.tool(f"if [ ! -e tried ]; then touch tried; cat <<'EOF'\n{USB}EOF\nexit 3; fi\ncat <<'EOF'\n{GOOD}EOF\n")
    assert bench.flash() == 2 and bench.cycles == 1
    assert any("cycling its power, attempt 2 of 3" in words for words in bench.said)
    assert bench.log.read_text().count("# 20") == 2, "each attempt has its line"


def test_what_fails_for_good(bench: Bench) -> None:
    bench.tool(f"cat <<'EOF'\n{USB}EOF\nexit 3\n")
    with pytest.raises(HardwareError, match=r"module at 1-2: USB write timeout.*after 3 attempts") as caught:
        bench.flash()
    assert bench.cycles == 2 and str(bench.log) in caught.value.message
    with pytest.raises(HardwareError, match="USB write timeout") as caught:
        bench.flash(power=False)
    assert "with `power` in the bench file" in str(caught.value.hint)
    bench.tool("echo 'sshpass: command not found'; exit 127\n")
    with pytest.raises(HardwareError, match="a program is missing"):
        bench.flash()
    assert bench.cycles == 2, "a power cycle mends no missing program"


def test_a_last_line_without_an_end_is_read(bench: Bench) -> None:
    bench.tool("echo 'Step 1: Generate'; printf 'Flash is successful'\n")
    assert bench.flash() == 1
    bench.tool("printf 'tar: system.img: No space left on device'; exit 2\n")
    with pytest.raises(HardwareError, match="this machine's disk is full"):
        bench.flash()


def test_success_must_be_said_and_zero(bench: Bench) -> None:
    bench.tool("echo 'Step 1: Generate'; exit 0\n")
    with pytest.raises(HardwareError, match="never said that the flash succeeded"):
        bench.flash()
    bench.tool("echo 'Flash is successful'; exit 1\n")
    with pytest.raises(HardwareError, match="ended with 1"):
        bench.flash()


def test_a_tool_that_hangs_is_ended_with_its_helpers(bench: Bench, tmp_path: Path) -> None:
    bench.tool("sleep 600 &\necho $! >helper\necho 'Step 1: x'\nwait\n")
    with pytest.raises(HardwareError, match="silent for too long"):
        bench.flash(power=False, limits=job.Limits(silence_s=0.5))
    helper = int((bench.l4t / "helper").read_text())
    assert ended(helper)


def ended(pid: int) -> bool:
    """Waits for the end of a process that is no child of ours; the kernel makes its descriptor readable then."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10.0)[0])
    finally:
        os.close(descriptor)


def test_a_module_that_does_not_start_anew(bench: Bench) -> None:
    bench.tool(f"cat <<'EOF'\n{USB}EOF\nexit 3\n")
    bench.cycle = lambda: None  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="not in recovery mode after its power was cycled"):
        bench.flash()
