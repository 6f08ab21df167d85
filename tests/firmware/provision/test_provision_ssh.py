"""`hil provision` over SSH: the same steps as on the console, against a board behind a real sshd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firmware.provision.ssh_board import missing
from tests.firmware.provision.ssh_desk import Desk, open_desk

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as one:
        yield one


def test_the_same_steps_as_on_the_console(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    token = (desk.board.root / "etc/hil/token").read_text()
    assert desk.hil("provision", "alpha", "--check") == 9
    assert "certificate:     none of ours" in capsys.readouterr().out
    assert not (desk.board.root / "etc/hil/identity/certificate.pem").exists(), "only looked"
    for _ in range(2):
        assert desk.hil("provision", "alpha", "--no-wait") == 0
    capsys.readouterr()
    assert desk.hil("provision", "alpha", "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["boards"][0]["result"]["differs"] == []
    first, second = desk.receipts()
    assert (first["changed"], second["changed"]) == (["enrolled"], [])
    assert (desk.board.root / "etc/hil/identity/certificate.pem").exists()
    assert not (desk.board.root / "etc/hil/token").exists()
    said = capsys.readouterr()
    assert token not in said.out + said.err + json.dumps([first, second])


def test_a_first_boot_that_failed_half_way_is_none(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.board.root / "etc/hil/firstboot.done").unlink()
    (desk.board.root / "etc/hil/identity/request.pem").unlink()
    assert desk.slot(), "it came as far as its agent"
    assert desk.hil("provision", "alpha", "--check", "--json") == 9
    found = json.loads(capsys.readouterr().out)["boards"][0]["result"]
    assert (found["first_boot"], found["slot"]) == ("", desk.slot())
    assert desk.hil("provision", "alpha", "--no-wait") == 6
    assert "board alpha: has had no first boot of ours" in capsys.readouterr().err


def test_a_way_that_the_bench_file_does_not_name(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.hil("provision", "alpha", "--via", "console", "--no-wait") == 3
    assert "wants `console`" in capsys.readouterr().err
