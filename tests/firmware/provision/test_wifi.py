"""Wi-Fi in a first boot: the derived key reaches the board's network program, the passphrase stays here."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_tools.firstboot.first_start import Start, files_for
from firmware_tools.firstboot.inject import BootPartition
from firmware_tools.firstboot.network import Network
from firmware_tools.firstboot.payload import FOLDER
from firmware_tools.firstboot.wheels import NEEDED
from firmware_tools.firstboot.wifi import FILES, Wifi, wifi_of
from hil_config.door import run
from hil_config.errors import UsageError
from tests.firmware.provision.test_flavours import BENCH, CMDLINE, IMAGES, MISSING, SEARCH, Board, card, wheel

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
PASSPHRASE = "nobody may read this 7"
LAB = wifi_of("lab; net = [1]", "DE", PASSPHRASE)


def test_keys_are_those_of_the_standard() -> None:
    """IEEE 802.11-2020, J.4.2."""
    for ssid, passphrase, key in (
        ("IEEE", "password", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"),
        ("ThisIsASSID", "ThisIsAPassword", "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"),
    ):
        assert wifi_of(ssid, "DE", passphrase).psk == key == wifi_of(ssid, "DE", key.upper()).psk
    assert LAB.psk not in repr(LAB) + str(Start("alpha", "x", Network(), wifi=LAB))


@pytest.mark.parametrize(
    ("ssid", "country", "passphrase", "wrong"),
    [
        ("", "DE", PASSPHRASE, "Wi-Fi name"), ("x" * 33, "DE", PASSPHRASE, "Wi-Fi name"),
        ("a\nb", "DE", PASSPHRASE, "Wi-Fi name"), ("lab", "de", PASSPHRASE, "Wi-Fi country"),
        ("lab", "", PASSPHRASE, "Wi-Fi country"), ("lab", "DE", "short 7", "has 7 characters"),
        ("lab", "DE", "ümlaut-and-more", "printable ASCII"), ("lab", "DE", "x" * 65, "has 65 characters"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_without_the_passphrase(
    ssid: str, country: str, passphrase: str, wrong: str
) -> None:
    with pytest.raises(UsageError, match=wrong) as caught:
        wifi_of(ssid, country, passphrase)
    assert passphrase not in caught.value.message + caught.value.hint


def test_both_forms_say_the_same() -> None:
    for wifi in (LAB, Wifi("plain_lab", "DE", LAB.psk)):
        keyfile = configparser.RawConfigParser()
        keyfile.read_string(wifi.network_manager())
        name = keyfile["wifi"]["ssid"]
        assert name == wifi.ssid or bytes(int(byte) for byte in name.split(";")[:-1]).decode() == wifi.ssid
        assert keyfile["wifi-security"]["psk"] == wifi.psk
        points = json.loads(wifi.netplan())["network"]["wifis"]["wlan0"]["access-points"]
        assert points == {wifi.ssid: {"password": wifi.psk}}


SSIDS = ("lab", "lab; net = [1]", "123", "  two", 'q"uo\\te', "Grün", "12;34;", "#hash")


@pytest.mark.skipif(not shutil.which("nmcli"), reason="not installed: network-manager")
@pytest.mark.parametrize("ssid", SSIDS)
def test_network_manager_reads_the_keyfile_as_it_was_meant(ssid: str) -> None:
    wifi = wifi_of(ssid, "DE", PASSPHRASE)
    done = subprocess.run(
        ["nmcli", "--offline", "connection", "modify", "connection.id", "as-read"],
        input=wifi.network_manager(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and f"psk={wifi.psk}\n" in done.stdout, done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("ssid=")).removeprefix("ssid=")
    if all(byte < 128 for byte in ssid.encode()):
        assert said.replace("\\\\;", ";").replace("\\s", " ").replace("\\\\", "\\") == ssid
    else:
        assert bytes(int(byte) for byte in said.split(";")[:-1]).decode() == ssid


@pytest.mark.skipif(not Path("/usr/libexec/netplan/generate").exists(), reason="not installed: netplan.io")
@pytest.mark.parametrize("ssid", SSIDS)
def test_netplan_takes_the_key_for_a_key(tmp_path: Path, ssid: str) -> None:
    wifi, place = wifi_of(ssid, "DE", PASSPHRASE), tmp_path / "etc/netplan/60-hil-wifi.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(wifi.netplan())
    place.chmod(0o600)
    command = ["/usr/libexec/netplan/generate", "--root-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "run/netplan/wpa-wlan0.conf").read_text()
    assert f"psk={wifi.psk}\n" in made and f'ssid="{ssid}"\n' in made


def test_the_country_is_on_the_kernels_command_line_once() -> None:
    start = Start("alpha", "x", Network(), wifi=LAB)
    for flavour in ("rpi-firstrun", "rpi-cloud-init", "ubuntu"):
        line = CMDLINE.strip() + b" cfg80211.ieee80211_regdom=GB\n"
        words = files_for(flavour, start, line, "card")["cmdline.txt"].decode().split()
        assert [word for word in words if "regdom" in word] == ["cfg80211.ieee80211_regdom=DE"]


@pytest.mark.parametrize("flavour", ["rpi-firstrun", "ubuntu"])
def test_the_command_writes_the_key_where_it_will_be_removed_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flavour: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", SEARCH)
    assert run(["bench", "init", "lab"]) == 0, capsys.readouterr()
    Path("bench.yaml").write_text(BENCH)
    Path("password").write_text("plain-words\n")
    Path("wifi").write_text(f"{PASSPHRASE}\n")
    path = card(tmp_path, *IMAGES[flavour], table=flavour != "nocloud")
    assert run(["models", "keygen", "--out", "model"]) == 0
    words = ["firstboot", "alpha", "--wifi", LAB.ssid, "--wifi-country", "DE", "--trust", "model.pub"]
    assert run([*words, "--wifi-passphrase-file", "wifi", "--json"]) == 0, capsys.readouterr()
    boot, said = BootPartition(str(path)), capsys.readouterr()
    for name in FILES:
        assert LAB.psk.encode() in boot.read(f"{FOLDER}/{name}")
    for name in set(boot.names()) & {"user-data", "meta-data", "network-config", "cmdline.txt", "firstrun.sh"}:
        assert LAB.psk.encode() not in boot.read(name), name
    kept = b"".join(file.read_bytes() for file in (tmp_path / ".hil").rglob("*") if file.is_file())
    for secret in (PASSPHRASE, LAB.psk):
        assert secret not in said.out + said.err and secret.encode() not in kept
    assert PASSPHRASE.encode() not in path.read_bytes()
    assert run(words) == UsageError.exit_code
    assert "nobody is here to be asked" in capsys.readouterr().err
    assert run(["firstboot", "alpha", "--wifi-country", "DE"]) == UsageError.exit_code


@pytest.mark.parametrize("program", ["NetworkManager", "netplan", "neither"])
def test_the_board_takes_the_form_that_it_reads_and_the_key_leaves_the_card(tmp_path: Path, program: str) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in NEEDED:
        wheel(wheels, name)
    board = Board(tmp_path, wheels, Start("alpha", "x", Network(), wifi=LAB))
    blocked = board.root / "var/lib/systemd/rfkill/platform-3f300000.mmcnr:wlan"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("1\n")
    if program != "NetworkManager":
        (board.root / "etc/NetworkManager").rmdir()
    if program == "netplan":
        (board.root / "etc/netplan").mkdir()
    said = board.start()
    assert "hil-start: done" in said and ("Wi-Fi NOT set up" in said) == (program == "neither")
    assert blocked.read_text() == "0\n"
    assert board.read("etc/modprobe.d/hil-wifi.conf") == "options cfg80211 ieee80211_regdom=DE\n"
    written = [path for path in board.root.rglob("*") if path.is_file() and LAB.psk.encode() in path.read_bytes()]
    wanted = {
        "NetworkManager": ["etc/NetworkManager/system-connections/hil-wifi.nmconnection"],
        "netplan": ["etc/netplan/60-hil-wifi.yaml"], "neither": [],
    }[program]  # fmt: skip
    assert [str(path.relative_to(board.root)) for path in written] == wanted
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    assert not any(LAB.psk.encode() in path.read_bytes() for path in board.boot.rglob("*") if path.is_file())


def test_after_a_failure_the_key_is_gone_from_the_card(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in NEEDED:
        wheel(wheels, name)
    board = Board(tmp_path, wheels, Start("alpha", "x", Network(), wifi=LAB))
    (board.boot / FOLDER / "wheels.tar").write_bytes(b"short")
    assert "FAILED at checksums" in board.start()
    assert not any((board.boot / FOLDER / name).exists() for name in FILES)
