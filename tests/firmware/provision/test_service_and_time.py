"""`hil provision` writes the agent's units and names the time server, once.

systemd is a script that notes what it is told; chrony is the real one, asked whether it understands what it is given.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.provision.time_keeper import CHRONY, TIMESYNCD, keeper_file
from hil_config.errors import EnvironmentFault, UsageError
from node_agent.install import SYSTEMD, differing, install
from tests.firmware.provision.agent_version import version
from tests.firmware.provision.ssh_board import SEARCH, missing
from tests.firmware.provision.ssh_desk import Desk, open_broker, open_desk, shards_tar

WHY_NOT = missing()
BOARD = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")
CHRONYD = shutil.which("chronyd", path=SEARCH)
SYSTEMCTL = """\
#!/bin/sh
case "$1" in
  is-active) exec cat /opt/active ;;
  show) [ ! -e /opt/stale ] || echo yes; exit ;;
  daemon-reload) rm -f /opt/stale; [ ! -e /opt/ill ] || ! grep -q daemon-reload /opt/ill || : >/opt/stale ;;
esac
echo "$*" >>/opt/said
[ "$*" != "restart hil-agent.service" ] || [ ! -e /run/hil-agent.pid ] || kill $(cat /run/hil-agent.pid)
[ ! -e /opt/ill ] || case "$*" in *"$(cat /opt/ill)"*) echo 'it is ill' >&2; exit 1;; esac
"""


class Systemd:
    """What stands for systemd on the board."""

    def __init__(self, desk: Desk) -> None:
        self.root = desk.board.root
        (self.root / "run/systemd/system").mkdir(parents=True)
        (self.root / "opt/board").mkdir(exist_ok=True)
        (self.root / "opt/board/systemctl").write_text(SYSTEMCTL)
        (self.root / "opt/board/systemctl").chmod(0o755)
        self.active("inactive")

    def active(self, state: str) -> None:
        (self.root / "opt/active").write_text(f"{state}\n")

    def ill(self, words: str) -> None:
        (self.root / "opt/ill").write_text(words)

    def said(self) -> list[str]:
        path = self.root / "opt/said"
        words = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return words


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as one:
        yield one


@BOARD
@pytest.mark.skipif(CHRONYD is None, reason="no chrony")
def test_units_and_time_server_are_written_once_and_mended(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    systemd, units = Systemd(desk), desk.board.root / "etc/systemd/system"
    words = ("provision", "alpha", "--no-wait", "--ntp", "192.168.50.1")
    assert desk.hil("provision", "alpha", "--check", "--ntp", "192.168.50.1") == 9
    said = capsys.readouterr().out
    assert (
        "time:            chrony does not ask the bench" in said
        and "differs in hil-agent.service, firstboot.conf, hil-agent.path" in said
        and "differs:         certificate, time, service: hil provision alpha\n" in said
    )
    assert not units.joinpath("hil-agent.service").exists() and systemd.said() == [], "only looked"

    assert desk.hil(*words) == 0
    first = desk.receipts()[-1]["changed"]
    assert (
        first[0] == "chrony asks 192.168.50.1" and first[1].startswith("service written: ") and first[2] == "enrolled"
    )
    assert (units / "hil-agent.service").read_bytes() == (SYSTEMD / "hil-agent.service").read_bytes()
    assert differing(desk.board.root, jetson=False) == []
    assert "hil-agent:" in (desk.board.root / "etc/passwd").read_text()
    assert systemd.said() == ["restart chrony", "daemon-reload", "start hil-agent.path"]
    assert CHRONYD is not None
    inside = desk.board.run("sh", "-c", f"{CHRONYD} -p -f /etc/chrony/chrony.conf >/opt/understood 2>&1")
    assert inside.wait(20) == 0
    assert "server 192.168.50.1 iburst minpoll 4 maxpoll 6 prefer" in (desk.board.root / "opt/understood").read_text()

    systemd.active("active")
    assert desk.hil(*words) == 0
    assert desk.receipts()[-1]["changed"] == [] and systemd.said() == []
    capsys.readouterr()
    assert desk.hil("provision", "alpha", "--check", "--ntp", "192.168.50.1") == 0
    said = capsys.readouterr().out
    assert "chrony asks the bench\n" in said and "service:         as it should be, active\n" in said
    assert said.endswith("differs:         nothing\n")

    (units / "hil-agent.service").write_text("[Unit]\nDescription=somebody else's\n")
    (units / "multi-user.target.wants/hil-agent.path").unlink()
    (desk.board.root / CHRONY.lstrip("/")).write_text("server 10.9.9.9\n")
    assert desk.hil(*words) == 0
    last = desk.receipts()[-1]["changed"]
    assert [one.partition(":")[0] for one in last] == [
        "chrony asks 192.168.50.1", "service written", "agent started again"
    ]  # fmt: skip
    assert systemd.said()[-1] == "restart hil-agent.service"
    systemd.active("failed")
    assert desk.hil(*words) == 0
    assert desk.receipts()[-1]["changed"] == ["agent started again"]


_EARLIER = (
    "report = lambda root, jetson, check: print(json.dumps({'differed': ['etc/a/b.service'], 'mended': not check}))"
)


@BOARD
def test_an_agent_whose_check_ends_well_whatever_it_finds_is_understood(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    Systemd(desk)
    slot = desk.board.root / "opt/hil/current/node_agent/install.py"
    with slot.open("a") as file:
        file.write(f"\n\n{_EARLIER}\n")
    assert desk.hil("provision", "alpha", "--check") == 9
    assert "service:         differs in b.service, inactive" in capsys.readouterr().out


@BOARD
def test_a_step_that_fails_says_which_it_was(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    systemd = Systemd(desk)
    systemd.ill("start hil-agent.path")
    assert desk.hil("provision", "alpha", "--no-wait") == 6
    assert "board alpha: watching for its certificate: exit code 1, it said 'it is ill'" in capsys.readouterr().err
    systemd.ill("daemon-reload")
    (desk.board.root / "etc/systemd/system/hil-agent.path").unlink()
    assert desk.hil("provision", "alpha", "--no-wait") == 6
    assert "board alpha: writing its units: exit code 9" in capsys.readouterr().err
    systemd.ill("nothing")
    assert desk.hil("provision", "alpha", "--no-wait") == 0
    assert "service written: daemon-reload" in desk.receipts()[-1]["changed"], "systemd learns of what was written"


@BOARD
@pytest.mark.skipif(not shutil.which("mosquitto", path=SEARCH), reason="no mosquitto")
def test_an_upgrade_and_a_rollback_leave_the_units_of_the_agent_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_desk(tmp_path, shards_tar(tmp_path)) as desk, open_broker(desk):
        systemd = Systemd(desk)
        systemd.active("active")
        unit = desk.board.root / "etc/systemd/system/hil-agent.service"
        assert desk.hil("provision", "alpha") == 0
        before = unit.read_bytes()
        later = version(tmp_path, "later", "node_agent/systemd/hil-agent.service", "# A later unit.")
        assert desk.hil("provision", "alpha", "--upgrade", "--agent", str(later)) == 0
        assert unit.read_bytes() == before + b"\n# A later unit.\n"
        systemd.ill("daemon-reload")
        capsys.readouterr()
        assert desk.hil("provision", "alpha", "--rollback") == 0, "the agent is there, whatever its units"
        assert "its units are not written: board alpha: writing its units" in capsys.readouterr().err
        systemd.ill("nothing")
        assert unit.read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_installing_below_a_root_is_idempotent(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert len(install(tmp_path, jetson=True)) == 6
    finally:
        os.umask(before)
    assert install(tmp_path, jetson=True) == [] and len(differing(tmp_path, jetson=False)) == 2
    for path in tmp_path.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path
    (tmp_path / "etc/systemd/system/hil-agent.path").unlink()
    (tmp_path / "etc/systemd/system/hil-agent.path").mkdir()
    with pytest.raises(EnvironmentFault, match=r"hil-agent\.path: cannot be written"):
        install(tmp_path, jetson=True)


def test_what_keepers_are_told() -> None:
    assert keeper_file("timesyncd", "10.0.0.1") == b"[Time]\nNTP=10.0.0.1\n" and TIMESYNCD.endswith("hil.conf")
    assert b"makestep 1 3" in keeper_file("chrony", "bench.lan")
    with pytest.raises(UsageError, match="time server"):
        keeper_file("chrony", "10.0.0.1\nallow")
