"""Upgrades of a real agent at a real broker, on a board behind a real sshd: there, refused, rolled back, and back."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.firstboot.agent_package import agent_tar
from firmware_tools.fleet import on_all_rolling
from firmware_tools.provision.agent_slots import slot_name
from hil_config.errors import HardwareError
from tests.firmware.provision.agent_version import version
from tests.firmware.provision.ssh_board import SEARCH, missing
from tests.firmware.provision.ssh_desk import Desk, open_broker, open_desk, shards_tar

WHY_NOT = missing() or ("" if shutil.which("mosquitto", path=SEARCH) else "no mosquitto")
BOARD = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, shards_tar(tmp_path)) as one, open_broker(one):
        assert one.hil("provision", "alpha") == 0
        yield one


@BOARD
def test_upgrades_that_work_and_upgrades_that_do_not(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = desk.slot()
    assert first == slot_name(agent_tar())
    assert desk.hil("provision", "alpha", "--upgrade") == 0
    assert desk.receipts("upgrade")[-1]["outcome"] == "nothing to do"

    good = version(tmp_path, "good", "node_agent/__init__.py", "# a later version")
    assert desk.hil("provision", "alpha", "--upgrade", "--agent", str(good)) == 0
    second = slot_name(good.read_bytes())
    assert (desk.slot(), desk.slot("previous")) == (second, first)
    receipt = desk.receipts("upgrade")[-1]
    assert (receipt["outcome"], receipt["before"], receipt["now"]) == ("switched", first, second)
    assert receipt["boot_id"] != desk.receipts()[0]["boot_id"]

    capsys.readouterr()
    ill = version(tmp_path, "ill", "node_agent/self_test.py", "CHECKS = (('clock', lambda config: 1 / 0),)")
    assert desk.hil("provision", "alpha", "--upgrade", "--agent", str(ill)) == 6
    assert "its self-test ends with" in capsys.readouterr().err
    assert (desk.slot(), desk.receipts("upgrade")[-1]["outcome"]) == (second, "refused")

    dead = version(tmp_path, "dead", "node_agent/service.py", "raise RuntimeError('does not start')")
    words = ("--upgrade", "--agent", str(dead), "--join-timeout", "8")
    assert desk.hil("provision", "alpha", *words) == 6
    said = capsys.readouterr().err
    assert "at waiting for the new agent at the broker" in said
    assert f"rolled back to agent {second}, which is at the broker" in said
    receipt = desk.receipts("upgrade")[-1]
    assert (receipt["outcome"], receipt["now"], bool(receipt["boot_id"])) == ("rolled back", second, True)
    assert (desk.slot(), desk.slot("previous")) == (second, first)
    assert not (desk.board.root / "opt/hil/trial").exists()
    assert "safe mode" not in (desk.board.root / "var/log/hil-agent.log").read_text(), "the other one's crashes"

    assert desk.hil("provision", "alpha", "--rollback") == 0
    assert (desk.slot(), desk.slot("previous")) == (first, second)
    assert {one.name for one in (desk.board.root / "opt/hil/slots").iterdir()} == {first, second}


@BOARD
def test_a_trial_that_was_interrupted_is_taken_back_by_the_next_command(desk: Desk, tmp_path: Path) -> None:
    first, dead = desk.slot(), version(tmp_path, "dead", "node_agent/service.py", "raise RuntimeError('no')")
    name, opt = slot_name(dead.read_bytes()), desk.board.root / "opt/hil"
    (opt / "slots" / name).mkdir()
    with tarfile.open(dead) as archive:
        archive.extractall(opt / "slots" / name, filter="data")
    (opt / "previous").symlink_to(f"slots/{first}")
    (opt / "trial").touch()
    (opt / "current.new").symlink_to(f"slots/{name}")
    (opt / "current.new").rename(opt / "current")
    assert desk.hil("provision", "alpha", "--upgrade", "--agent", str(dead), "--join-timeout", "8") == 6
    assert (desk.slot(), desk.receipts("upgrade")[-1]["outcome"]) == (first, "rolled back")


def test_a_rolling_upgrade_stops_at_the_first_failure() -> None:
    begun: list[str] = []

    def work(board: str) -> str:
        begun.append(board)
        if board == "b2":
            raise HardwareError("it broke", "")
        return board

    done, left = on_all_rolling(["b1", "b2", "b3", "b4"], work, 1)
    assert ([one.board for one in done], left, begun) == (["b1", "b2"], ("b3", "b4"), ["b1", "b2"])
    done, left = on_all_rolling(["b1", "b2", "b3", "b4", "b5"], work, 3)
    assert ([one.board for one in done], left) == (["b1", "b2", "b3"], ("b4", "b5"))
    assert on_all_rolling(["b1", "b2"], work, None)[1] == ()
    done, left = on_all_rolling(["b1", "b2", "b3"], work, 1, keep_going=True)
    assert ([one.board for one in done], [bool(one.error) for one in done], left) == (
        ["b1", "b2", "b3"], [False, True, False], (),
    )  # fmt: skip
