"""Cards that fail or lie, as block devices whose faults are chosen: nbdkit behind FUSE behind a direct-io loop device.

With a buffered read-back three of them look sound (bits that flip, writes that are dropped, capacity that is not
there): a verification that does not pass the cache by fails here.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_tools.flash.disk import System
from firmware_tools.flash.job import Job, Order
from hil_config.errors import HardwareError
from hil_config.schema.hardware import Disk
from tests.firmware.flash.desk import Bench

SIZE = 24 << 20
BLOCK = 1 << 20
PLUGIN = Path(__file__).with_name("bad_card.py")
PROGRAMS = ("nbdkit", "nbdfuse", "losetup", "fusermount3")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="attaching a loop device takes root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse here"),
]


def _unmount(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Whoever looks at loop devices just then keeps this one, and so the file, for a moment."""
    deadline = time.monotonic() + 20
    while subprocess.run(["fusermount3", "-u", str(file)], check=False).returncode and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        threading.Event().wait(0.05)
    process.communicate()


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a card with one fault; gives the file behind its loop device."""
    undo: list[Callable[[], object]] = []

    def make(fault: str) -> Path:
        place = tmp_path / "nbd"
        place.mkdir()
        file = place / "card"
        command = ["nbdfuse", str(file), "--command", "nbdkit", "-s", "--exit-with-parent", "python", str(PLUGIN)]
        file.touch()
        process = subprocess.Popen([*command, f"fault={fault}", f"bytes={SIZE}"], stderr=subprocess.PIPE)
        undo.append(lambda: _unmount(file, process))
        deadline = time.monotonic() + 20
        while file.stat().st_size != SIZE:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"nbdkit does not serve its Python plugin here: {process.communicate()[1].decode()[-300:]}")
            threading.Event().wait(0.05)
        done = subprocess.run(
            ["losetup", "--direct-io=on", "--find", "--show", str(file)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no loop device here: {done.stderr.strip()}")
        undo.append(lambda: subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True))
        if Path(f"/sys/block/{Path(done.stdout.strip()).name}/loop/dio").read_text().strip() != "1":
            pytest.skip("this kernel gives no direct-io loop device over FUSE")
        return file

    yield make
    for step in reversed(undo):
        step()


def flash(bench: Bench, backing: Path) -> Job:
    bench.image.write_bytes(random.Random(3).randbytes(SIZE - (2 << 20)))
    return Job("alpha", Disk(loop_file=str(backing)), 1 << 40, Order(str(bench.image)), bench.state, System(), BLOCK)


def test_a_sound_card(bench: Bench, card: Callable[[str], Path]) -> None:
    job = flash(bench, card("none"))
    receipt, _ = job.run(job.plan(), lambda *_: None)
    assert (receipt.verified, receipt.result.readback) == (True, "direct")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rot", "differs"),
        ("dropped", "differs"),
        ("counterfeit", "differs"),
        ("eio", "cannot be written"),
        ("sync", "fsync"),
        ("gone", "went away"),
    ],
)
def test_a_bad_card(bench: Bench, card: Callable[[str], Path], fault: str, words: str) -> None:
    job = flash(bench, card(fault))
    plan = job.plan()
    with pytest.raises(HardwareError) as caught:
        job.run(plan, lambda *_: None)
    assert words in caught.value.message
    assert caught.value.hint
    assert bench.receipts() == []
