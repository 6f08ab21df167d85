"""First boot of distributions' images: the right form is written, a wrong one refused, the board does its half."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from firmware_tools import apt_package
from firmware_tools.firstboot.agent_package import agent_tar, folder_tar
from firmware_tools.firstboot.crypt_hash import sha512_crypt
from firmware_tools.firstboot.first_start import FIRSTRUN, Start, files_for, start_files, user_data
from firmware_tools.firstboot.flavour import Seen, choose, detect, look
from firmware_tools.firstboot.inject import BootPartition
from firmware_tools.firstboot.network import Network
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.firstboot.wheels import NEEDED, check_wheels
from hil_config.door import run
from hil_config.errors import ConfigError, DataFileError, EnvironmentFault, UsageError
from hil_config.schema.profiles import load_profile

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in ("sfdisk", "mkfs.vfat", "mcopy", "openssl") if not shutil.which(name, path=SEARCH)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

PASSWORD, TOKEN = "plain-words-nobody-may-see", "one-time-token-of-a-test"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CMDLINE = b"console=serial0,115200 root=PARTUUID=1234-02 rootwait quiet\n"
PI = {"config.txt": b"arm_64bit=1\n", "cmdline.txt": CMDLINE}
SEED = {"user-data": b"#cloud-config\n", "meta-data": b"", "network-config": b""}
IMAGES: dict[str, tuple[str, dict[str, bytes]]] = {
    "rpi-cloud-init": ("bootfs", {**PI, **SEED, "issue.txt": b"Raspberry Pi reference 2025-12-04\n"}),
    "rpi-firstrun": ("bootfs", {**PI, "issue.txt": b"Raspberry Pi reference 2024-11-19\n"}),
    "ubuntu": ("system-boot", {**PI, **SEED}),
    "nocloud": ("CIDATA", {}),
}
START = Start("alpha", "hil-lab-alpha-1", Network(), "hil", "ssh-ed25519 AAAA x\n", True, "10.0.0.1")


def card(folder: Path, label: str, files: dict[str, bytes], table: bool = True) -> Path:
    """An image whose FAT partition, or the whole of it, has a label and files."""
    path, fat, environment = folder / "card.img", folder / "boot.fat", {**os.environ, "PATH": SEARCH}
    fat.write_bytes(b"")
    os.truncate(fat, 24 << 20)
    made = ["mkfs.vfat", "-F", "16", "-n", label, str(fat)]
    subprocess.run(made, env=environment, check=True, capture_output=True)
    if not table:
        fat.rename(path)
    else:
        path.write_bytes(b"")
        os.truncate(path, 32 << 20)
        lines = "label: dos\nstart=2048, size=49152, type=c\nstart=51200, type=83\n"
        subprocess.run(["sfdisk", "-q", str(path)], input=lines, text=True, env=environment, check=True)
        with open(path, "r+b") as file:
            file.seek(2048 * 512)
            file.write(fat.read_bytes())
    if files:
        BootPartition(str(path)).write(files)
    return path


@pytest.mark.parametrize("flavour", IMAGES)
def test_a_flavour_is_told_from_the_card(tmp_path: Path, flavour: str) -> None:
    label, files = IMAGES[flavour]
    seen = look(BootPartition(str(card(tmp_path, label, files, table=flavour != "nocloud"))))
    assert detect(seen) == flavour == choose(seen, "", "card")
    for other in set(IMAGES) - {flavour}:
        with pytest.raises(ConfigError, match=rf"flavour {other} does not fit: .*it looks like {flavour}"):
            choose(seen, other, "card")


def test_cards_that_cannot_be_told_or_are_too_old() -> None:
    with pytest.raises(DataFileError, match="cannot tell"):
        choose(Seen(frozenset({"grub"}), "efi"), "", "card")
    assert choose(Seen(frozenset({"grub"}), "efi"), "hil", "card") == "hil"
    with pytest.raises(DataFileError, match="2023-05-03, older than Bookworm"):
        choose(Seen(frozenset(PI), "boot", "2023-05-03"), "", "card")


def test_a_command_line_runs_ours_and_what_it_ran_before() -> None:
    files = files_for("rpi-firstrun", START, CMDLINE, "card")
    line = files["cmdline.txt"].decode()
    assert line.startswith(CMDLINE.decode().strip()) and line.count("\n") == 1
    assert "systemd.run=/boot/firmware/firstrun.sh" in line.split()
    assert files_for("rpi-firstrun", START, line.encode(), "card")["cmdline.txt"] == line.encode(), "twice is once"
    with pytest.raises(ConfigError, match=r"systemd.run=/boot/firstrun.sh already"):
        files_for("rpi-firstrun", START, b"quiet systemd.run=/boot/firstrun.sh\n", "card")
    imager = CMDLINE.strip() + b" ds=nocloud;i=rpi-imager-17\n"
    words = files_for("rpi-cloud-init", START, imager, "card")["cmdline.txt"].decode().split()
    assert [word for word in words if word.startswith("ds=")] == ["ds=nocloud;i=hil-lab-alpha-1"]


BENCH = """\
bench: lab
identity: identity
broker: {host: 10.0.0.1, port: 8883}
boards:
  - name: alpha
    profile: raspberry-pi-5
    kind: raspberry-pi
    address: 10.0.0.7
    data_port: 7070
    disk: {file: card.img, size_gb: 0.1}
    console: {port: "socket://127.0.0.1:1", user: hil, password_file: password}
"""


@pytest.mark.parametrize("flavour", IMAGES)
def test_the_command_writes_each_form_and_no_secret_where_it_would_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flavour: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", SEARCH)
    assert run(["bench", "init", "lab"]) == 0, capsys.readouterr()
    Path("bench.yaml").write_text(BENCH)
    Path("password").write_text(f"{PASSWORD}\n")
    path = card(tmp_path, *IMAGES[flavour], table=flavour != "nocloud")
    words = ["--network", "10.0.0.0/24", "--gateway", "10.0.0.1", "--json"]
    assert run(["firstboot", "alpha", *words]) == UsageError.exit_code
    assert "no --trust: its agent would not start" in capsys.readouterr().err
    assert run(["models", "keygen", "--out", "model"]) == 0
    words += ["--trust", "model.pub"]
    capsys.readouterr()
    assert run(["firstboot", "alpha", *words]) == 0, capsys.readouterr()
    receipt = json.loads(capsys.readouterr().out)["boards"][0]["result"]
    assert receipt["flavour"] == flavour
    boot = BootPartition(str(path))
    names = set(boot.names())
    assert {"hil-start.sh", "hil-firstboot.sh", "hil.nmconnection", "token"} <= set(boot.names(FOLDER))
    shadow, token = boot.read(f"{FOLDER}/password.hash"), boot.read(f"{FOLDER}/token")
    assert shadow.startswith(b"$6$")
    stays = [
        boot.read(name) for name in names & {"user-data", "meta-data", "network-config", "cmdline.txt", "firstrun.sh"}
    ]
    kept = [file.read_bytes() for file in (tmp_path / ".hil").rglob("*") if file.is_file()]
    agent = json.loads(boot.read(f"{FOLDER}/agent.json"))
    of_its_kind = load_profile("raspberry-pi-5").agent_fields()
    assert of_its_kind["sensors"] and of_its_kind["safety"] and agent == {**agent, **of_its_kind}
    for secret in (PASSWORD.encode(), shadow, token):
        assert not any(secret in data for data in stays + kept)
    assert PASSWORD.encode() not in path.read_bytes()
    if flavour != "rpi-firstrun":
        user = json.loads(boot.read("user-data").partition(b"\n")[2])
        assert user["hostname"] == "alpha" and ("LABEL" in str(user) or "CIDATA" in str(user)) == (flavour == "nocloud")
        assert json.loads(boot.read("network-config"))["ethernets"]["bench"]["addresses"] == ["10.0.0.7/24"]
    wrong = "rpi-firstrun" if flavour != "rpi-firstrun" else "ubuntu"
    assert run(["firstboot", "alpha", "--flavour", wrong, "--trust", "model.pub"]) == ConfigError.exit_code
    assert f"flavour {wrong} does not fit" in capsys.readouterr().err


def wheel(folder: Path, name: str, tag: str = "py3-none-any", body: str = "") -> Path:
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", body or f"name = '{name}'\n")
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in NEEDED:
        wheel(folder, name)
    return folder


def test_wheels_are_looked_at(wheels: Path) -> None:
    assert len(check_wheels(wheels, "raspberry-pi")) == len(NEEDED)
    other = wheel(wheels, "more", "cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64")
    with pytest.raises(DataFileError, match="raspberry-pi boards are aarch64"):
        check_wheels(wheels, "raspberry-pi")
    assert len(check_wheels(wheels, "debian")) == len(NEEDED) + 1
    arm = wheel(wheels, "other", "cp311-cp311-linux_aarch64")
    with pytest.raises(DataFileError, match="several processors: aarch64, x86_64"):
        check_wheels(wheels, "debian")
    arm.unlink()
    other.unlink()
    mac = wheel(wheels, "mac", "cp311-cp311-macosx_10_9_x86_64")
    with pytest.raises(DataFileError, match="debian boards are aarch64 or x86_64"):
        check_wheels(wheels, "debian")
    mac.unlink()
    for python in ("cp311", "cp313"):
        wheel(wheels, f"for{python}", f"{python}-{python}-manylinux_2_28_aarch64")
    with pytest.raises(DataFileError, match="several Pythons: cp311, cp313"):
        check_wheels(wheels, "jetson")
    (wheels / "forcp313-1.0-cp313-cp313-manylinux_2_28_aarch64.whl").write_bytes(b"PK")
    with pytest.raises(DataFileError, match="damaged"):
        check_wheels(wheels, "jetson")
    shutil.rmtree(wheels)
    with pytest.raises(DataFileError, match="no wheel of msgspec, numpy"):
        check_wheels(wheels, "jetson")


class Board:
    """Root file system and boot partition as folders; the scripts run on this machine's sh."""

    def __init__(self, home: Path, wheels: Path, start: Start = START) -> None:
        self.root, self.boot = home / "root", home / "boot firmware"
        (self.boot / FOLDER).mkdir(parents=True)
        for folder in ("etc/NetworkManager", "home", "opt", "var/lib"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.root / "etc/shadow").write_text("root:!:19000:0:99999:7:::\n")
        settings = Settings(
            node="alpha", bench="lab", place=Place("10.0.0.1", 8883, "10.0.0.7", 7070), profile={}, ca=b"PEM",
            token=TOKEN, password_hash=sha512_crypt(PASSWORD), authorized_keys="ssh-ed25519 AAAA x\n",
        )  # fmt: skip
        more = {**start_files(start), "wheels.tar": folder_tar(wheels)}
        for name, data in payload(settings, agent_tar(), b"", more).items():
            (self.boot / FOLDER / name).write_bytes(data)
        for name, data in files_for("rpi-firstrun", start, CMDLINE, "card").items():
            (self.boot / name).write_bytes(data)

    def start(self) -> str:
        environment = {**os.environ, "HIL_ROOT": str(self.root)}
        command = ["sh", str(self.boot / "firstrun.sh")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, "whatever happens the board goes on booting"
        return done.stdout + done.stderr

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


def test_the_board_sets_itself_up_and_its_unit_starts_the_agent(tmp_path: Path, wheels: Path) -> None:
    network = Network("10.0.0.7/24", "10.0.0.1")
    board = Board(tmp_path, wheels, Start("alpha", "x", network, ntp="10.0.0.1"))
    (board.root / "etc/chrony/conf.d").mkdir(parents=True)
    said = board.start()
    assert "hil-start: done" in said, said + board.read("var/log/hil-firstboot.log")
    assert not (board.boot / FOLDER).exists() and not (board.boot / "firstrun.sh").exists()
    assert (board.boot / "cmdline.txt").read_bytes() == CMDLINE
    assert "hil:$6$" in board.read("etc/shadow")
    assert board.read("etc/systemd/timesyncd.conf.d/hil.conf") == "[Time]\nNTP=10.0.0.1\n"
    assert "server 10.0.0.1 iburst" in board.read("etc/chrony/conf.d/hil.conf")
    keyfile = board.root / "etc/NetworkManager/system-connections/hil.nmconnection"
    assert keyfile.stat().st_mode & 0o777 == 0o600 and "address1=10.0.0.7/24" in keyfile.read_text()
    assert (board.root / "etc/hostname").stat().st_mode & 0o777 == 0o644
    assert (board.root / "opt/hil/site/onnxruntime/__init__.py").exists()
    units = board.root / "etc/systemd/system"
    own = Path(__file__).parents[3] / "node_agent/systemd/hil-agent.service"
    assert (units / "hil-agent.service").read_bytes() == own.read_bytes()
    for unit in ("hil-agent.path", "hil-agent.service"):
        assert (units / "multi-user.target.wants" / unit).resolve() == units / unit
    slot = (board.root / "opt/hil/current").resolve()
    for folder in (board.root / "opt/hil", slot.parent, slot, slot / "node_agent"):
        assert folder.stat().st_mode & 0o005 == 0o005, f"the agent's user may not read {folder}"
    everywhere = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(PASSWORD.encode() in data for data in everywhere)
    assert not any(TOKEN.encode() in file.read_bytes() for file in board.boot.rglob("*") if file.is_file())


def test_units_are_sound(tmp_path: Path, wheels: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed: apt install systemd")
    board = Board(tmp_path, wheels)
    board.start()
    units = board.root / "etc/systemd/system"
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    command = ["systemd-analyze", "verify", "--man=no", str(units / "hil-agent.service"), str(units / "hil-agent.path")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "hil-agent" in line and "not found" not in line]
    assert done.returncode == 0 and not ours, done.stderr


def test_a_jetson_gets_its_own_unit(tmp_path: Path, wheels: Path) -> None:
    board = Board(tmp_path, wheels, Start("alpha", "x", Network(), jetson=True))
    board.start()
    assert "User=root" in board.read("etc/systemd/system/hil-agent.service")
    assert "chown -R root:root" in board.read("etc/systemd/system/hil-agent.service.d/firstboot.conf")


@pytest.mark.parametrize("trouble", ["damaged", "wheels", "agent", "units"])
def test_after_a_failure_the_secrets_are_gone_and_the_board_boots(tmp_path: Path, wheels: Path, trouble: str) -> None:
    if trouble == "wheels":
        wheel(wheels, "numpy", body="raise ImportError('for another Python')\n")
    board = Board(tmp_path, wheels)
    if trouble == "damaged":
        (board.boot / FOLDER / "wheels.tar").write_bytes(b"short")
    if trouble == "agent":
        (board.root / "opt/hil/slots").mkdir(parents=True)
        (board.root / "etc/hil").write_text("in the way")
    if trouble == "units":
        (board.root / "etc/systemd/system/hil-agent.service").mkdir(parents=True)
    said = board.start()
    wanted = {
        "damaged": "FAILED at checksums", "wheels": "FAILED at wheels", "agent": "FAILED in hil-firstboot.sh",
        "units": "FAILED at units",
    }  # fmt: skip
    assert wanted[trouble] in said
    assert not (board.boot / FOLDER / "token").exists() and not (board.boot / FOLDER / "password.hash").exists()
    assert (board.boot / "cmdline.txt").read_bytes() == CMDLINE
    assert wanted[trouble] in board.read("var/log/hil-firstboot.log")


@pytest.fixture(scope="session")
def cloud_init() -> Path:
    """Debian's own cloud-init, unpacked and not installed."""
    if not apt_package.can_fetch() or not SYSTEM_PYTHON.exists():
        pytest.skip("no apt-get and /usr/bin/python3 here to unpack cloud-init with")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacemoe-test"
    tree = cache / "cloud-init"
    if not (tree / "usr/lib/python3/dist-packages/cloudinit").is_dir():
        try:
            apt_package.fetch("cloud-init", tree, lambda _: None)
        except EnvironmentFault as error:
            pytest.skip(f"cloud-init cannot be fetched: {error.message}")
    return tree / "usr/lib/python3/dist-packages"


def schema(cloud_init: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYSTEM_PYTHON), "-m", "cloudinit.cmd.main", "schema", "-c", str(file)],
        env={"PATH": SEARCH, "PYTHONPATH": str(cloud_init), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_user_data_passes_cloud_inits_own_schema(tmp_path: Path, cloud_init: Path) -> None:
    file = tmp_path / "user-data"
    for label in ("", "CIDATA"):
        file.write_bytes(user_data(START, label))
        done = schema(cloud_init, file)
        assert done.returncode == 0 and "Valid" in done.stdout, done.stdout + done.stderr
    file.write_bytes(re.sub(rb'"hostname": "alpha"', b'"hostname": 3', user_data(START)))
    assert schema(cloud_init, file).returncode != 0, "it must be able to refuse"


def test_the_agent_package_brings_its_units() -> None:
    with tarfile.open(fileobj=io.BytesIO(agent_tar())) as archive:
        names = archive.getnames()
    assert "node_agent/systemd/hil-agent.service" in names and "node_agent/systemd/hil-agent.tmpfiles.conf" in names
    assert FIRSTRUN.read_text().startswith("#!/bin/sh")
