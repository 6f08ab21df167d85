"""An upgrade that goes over several boards, one at a time, and meets one that it does not suit."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.provision.agent_slots import slot_name
from hil_config.door import run
from tests.firmware.provision.agent_version import version
from tests.firmware.provision.ssh_board import SEARCH, missing
from tests.firmware.provision.ssh_desk import Desk, open_broker, open_desk, shards_tar

WHY_NOT = missing() or ("" if shutil.which("mosquitto", path=SEARCH) else "no mosquitto")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"boards behind sshd: {WHY_NOT}")
NAMES = ("alpha", "bravo", "charlie")
NOT_ON_BRAVO = """\
if '"bravo"' in open('/etc/hil/agent.json').read():
    raise RuntimeError('does not start on bravo')
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, shards_tar(tmp_path), NAMES) as one, open_broker(one):
        yield one


def test_it_stops_at_the_first_failure_and_says_how_to_go_back(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.hil("provision", "all") == 0, "all at once"
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES), "one summary"
    first = desk.slot()
    archive = version(tmp_path, "picky", "node_agent/service.py", NOT_ON_BRAVO)
    second = slot_name(archive.read_bytes())
    words = ("provision", "all", "--upgrade", "--agent", str(archive), "--join-timeout", "8")
    assert desk.hil(*words) == 6
    said = capsys.readouterr()
    assert f"alpha: switched, agent {second}, before {first}" in said.out
    assert f"bravo: agent {second}, at waiting for the new agent at the broker" in said.err
    assert f"rolled back to agent {first}, which is at the broker" in said.err
    assert "not begun after the first failure: charlie" in said.err
    assert [desk.slot(name=name) for name in NAMES] == [second, first, first]
    assert desk.receipts("upgrade", "bravo")[-1]["outcome"] == "rolled back"
    assert desk.receipts("upgrade", "charlie") == []

    (line,) = (line for line in said.err.splitlines() if line.startswith("back to the agent before"))
    command = shlex.split(line.partition(": ")[2])
    assert command == ["hil", "provision", "alpha", "--rollback", "--bench", str(desk.bench_file)]
    assert run([*command[1:], "--json"]) == 0, "as it was printed"
    (back,) = json.loads(capsys.readouterr().out)["boards"]
    assert (back["result"]["outcome"], back["result"]["now"]) == ("switched", first)
    assert [desk.slot(name=name) for name in NAMES] == [first] * 3
