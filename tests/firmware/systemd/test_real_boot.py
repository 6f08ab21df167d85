"""Two boards with a real distribution's first boot, systemd and NetworkManager, from card to campaign.

alpha is set up as Raspberry Pi OS Trixie is (cloud-init) and enrolled over SSH, bravo as Bookworm (a script on the
kernel's command line) and over its console.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firmware_tools.firstboot.agent_package import agent_tar
from ground_controller.journal import NAME, Journal
from tests.firmware.provision.test_flavours import PI, SEED, card
from tests.firmware.systemd.container import SEARCH, CannotStart, Container, Net, command, missing, root_folder

MISSING = missing()
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a container with a system of its own takes root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif("overlay" not in Path("/proc/filesystems").read_text(), reason="the kernel has no overlayfs"),
    pytest.mark.skipif(not shutil.which("mosquitto", path=SEARCH), reason="no mosquitto"),
]

GROUND = "10.78.0.1"
ADDRESSES = {"alpha": "10.78.0.7", "bravo": "10.78.0.8"}
CARDS = {
    "alpha": {**PI, **SEED, "issue.txt": b"Raspberry Pi reference 2025-12-04\n"},
    "bravo": {**PI, "issue.txt": b"Raspberry Pi reference 2024-11-19\n"},
}
BOARD = """\
  - name: {name}
    profile: raspberry-pi-5
    kind: debian
    address: {address}
    data_port: 7070
    disk: {{file: {name}.img, size_gb: 0.1}}
    console: {{port: {name}/console, user: hil, password_file: password}}
    ssh: {{host: {address}, user: hil, key_file: key, host_key_file: known_hosts}}
"""
SECONDS = 12
"""Of the orbit, at rate 3."""


class Lab(NamedTuple):
    """A bench in a network namespace."""

    home: Path
    net: Net
    boards: dict[str, Container]

    def hil(self, *words: str, code: int = 0) -> str:
        """What it printed on both; as a person at the ground types it."""
        done = subprocess.run(
            self.net.inside(sys.executable, "-m", "hil_config.door", *words), cwd=self.home, capture_output=True,
            text=True, timeout=300.0, check=False, env={**os.environ, "PATH": SEARCH},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def unit(self, board: str, name: str) -> str:
        """A property of the agent's service, as systemd has it."""
        return self.boards[board].says(f"systemctl show hil-agent.service --property={name} --value")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Cards are written, boards have started and are enrolled."""
    try:
        root = root_folder()
    except subprocess.SubprocessError as error:
        pytest.skip(f"Debian cannot be installed here: {error}")
    home = tmp_path_factory.mktemp("lab")
    try:
        net = Net(f"hil-{os.getpid()}", GROUND)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
    made = Lab(home, net, {name: Container(home / name, name, net, root) for name in ADDRESSES})
    broker = None
    try:
        _write_cards(made)
        words = ["mosquitto", "-c", str(home / "identity/broker/mosquitto.conf")]
        broker = subprocess.Popen(net.inside(*words), env={**os.environ, "PATH": SEARCH}, stderr=subprocess.DEVNULL)
        try:
            for board in made.boards.values():
                board.on()
        except CannotStart as error:
            pytest.skip(f"no container with a system of its own can be started here: {error}")
        assert made.boards["bravo"].ended() == 133, made.boards["bravo"].log[-3000:]
        made.boards["bravo"].on()
        for name, board in made.boards.items():
            board.until(partial(_is_set_up, made, name), "its first boot, and an open SSH port")
        (home / "known_hosts").write_text("".join(_host_key(made, name) for name in made.boards))
        made.hil("provision", "alpha", "--via", "ssh")
        made.hil("provision", "bravo", "--via", "console")
        yield made
    finally:
        for name, board in made.boards.items():
            made.hil("console", name, "--stop")
            board.close()
        if broker is not None:
            broker.terminate()
            broker.wait()
        net.close()


def _write_cards(lab: Lab) -> None:
    home = lab.home
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key"))
    (home / "password").write_text("only-for-this-test\n")
    entries = "".join(BOARD.format(name=name, address=address) for name, address in ADDRESSES.items())
    head = f"bench: lab\nidentity: identity\nbroker: {{host: {GROUND}, port: 8883}}\nboards:\n"
    (home / "bench.yaml").write_text(head + entries)
    lab.hil("bench", "init", "lab", "--address", GROUND, "--listen", GROUND, "--port", "8883")
    lab.hil("models", "build", "--out", "shards")
    lab.hil("models", "keygen", "--out", "model")
    lab.hil("models", "sign", "shards", "--key", "model.key")
    for name, files in CARDS.items():
        card(home, "bootfs", files).rename(home / f"{name}.img")
    lab.hil("firstboot", "all", "--ssh-key", "key.pub", "--network", "10.78.0.0/24", "--gateway", GROUND,
            "--ntp", GROUND, "--shards", "shards", "--trust", "model.pub")  # fmt: skip
    for name, board in lab.boards.items():
        board.insert(home / f"{name}.img")


def _is_set_up(lab: Lab, name: str) -> bool:
    return bool(_host_key(lab, name)) and "done" in lab.boards[name].says("ls /etc/hil")


def _host_key(lab: Lab, name: str) -> str:
    words = lab.net.inside("ssh-keyscan", "-T", "2", "-t", "ed25519", ADDRESSES[name])
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_distribution_does_what_the_card_says(lab: Lab, name: str) -> None:
    board = lab.boards[name]
    assert board.run("hostname").strip() == name
    assert f"{ADDRESSES[name]}/24" in board.run("ip -br addr show eth0")
    assert f"default via {GROUND}" in board.run("ip route")
    assert {"adm", "dialout", "sudo", "video"} <= set(board.run("id -Gn hil").split())
    assert board.run("systemctl --failed --no-legend --plain").strip() == ""
    assert board.run("stat -c %a:%U:%G /etc/hil/agent.json").strip() == "600:hil-agent:hil-agent"
    assert sorted(path.name for path in board.boot.iterdir() if path.name in ("hil", "firstrun.sh")) == []
    assert "systemd.run" not in (board.boot / "cmdline.txt").read_text()
    if name == "alpha":
        status = json.loads(board.run("cloud-init status --format=json"))
        assert status["errors"] == [] and status["status"] == "done", status


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_agent_runs_under_its_unit_and_everything_is_in_order(lab: Lab, name: str) -> None:
    board = lab.boards[name]
    assert lab.unit(name, "ActiveState") == "active" and lab.unit(name, "NRestarts") == "0"
    rights = dict(
        line.split(":", 1)
        for line in board.run(f"cat /proc/{lab.unit(name, 'MainPID')}/status").splitlines()
        if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))
    )
    assert {rights[one].strip() for one in rights if one.startswith("Cap")} == {"0" * 16}
    assert rights["NoNewPrivs"].strip() == "1" and rights["Seccomp"].strip() == "2"
    found = lab.hil("provision", name, "--check")
    assert "service:         as it should be, active" in found and "first boot:" in found


def test_boards_serve_a_campaign(lab: Lab) -> None:
    """Every row computed under what the units forbid."""
    _write_campaign(lab, SECONDS)
    lab.hil("campaign", "run", "bench.yaml", "campaign.yaml", "--out", "runs/real")
    report: dict[str, Any] = json.loads((lab.home / "runs/real/report.json").read_text())
    assert report["tokens"] > 0 and all(node["expert_rows"] > 0 for node in report["nodes"])
    assert report["records_missing"] == {} == report["messages_unread"]
    assert "0 mismatches" in lab.hil("campaign", "replay", "runs/real")


def _write_campaign(lab: Lab, seconds: int) -> None:
    """The example's, for two boards and so many seconds of the orbit at rate 3."""
    text = lab.hil("config", "example", "campaign")
    for there, here in (
        ("    - STARLINK-1412\n    - STARLINK-3672\n", ""), ("duration_s: 600 ", f"duration_s: {seconds} "),
        ("rate: 10 ", "rate: 3 "),
    ):  # fmt: skip
        assert there in text
        text = text.replace(there, here)
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.strip().startswith("start:"))
    (lab.home / "campaign.yaml").write_text("".join([*lines[: start + 3], *lines[start + 5 :]]))


def test_an_agent_that_systemd_starts_again_is_back_in_its_run(lab: Lab) -> None:
    _write_campaign(lab, 1_500)
    words = (
        sys.executable,
        "-m",
        "hil_config.door",
        "campaign",
        "run",
        "bench.yaml",
        "campaign.yaml",
        "--out",
        "runs/again",
    )
    run = subprocess.Popen(lab.net.inside(*words), cwd=lab.home, env={**os.environ, "PATH": SEARCH})
    try:
        board, folder = lab.boards["bravo"], lab.home / "runs/again"
        board.until(lambda: _count(folder, "decision") >= 3, "a run under way")
        board.run(f"kill -9 {lab.unit('bravo', 'MainPID')}")
        board.until(lambda: _count(folder, "returned") >= 1, "the board's return")
        with closing(Journal.read(folder, watch=True)) as journal:
            (entry,) = journal.entries("returned")
        back = json.loads(entry.body)
        assert (entry.node, back["problem"]) == ("bravo", "")
        board.until(lambda: _count(folder, "links", back["boot_id"]) >= 1, "frames from its new boot")
    finally:
        run.terminate()
        code = run.wait(60.0)
    assert code == 130
    assert lab.unit("bravo", "NRestarts") == "1"
    assert "0 mismatches" in lab.hil("campaign", "replay", "runs/again")


def _count(folder: Path, kind: str, boot_id: str = "") -> int:
    """Entries of a run under way, of one boot if it is named."""
    if not (folder / NAME).exists():
        return 0
    with closing(Journal.read(folder, watch=True)) as journal:
        return sum(1 for entry in journal.entries(kind) if boot_id in {"", entry.boot_id})


def test_a_stop_is_a_clean_one(lab: Lab) -> None:
    """systemd gives it 6 s. What is left in its home shows that nobody was to be reported to meanwhile."""
    board = lab.boards["bravo"]
    board.run("systemctl stop hil-agent.service")
    assert lab.unit("bravo", "Result") == "success"
    assert board.run("find /var/lib/hil -name '.cache'") == ""
    board.run("systemctl start hil-agent.service")
    assert lab.unit("bravo", "ActiveState") == "active"


def test_a_board_that_lost_its_power_comes_back_by_itself(lab: Lab) -> None:
    board = lab.boards["alpha"]
    before = board.run("cat /etc/hil/firstboot.done")
    board.off()
    board.on()
    board.until(lambda: lab.unit("alpha", "ActiveState") == "active", "its agent")
    assert board.run("cat /etc/hil/firstboot.done") == before, "a first boot is one"
    lab.hil("provision", "alpha")


def test_a_jetsons_unit_starts_as_well(lab: Lab) -> None:
    """root's number, and none of root's rights."""
    board = lab.boards["bravo"]
    install = "cd / && PYTHONPATH=/opt/hil/current PYTHONDONTWRITEBYTECODE=1 python3 -m node_agent.cli install"
    board.run(f"{install} --jetson && systemctl restart hil-agent.service")
    status = board.run(f"cat /proc/{lab.unit('bravo', 'MainPID')}/status")
    assert "\nUid:\t0\t0\t0\t0\n" in status and "\nCapEff:\t0000000000000000\n" in status
    board.run(f"{install} && systemctl restart hil-agent.service")
    lab.hil("provision", "bravo")


def test_an_agent_that_does_not_come_says_why(lab: Lab) -> None:
    """As systemd's journal has it, which does not start it again: it would find the same."""
    board = lab.boards["bravo"]
    board.run('cp -p /etc/hil/agent.json /root/ && sed -i \'s/"node"/"knot"/\' /etc/hil/agent.json')
    board.run("systemctl stop hil-agent.service && systemctl start --no-block hil-agent.service")
    board.until(lambda: lab.unit("bravo", "ActiveState") == "failed", "its end")
    assert (lab.unit("bravo", "ExecMainStatus"), lab.unit("bravo", "NRestarts")) == ("3", "0")
    told = lab.hil("provision", "bravo", "--join-timeout", "1", code=6)
    assert "its agent said: /etc/hil/agent.json" in told and "knot" in told and "journalctl -u hil-agent" in told
    board.run("mv /root/agent.json /etc/hil/ && systemctl restart hil-agent.service")
    lab.hil("provision", "bravo")


def test_an_ill_version_is_taken_back_with_its_own_words(lab: Lab) -> None:
    archive = lab.home / "ill.tar"
    archive.write_bytes(_ill_agent())
    told = lab.hil("provision", "alpha", "--upgrade", "--agent", str(archive), "--join-timeout", "20", code=6)
    assert "its agent said: RuntimeError: this agent is ill" in told and "rolled back to agent" in told
    assert lab.unit("alpha", "ActiveState") == "active"


def _ill_agent() -> bytes:
    """An agent whose self-test passes and that ends when it is to serve."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(agent_tar())) as healthy,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in healthy:
            file = healthy.extractfile(entry)
            assert file is not None
            data = file.read()
            if entry.name == "node_agent/service.py":
                ill = b"    def serve(self) -> None:\n        raise RuntimeError('this agent is ill')\n"
                data = data.replace(b"    def serve(self) -> None:\n", ill, 1)
                assert ill in data
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
