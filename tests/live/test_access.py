"""Who may look at a dashboard: over real connections, and refused before anything is read."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ground_controller.live.access import Access, new_token, read_token
from hil_config.errors import SafetyRefusal, UsageError

HIL = (sys.executable, "-m", "hil_config.door")


@contextmanager
def dashboard(folder: Path, *arguments: str) -> Iterator[tuple[int, str]]:
    """The port of a dashboard over a run, and the address as it was printed."""
    process = subprocess.Popen(
        [*HIL, "dashboard", str(folder), "--port", "0", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(folder)
        address = process.stdout.readline().strip()
        yield int(address.partition("#")[0].rstrip("/").rpartition(":")[2]), address
    finally:
        process.terminate()
        process.communicate(timeout=20.0)


def _get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20.0)
    pause, deadline = threading.Event(), time.monotonic() + 20.0
    while True:
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            pause.wait(0.05)
        finally:
            connection.close()


def _live(port: int, host: str = "", origin: str | None = None) -> Any:
    connection = socket.create_connection(("127.0.0.1", port), 20.0)
    address = f"ws://{host or f'127.0.0.1:{port}'}/live"
    return connect(address, sock=connection, origin=origin, max_size=1 << 26)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def port(simulated: Path) -> Iterator[int]:
    """Of a dashboard on loopback."""
    with dashboard(simulated) as (port, address):
        assert address == f"http://127.0.0.1:{port}/"
        yield port


def test_loopback_needs_no_token_and_refuses_other_names(port: int) -> None:
    status, page = _get(port, "/")
    assert (status, page[:15]) == (200, b"<!doctype html>")
    status, why = _get(port, "/why/5")
    assert (status, json.loads(why)["number"]) == (200, 5)
    status, why = _get(port, "/why/100000")
    assert status == 404 and "wanted 1 to" in json.loads(why)["error"]
    for host in ("evil.example", "evil.example:80", "192.0.2.7", "127.0.0.1.evil.example"):
        assert _get(port, "/why/5", Host=host)[0] == 403, host
        assert _get(port, "/", Host=host)[0] == 403, host
    with _live(port) as one:
        kinds = [json.loads(one.recv(20.0))["kind"] for _ in range(2)]
        assert kinds[-1] in {"picture", "hello"}
    with _live(port, f"localhost:{port}", f"http://localhost:{port}") as one:
        assert one.recv(20.0)
    for host, origin in (("", "http://evil.example"), ("evil.example", "http://evil.example"), ("", "null")):
        with pytest.raises(InvalidStatus):
            _live(port, host, origin)


def test_nothing_but_the_page_is_served(port: int) -> None:
    assert _get(port, "/page/page.css")[0] == 200
    for path in ("/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/journal.sqlite"):
        assert _get(port, path)[0] == 404, path


@pytest.mark.parametrize(
    "text", ["{", '{"ask":"halt"}', '{"ask":"at","host_s":"x"}', '{"ask":"live","x":1}', "[" * 3000]
)
def test_what_no_page_says_ends_the_connection_only(port: int, text: str) -> None:
    with _live(port) as one:
        one.send(text)
        with pytest.raises(ConnectionClosed) as ended:
            _drain(one)
    assert ended.value.rcvd is not None and ended.value.rcvd.code == 4400
    assert _get(port, "/")[0] == 200


def _drain(one: Any) -> None:
    for _ in range(20):
        one.recv(20.0)


def test_other_addresses_want_the_token(simulated: Path, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    with dashboard(simulated, "--host", "0.0.0.0", "--token-file", str(path)) as (port, address):
        assert "token" not in address
        assert _get(port, "/")[0] == 200, "the page itself holds nothing of the run"
        for given in ("", "Bearer", "Bearer wrong", "Basic correct horse battery staple"):
            assert _get(port, "/why/5", Authorization=given)[0] == 401, given
        assert _get(port, "/why/5", Authorization="Bearer correct horse battery staple")[0] == 200
        for first in ({"ask": "token", "token": "wrong"}, {"ask": "live"}):
            with _live(port) as one:
                one.send(json.dumps(first))
                with pytest.raises(ConnectionClosed) as ended:
                    one.recv(20.0)
            assert ended.value.rcvd is not None and ended.value.rcvd.code == 4401
        with _live(port) as one:
            one.send(json.dumps({"ask": "token", "token": "correct horse battery staple"}))
            assert json.loads(one.recv(20.0))["kind"] in {"waiting", "hello"}
        assert _get(port, "/why/5", Host="evil.example", Authorization="Bearer correct horse battery staple")[0] == 403


def test_a_port_in_use_and_a_damaged_journal_end_it_with_a_reason(simulated: Path, port: int, tmp_path: Path) -> None:
    taken = _ended("dashboard", str(simulated), "--port", str(port))
    assert (taken.returncode, "cannot listen there" in taken.stderr) == (9, True), taken.stderr
    folder = tmp_path / "damaged"
    shutil.copytree(simulated, folder)
    path = folder / "journal.sqlite"
    with path.open("r+b") as file:  # its head and what it starts with stay whole
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * (path.stat().st_size // 4))
    damaged = _ended("dashboard", str(folder), "--port", "0")
    assert (damaged.returncode, "damaged" in damaged.stderr) == (10, True), damaged.stderr


def _ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HIL, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60.0, check=False
    )


def test_a_token_is_made_up_and_printed_once(simulated: Path) -> None:
    with dashboard(simulated, "--host", "0.0.0.0") as (port, address):
        token = address.partition("#token=")[2]
        assert len(token) >= 32
        assert _get(port, "/why/5", Authorization=f"Bearer {token}")[0] == 200
    assert new_token() != new_token()


def test_token_files_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("correct horse battery staple")
    for mode in (0o644, 0o640, 0o620, 0o604):
        path.chmod(mode)
        with pytest.raises(SafetyRefusal, match="wanted 0600"):
            read_token(path)
    path.chmod(0o400)
    assert read_token(path) == "correct horse battery staple"
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(UsageError, match="holds 5 characters"):
        read_token(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "none")
    with pytest.raises(SafetyRefusal, match="no token is set"):
        Access.of("0.0.0.0", "")


@pytest.mark.parametrize(
    ("host", "known"),
    [("localhost", True), ("127.0.0.1:8470", True), ("[::1]:8470", True), ("127.9.9.9", True), ("10.0.0.1", False),
     ("", False), ("example.org", False), ("localhost.example.org", False), ("[::ffff:10.0.0.1]", False)],
)  # fmt: skip
def test_names_of_loopback(host: str, known: bool) -> None:
    assert Access.of("127.0.0.1", "").knows_host(host) is known


@pytest.mark.parametrize(
    ("host", "known"),
    [("10.0.0.1:8470", True), ("[2001:db8::1]", True), ("bench.lab", True), ("BENCH.LAB:8470", True),
     ("example.org", False), ("bench.lab.example.org", False)],
)  # fmt: skip
def test_names_of_an_open_address(host: str, known: bool) -> None:
    assert Access.of("bench.lab", "0123456789abcdef").knows_host(host) is known
