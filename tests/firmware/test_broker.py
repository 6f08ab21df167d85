"""The private broker: its configuration, where the program is looked for, and that it really runs."""

from __future__ import annotations

import json
import os
import queue
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from firmware_tools import apt_package, broker
from hil_config.door import run
from hil_config.errors import EnvironmentFault, UsageError

Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Writes a shell script that stands for Mosquitto and prints what it is given."""

    def write(folder: str, prints: str) -> Path:
        program = tmp_path / folder / "mosquitto"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho '{prints}'\nexit 3\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return write


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Mosquitto, with an empty cache, on which nothing can be fetched."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(broker, "SYSTEM_FOLDERS", str(tmp_path / "system"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_configuration() -> None:
    lines = broker.render_config(18_830, Path("/runs/a b/mosquitto.log")).splitlines()
    settings = dict(line.split(" ", 1) for line in lines if not line.startswith(("#", "log_type")))
    if os.geteuid() == 0:
        assert settings.pop("user") == "root"
    assert settings == {
        "listener": "18830 127.0.0.1",
        "allow_anonymous": "true",
        "persistence": "false",
        "set_tcp_nodelay": "true",
        "max_queued_messages": "100000",
        "max_queued_bytes": "0",
        "max_packet_size": str(16 * 1024 * 1024),
        "log_dest": "file /runs/a b/mosquitto.log",
        "log_timestamp_format": "%Y-%m-%dT%H:%M:%S",
    }
    assert [line for line in lines if line.startswith("listener")] == ["listener 18830 127.0.0.1"]


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_impossible_port(port: int) -> None:
    with pytest.raises(UsageError, match="wanted 1 to 65535"):
        broker.render_config(port, Path("/x"))


def test_folder_name_cannot_add_a_setting() -> None:
    with pytest.raises(UsageError, match="control characters"):
        broker.render_config(1883, Path("/x\nlistener 1 0.0.0.0/log"))


def test_program_on_path(bare: Path, fake: Fake) -> None:
    program = fake("path", "mosquitto version 2.0.18")
    assert broker.find_mosquitto() == broker.Mosquitto(program, "2.0.18", {})


def test_program_where_distributions_put_it(bare: Path, fake: Fake) -> None:
    fake("path", "mosquitto version 1.6.9")  # too old
    program = fake("system", "mosquitto version 2.1.0")
    assert broker.find_mosquitto() == broker.Mosquitto(program, "2.1.0", {})


def test_program_fetched_before(bare: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_fetched_folder", lambda: bare / "kept")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    program = fake("kept/usr/sbin", "mosquitto version 2.0.11")
    assert broker.find_mosquitto() == broker.Mosquitto(program, "2.0.11", {})
    library = bare / "kept" / "usr" / "lib" / "triplet" / "libfoo.so.1"
    library.parent.mkdir(parents=True)
    library.touch()
    assert broker.find_mosquitto().environment == {"LD_LIBRARY_PATH": f"{library.parent}:/opt/lib"}


@pytest.mark.parametrize("prints", ["error while loading shared libraries", "mosquitto version 1.4.15"])
def test_no_usable_program(bare: Path, fake: Fake, prints: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake("path", prints)
    assert broker.installed_mosquitto() is None
    with pytest.raises(EnvironmentFault, match="the MQTT broker is missing") as caught:
        broker.find_mosquitto()
    assert "osquitto" in caught.value.hint
    assert run(["bench", "broker", "--port", "1883", "--folder", str(bare), "--json"]) == 9
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: the MQTT broker is missing; mosquitto: ")
    assert lines[1].startswith("  hint: ")


def test_a_cache_that_may_not_be_read_is_no_defect(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    assert broker.installed_mosquitto() is None


@pytest.mark.parametrize(("program", "command"), [("apt-get", "sudo apt-get install mosquitto"), ("apk", "sudo apk")])
def test_hint_is_the_command_of_this_system(bare: Path, program: str, command: str) -> None:
    path = bare / "path" / program
    path.parent.mkdir()
    path.touch(mode=0o755)
    assert broker.install_command().startswith(command)


def test_a_download_that_is_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(package: str, folder: Path) -> Path:
        (folder / "tree" / "usr").mkdir(parents=True)
        return folder / "tree"

    def refuse(tree: Path) -> None:
        raise EnvironmentFault(f"{tree}: does not start")

    monkeypatch.setattr(apt_package, "can_fetch", lambda: True)
    monkeypatch.setattr(apt_package, "_unpacked", unpacked)
    with pytest.raises(EnvironmentFault, match="does not start"):
        apt_package.fetch("thing", tmp_path / "kept" / "here", refuse)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_broken_copy_is_replaced_and_a_sound_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(package: str, folder: Path) -> Path:
        (folder / "tree").mkdir()
        (folder / "tree" / "new").touch()
        return folder / "tree"

    def check(tree: Path) -> None:
        if (tree / "broken").exists():
            raise EnvironmentFault("broken")

    monkeypatch.setattr(apt_package, "can_fetch", lambda: True)
    monkeypatch.setattr(apt_package, "_unpacked", unpacked)
    for mark, left in (("broken", "new"), ("sound", "sound")):
        target = tmp_path / mark
        target.mkdir()
        (target / mark).touch()
        apt_package.fetch("thing", target, check)
        assert [path.name for path in target.iterdir()] == [left]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "sound"]


def test_recipe_as_json(broker: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for without in (["--host", "0.0.0.0"], ["--bench", "lab"]):
        assert run(["bench", "broker", "--port", str(port), "--folder", str(folder), *without]) == 2
        assert "without --identity" in capsys.readouterr().err and not folder.exists()
    assert run(["bench", "broker", "--port", str(port), "--folder", str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert captured.err == ""
    assert sorted(answer) == ["arguments", "config", "environment", "program"]
    assert answer["config"] == str(folder / "mosquitto.conf")
    assert answer["arguments"] == ["-c", answer["config"]]
    assert os.access(answer["program"], os.X_OK)
    assert f"listener {port} 127.0.0.1\n" in Path(answer["config"]).read_text()
    with pytest.raises(ConnectionRefusedError):  # it is only told how
        socket.create_connection(("127.0.0.1", port), 1.0)


def test_mqtt_5_round_trip_with_a_large_message(broker: tuple[str, int]) -> None:
    """Request and reply properties, 8 MB, retained: what the agents rely on."""
    arrived: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
    ready: queue.Queue[object] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "test-round-trip", protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: ready.put(None)
    client.on_subscribe = lambda *_: ready.put(None)
    client.on_message = lambda _client, _data, message: arrived.put(message)
    client.connect(*broker)
    client.loop_start()
    try:
        ready.get(timeout=10)
        client.subscribe("test/round-trip", qos=1)
        ready.get(timeout=10)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic, properties.CorrelationData = "test/reply", b"7"
        payload = os.urandom(8 << 20)
        client.publish("test/round-trip", payload, qos=1, properties=properties)
        message = arrived.get(timeout=20)
    finally:
        client.disconnect()
        client.loop_stop()
    assert message.payload == payload
    assert message.properties is not None
    passed = vars(message.properties)
    assert (passed["ResponseTopic"], passed["CorrelationData"]) == ("test/reply", b"7")


def test_broker_listens_on_loopback_only(broker: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses our own address
        except OSError:
            pytest.skip("this machine has loopback alone")
        address = probe.getsockname()[0]
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((address, broker[1]), 2.0)
