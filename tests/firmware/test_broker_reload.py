"""A revoked board is refused by a broker that was running all the time."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware_tools import identity as x509
from firmware_tools.broker import SYSTEM_FOLDERS
from firmware_tools.identity_store import IdentityStore
from hil_config.door import run
from hil_config.errors import LinkError
from hil_config.tls import BROKER, check_accepted, client_context, identity_files, serial_number
from tests.conftest import Address, _free_port, _wait_ready

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path=SYSTEM_FOLDERS)
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no mosquitto")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[Path, Address, int]]:
    """Identity folder with a board alpha (its identity in `alpha` beside it), address and process id of its broker."""
    folder, address = tmp_path / "identity", Address("127.0.0.1", _free_port())
    assert run(["bench", "init", "lab", "--folder", str(folder), "--port", str(address.port)]) == 0
    store, key = IdentityStore(folder), x509.make_key()
    certificate = store.sign("alpha", x509.make_request(key, "alpha"))
    x509.write_identity(tmp_path / "alpha", x509.Identity(certificate, key, store.ca))
    assert PROGRAM is not None
    with open(tmp_path / "output.log", "wb") as log:
        process = subprocess.Popen([PROGRAM, "-c", str(folder / "broker/mosquitto.conf")], stdout=log, stderr=log)
    try:
        _wait_ready(process, address)
        yield folder, address, process.pid
    finally:
        process.terminate()
        process.wait(10)


def _refusal(address: Address, context: ssl.SSLContext) -> str:
    """What the broker says once it does not take us any more; empty if it always did."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            check_accepted(address, context)
        except LinkError as error:
            return error.message
    return ""


def test_a_revoked_board_is_refused_and_its_open_connection_stays(
    bench: tuple[Path, Address, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, address, process = bench
    context = client_context(identity_files(tmp_path / "alpha"), BROKER)
    check_accepted(address, context)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="alpha", protocol=mqtt.MQTTv5)
    client.tls_set_context(context)
    client.connect(*address)
    client.loop_start()
    capsys.readouterr()
    assert run(["bench", "identity", "revoke", "alpha", "--folder", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["brokers"] == [process]
    assert "revoked" in _refusal(address, context)
    told = client.publish("anything", b"x", qos=1)
    told.wait_for_publish(10)
    assert told.is_published(), "the documented limit: open connections last"
    client.disconnect()
    client.loop_stop()


def test_a_broker_that_runs_shows_its_new_certificate(
    bench: tuple[Path, Address, int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, address, process = bench
    capsys.readouterr()
    assert run(["bench", "identity", "renew", "broker", "--folder", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["brokers"] == [process]
    context, deadline = client_context(identity_files(folder / "monitor"), BROKER), time.monotonic() + 20
    shown = ""
    while shown != told["serial"]:  # Mosquitto comes to its signal in its own time
        assert time.monotonic() < deadline, shown
        with socket.create_connection(address, 5.0) as raw, context.wrap_socket(raw) as secure:
            shown = f"{serial_number(secure):x}"


def test_a_bench_whose_broker_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "identity"
    assert run(["bench", "init", "lab", "--folder", str(folder)]) == 0
    IdentityStore(folder).sign("alpha", x509.make_request(x509.make_key(), "alpha"))
    assert run(["bench", "identity", "revoke", "alpha", "--folder", str(folder)]) == 0
    assert "restart it where it runs" in capsys.readouterr().out
    assert run(["bench", "identity", "renew", "broker", "--folder", str(folder)]) == 0
    assert "restart it where it runs" in capsys.readouterr().out
