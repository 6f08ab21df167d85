"""The bench's time server: a real chrony with our lines is asked over UDP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.time_server import Answer, ask, server_config
from hil_config.door import run
from hil_config.errors import LinkError, UsageError

CHRONYD = shutil.which("chronyd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    if CHRONYD is None or os.geteuid() != 0:
        pytest.skip("chronyd is not installed, or this is not root")
    number = free_udp_port()
    config = tmp_path / "chrony.conf"
    config.write_text(f"{server_config('127.0.0.1')}port {number}\ncmdport 0\npidfile {tmp_path}/pid\n")
    server = subprocess.Popen([CHRONYD, "-d", "-x", "-u", "root", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield number
    finally:
        server.terminate()
        server.wait(10)


def until_answered(port: int) -> Answer:
    deadline, pause = time.monotonic() + 20, threading.Event()
    while True:
        try:
            answer = ask("127.0.0.1", port, 1.0)
            if answer.synchronised:
                return answer
        except LinkError:
            pass
        assert time.monotonic() < deadline, "chrony does not serve"
        pause.wait(0.1)


def test_a_chrony_with_our_lines_answers_boards(port: int) -> None:
    answer = until_answered(port)
    assert answer.stratum == 10 and abs(answer.offset_s) <= answer.within_s + 0.005
    assert str(answer).startswith("stratum 10, ")


def test_nobody_and_somebody_else() -> None:
    with pytest.raises(LinkError, match=r"time server 127\.0\.0\.1: "):
        ask("127.0.0.1", free_udp_port(), 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))

        def echo() -> None:
            data, who = other.recvfrom(512)
            other.sendto(data, who)

        thread = threading.Thread(target=echo)
        thread.start()
        with pytest.raises(LinkError, match="something else than NTP"):
            ask("127.0.0.1", other.getsockname()[1], 5.0)
        thread.join()


def test_init_writes_what_chrony_has_to_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "init", "lab", "--folder", str(tmp_path / "identity"), "--listen", "192.168.50.1"]
    assert run(words) == 0
    said = capsys.readouterr().out
    text = (tmp_path / "identity" / "chrony.conf").read_text()
    assert "bindaddress 192.168.50.1\nallow\n" in text and f"sudo cp {tmp_path}/identity/chrony.conf" in said
    assert run(["bench", "init", "local", "--folder", str(tmp_path / "local")]) == 0
    assert not (tmp_path / "local" / "chrony.conf").exists(), "boards of this machine share its clock"
    assert "bindaddress" not in server_config("0.0.0.0")
    with pytest.raises(UsageError, match=r"--listen 'bench\.lan'"):
        server_config("bench.lan")
