"""What a person hands to `hil flash` by mistake: nothing is overwritten, and the message says what it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from firmware_tools.flash.disk import System
from firmware_tools.flash.job import Job, Order
from firmware_tools.reservation import me
from hil_config.door import run
from hil_config.errors import ArtefactError, DataFileError, EnvironmentFault, HilError, SafetyRefusal
from hil_config.schema.hardware import Disk
from tests.firmware.flash.desk import BLOCK, Bench

LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81
BOARD = "bench: lab\nboards:\n  - {{name: alpha, profile: raspberry-pi-5, disk: {{file: {0}, size_gb: 0.004}}}}\n"


def words(bench: Bench, card: str = "card.img") -> list[str]:
    file = bench.folder / "bench.yaml"
    file.write_text(BOARD.format(card))
    return ["flash", "alpha", "--bench", str(file), "--image", str(bench.image), "--yes", str(bench.folder / card)]


def test_an_image_is_not_written_over_itself(bench: Bench) -> None:
    before = bench.image.read_bytes()
    (bench.folder / "link.img").symlink_to(bench.image)
    os.link(bench.image, bench.folder / "hard.img")
    for other in ("link.img", "hard.img"):
        with pytest.raises(SafetyRefusal, match="overwritten while it is read"):
            bench._replace(card=bench.image).flash(bench.folder / other)
    assert bench.image.read_bytes() == before


def test_an_empty_image_clears_nothing(bench: Bench) -> None:
    bench.card.write_bytes(b"what was there" * 1000)
    before = bench.card.read_bytes()
    bench.image.write_bytes(b"")
    with pytest.raises(ArtefactError, match="is empty"):
        bench.flash()
    assert bench.card.read_bytes() == before


def test_an_image_that_has_no_end_is_refused(bench: Bench) -> None:
    with pytest.raises(DataFileError, match="not a plain file"):
        bench.job("/dev/zero")


@pytest.mark.parametrize("head", [b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd" + b"\xff" * 30], ids=["cut", "garbage"])
def test_a_zst_without_a_frame_is_damaged(bench: Bench, head: bytes) -> None:
    bench.image.write_bytes(head)
    with pytest.raises(ArtefactError, match="damaged zst"):
        bench.flash()


def test_a_cache_without_room_costs_time_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.folder / "taken"))
    assert bench.flash().verified


def test_a_size_that_no_file_system_has(bench: Bench) -> None:
    with pytest.raises(EnvironmentFault, match="cannot have 100000000000000") as caught:
        bench.flash(size_gb=100_000)
    assert "size_gb" in caught.value.hint


def test_a_name_that_no_file_system_has(bench: Bench) -> None:
    with pytest.raises(EnvironmentFault, match="File name too long"):
        bench._replace(card=bench.folder / ("a" * 300)).job().plan()


def test_a_board_that_another_holds_is_not_flashed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(bench)
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "ada@lab")
    assert run(["bench", "reserve", "alpha", "--bench", line[3]]) == 0
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "bob@lab")
    assert run(line) == 11
    assert "ada@lab holds it" in capsys.readouterr().err
    assert not bench.card.exists()
    assert run([*line[:-2], "--dry-run"]) == 0


def test_who_asks_for_root_stays_who_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert me().startswith("ada@"), "as root, and as the user of a bench that is shared"
    monkeypatch.setenv("SUDO_USER", "root")
    monkeypatch.setenv("LOGNAME", "bench")
    assert me().startswith("bench@"), "root acts for that user"


@pytest.mark.parametrize("kind", ["reservations/alpha.json", "locks/alpha.lock"])
def test_what_may_not_be_read_is_not_taken_for_absent(
    bench: Bench, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(bench)
    (bench.state.folder / kind).mkdir(parents=True)  # what no right to read does, and root meets too
    assert run(line) == 9
    assert f"{bench.state.folder / kind}: cannot be" in capsys.readouterr().err
    assert not bench.card.exists()


@pytest.fixture
def device() -> Iterator[str]:
    """A loop device of our own: whoever asks for any free one is given the lowest."""
    number = 1000 + os.getpid() % 100_000
    path = f"/dev/loop{number}"
    try:
        with open("/dev/loop-control", "rb") as control:
            fcntl.ioctl(control, LOOP_CTL_ADD, number)
    except OSError as error:
        pytest.skip(f"no loop device here: {error.strerror}")
    if not os.path.exists(path):
        pytest.skip(f"no loop device here: {path} does not appear")
    yield path
    subprocess.run(["losetup", "--detach", path], check=False)
    with open("/dev/loop-control", "rb") as control, contextlib.suppress(OSError):  # EBUSY: somebody looks at it still
        fcntl.ioctl(control, LOOP_CTL_REMOVE, number)


def test_a_card_that_was_changed_while_a_person_was_asked(bench: Bench, device: str) -> None:
    cards = [bench.folder / "one.img", bench.folder / "other.img"]
    for card in cards:
        card.write_bytes(b"x" * (4 << 20))
    subprocess.run(["losetup", device, str(cards[0])], check=True)
    job = Job("alpha", Disk(loop_file=str(cards[0])), 1 << 40, Order(str(bench.image)), bench.state, System(), BLOCK)
    plan = job.plan()
    assert plan.disk.node == device
    subprocess.run(["losetup", "--detach", device], check=True)
    subprocess.run(["losetup", device, str(cards[1])], check=True)
    with pytest.raises(HilError, match="no disk with loop_file"):
        job.run(plan, lambda *_: None)
    assert all(card.read_bytes() == b"x" * (4 << 20) for card in cards)


def test_a_card_of_another_size_was_put_into_the_port(bench: Bench) -> None:
    job = bench.job()
    plan = job.plan()
    bench.card.write_bytes(b"y" * (4 << 20))
    with pytest.raises(SafetyRefusal, match="to be written was"):
        job.run(plan, lambda *_: None)
    assert bench.card.read_bytes() == b"y" * (4 << 20)


def test_the_command_to_go_on_with_can_be_typed(bench: Bench, sha256: object) -> None:
    folder = bench.folder / "with blank"
    folder.mkdir()
    image = folder / "an image.img"
    image.write_bytes(os.urandom(1 << 20) * 96)
    file = folder / "bench.yaml"
    file.write_text(BOARD.format("card.img").replace("0.004", "0.2"))
    line = ["flash", "alpha", "--image", str(image), "--bench", str(file), "--no-bmap"]
    code = "import signal, sys; from hil_config.door import run; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *line, "--yes", str(folder / "card.img")], stderr=subprocess.PIPE, text=True
    )
    pause, deadline = threading.Event(), time.monotonic() + 60
    lock = folder / ".hil/partial/alpha.json"
    while not lock.exists() and process.poll() is None and time.monotonic() < deadline:
        pause.wait(0.005)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    again = next(one for one in said.splitlines() if "To go on: " in one).partition("To go on: ")[2]
    assert shlex.split(again)[1:] == ["flash", "alpha", "--image", str(image), "--bench", str(file), "--no-bmap"]
