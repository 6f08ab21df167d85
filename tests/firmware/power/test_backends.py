"""Each kind of power switch against a real counterpart: HTTP servers, ptys, programs."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import pty
import re
import signal
import socket
import stat
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from firmware_tools.meter.readings import READERS
from firmware_tools.meter.spec import Meter
from firmware_tools.power.registry import BACKENDS, backend
from firmware_tools.power.spec import Switch
from hil_config.errors import ConfigError, EnvironmentFault, HardwareError


class Plug:
    """A plug's HTTP interface as its maker documents it."""

    def __init__(self, kind: str) -> None:
        self.on, self.stuck, self.password, plug = False, False, "", self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                plug.answer(self, getattr(plug, kind))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler, act: Callable[[str, dict[str, list[str]]], Any]) -> None:
        wanted = "Basic " + base64.b64encode(f"admin:{self.password}".encode()).decode()
        if self.password and handler.headers.get("Authorization") != wanted and act.__name__ == "shelly":
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="plug"')
            handler.end_headers()
            return
        parts = urlsplit(handler.path)
        body = json.dumps(act(parts.path, parse_qs(parts.query))).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _set(self, on: bool) -> None:
        if not self.stuck:
            self.on = on

    def shelly(self, path: str, query: dict[str, list[str]]) -> Any:
        if path == "/rpc/Switch.Set":
            was = self.on
            self._set(query["on"] == ["true"])
            return {"was_on": was}
        assert path == "/rpc/Switch.GetStatus" and query["id"] == ["0"]
        return {"id": 0, "source": "HTTP_in", "output": self.on, "apower": 4.2}

    def tasmota(self, path: str, query: dict[str, list[str]]) -> Any:
        assert path == "/cm"
        if self.password and query.get("password") != [self.password]:
            return {"WARNING": "Need user=<username>&password=<password>"}
        words = query["cmnd"][0].split()
        if words == ["Status", "8"]:
            return {"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Power": [1, 5.5 if self.on else 0]}}}
        assert words[0] == "Power2"
        if len(words) == 2:
            self._set(words[1] == "On")
        return {"POWER2": "ON" if self.on else "OFF"}


@pytest.fixture
def plug(request: pytest.FixtureRequest) -> Iterator[Plug]:
    one = Plug(request.param)
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.server.shutdown()
    one.server.server_close()
    thread.join()


def both_ways(spec: Switch, is_on: Callable[[], bool]) -> None:
    module = backend(spec)
    for on in (True, False, True, True, False):
        module.switch(spec, on)
        assert (is_on(), module.status(spec)) == (on, on)


@pytest.mark.parametrize(("plug", "channel"), [("shelly", None), ("tasmota", 2)], indirect=["plug"])
def test_plugs(plug: Plug, channel: int | None, tmp_path: Path) -> None:
    via = "shelly" if channel is None else "tasmota"
    both_ways(Switch("alpha", via, plug.url, channel), lambda: plug.on)
    plug.password = "secret-word"
    secret = tmp_path / "password"
    secret.write_text("secret-word\n")
    both_ways(Switch("alpha", via, plug.url, channel, password_file=str(secret)), lambda: plug.on)
    with pytest.raises(HardwareError) as caught:
        backend(Switch("alpha", via, plug.url, channel)).switch(Switch("alpha", via, plug.url, channel), True)
    assert "secret-word" not in str(caught.value)
    plug.password, plug.stuck = "", True
    with pytest.raises(HardwareError, match="did not switch"):
        backend(Switch("alpha", via, plug.url, channel)).switch(Switch("alpha", via, plug.url, channel), True)


@pytest.mark.parametrize("via", ["shelly", "tasmota"])
def test_no_plug_there(via: str) -> None:
    spec = Switch("alpha", via, "http://127.0.0.1:9")
    with pytest.raises(HardwareError, match=r"board alpha: plug at http://127\.0\.0\.1:9"):
        backend(spec).status(spec)
    secret = Switch("alpha", via, "http://127.0.0.1:9", password_file="/nonexistent/password")
    with pytest.raises(ConfigError):
        backend(spec).status(secret)


class DigestPlug(BaseHTTPRequestHandler):
    """A Shelly with a password: digest authentication with SHA-256 alone (RFC 7616, section 3.4)."""

    def do_GET(self) -> None:
        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        said = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))
        one, two = digest("admin:shellyplug-1:pässword"), digest(f"GET:{self.path}")
        middle = ":".join(said.get(key, "") for key in ("nonce", "nc", "cnonce", "qop"))
        right = said.get("response") == digest(f"{one}:{middle}:{two}") and said.get("algorithm") == "SHA-256"
        body = b'{"output": true}' if right else b""
        self.send_response(200 if right else 401)
        if not right:
            challenge = 'Digest qop="auth", realm="shellyplug-1", nonce="65dc2c69", algorithm=SHA-256'
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shelly_with_password() -> Iterator[str]:
    yield from served(DigestPlug)


def test_a_plug_s_password_goes_by_digest_with_sha_256(shelly_with_password: str, tmp_path: Path) -> None:
    for word, right in (("pässword", True), ("other", False)):
        secret = tmp_path / "password"
        secret.write_text(f"{word}\n", encoding="utf-8")
        spec = Switch("alpha", "shelly", shelly_with_password, password_file=str(secret))
        if right:
            assert backend(spec).status(spec) is True
        else:
            with pytest.raises(HardwareError, match="401"):
                backend(spec).status(spec)


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n\r\n", b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"output":', b""]
)
def test_what_is_no_http_is_named(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        spec = Switch("alpha", "shelly", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(HardwareError, match=r"board alpha: plug at http://127\.0\.0\.1"):
            backend(spec).status(spec)
        thread.join()


@pytest.mark.parametrize(
    ("via", "at"), [("shelly", "http://plug:abc"), ("korad", "http://plug"), ("scpi", "nonsense://x")]
)
def test_an_address_that_is_none_is_named(via: str, at: str) -> None:
    spec = Switch("alpha", via, at)
    with pytest.raises(HardwareError, match=f"board alpha: (plug|supply) at {at}"):
        backend(spec).status(spec)


class Supply:
    """A laboratory supply behind a pty, speaking one of two languages."""

    def __init__(self, language: str) -> None:
        self.on, self.silent, self.heard = False, False, b""
        self.others, self.chosen = {2: False}, 1
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        self.port = os.ttyname(self._far)
        self._work = getattr(self, language)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                data = os.read(self._near, 256)
            except OSError:
                return
            if data == b"\0END":
                return
            self.heard += data
            self._work()

    def korad(self) -> None:
        for question, answer in ((b"VOUT1?", b"05.10"), (b"IOUT1?", b"0.500")):
            if question in self.heard:
                self.heard = self.heard.replace(question, b"")
                os.write(self._near, answer)
        for word, on in ((b"OUT1", True), (b"OUT0", False)):
            if word in self.heard:
                self.on = on
                self.heard = self.heard.replace(word, b"")
        if b"STATUS?" in self.heard and not self.silent:
            self.heard = b""
            os.write(self._near, bytes([0x51 if self.on else 0x11]))

    def scpi(self) -> None:
        *lines, self.heard = self.heard.split(b"\n")
        for line in lines:
            if line.startswith(b"INST:NSEL "):
                self.chosen = int(line.split()[1])
            elif self.chosen != 1 and line in (b"OUTP ON", b"OUTP OFF"):
                self.others[self.chosen] = line == b"OUTP ON"
            elif self.chosen != 1 and line == b"OUTP?":
                os.write(self._near, b"1\n" if self.others[self.chosen] else b"0\n")
            elif line in (b"OUTP ON", b"OUTP OFF"):
                self.on = line == b"OUTP ON"
            elif line in (b"MEAS:VOLT?", b"MEAS:CURR?"):
                os.write(self._near, b"5.1000E+00\n" if line.endswith(b"VOLT?") else b"5.0000E-01\n")
            elif line == b"OUTP?" and not self.silent:
                os.write(self._near, b"1\n" if self.on else b"0\n")

    def close(self) -> None:
        os.write(self._far, b"\0END")
        self._thread.join()
        os.close(self._near)
        os.close(self._far)


@pytest.mark.parametrize("language", ["korad", "scpi"])
def test_supplies(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    supply = Supply(language)
    try:
        spec = Switch("alpha", language, supply.port, volts=5.1, amps=3.0)
        both_ways(spec, lambda: supply.on)
        monkeypatch.setattr("firmware_tools.power.supply_line.TIMEOUT_S", 0.2)
        supply.silent = True
        with pytest.raises(HardwareError, match="does not answer"):
            backend(spec).status(spec)
    finally:
        supply.close()
    gone = Switch("alpha", language, "/dev/no-such-port")
    with pytest.raises(HardwareError, match="no-such-port"):
        backend(gone).status(gone)


def test_a_supply_without_line_ends_is_given_time_after_each_order(monkeypatch: pytest.MonkeyPatch) -> None:
    supply, pauses = Supply("korad"), list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    try:
        spec = Switch("alpha", "korad", supply.port, volts=5.1, amps=3.0)
        backend(spec).switch(spec, True)
        assert len(pauses) == 3 and min(pauses) >= 0.05, "volts, amperes, on"
        backend(spec).switch(spec, False)
        assert len(pauses) == 4
    finally:
        supply.close()


def test_boards_on_two_outputs_of_one_supply_are_switched_at_once() -> None:
    supply = Supply("scpi")
    specs = [Switch(name, "scpi", supply.port, channel) for name, channel in (("alpha", 1), ("bravo", 2))]
    try:
        for on in (True, False) * 4:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda spec, to: backend(spec).switch(spec, to), specs, (on, not on)))
            assert (supply.on, supply.others[2]) == (on, not on)
    finally:
        supply.close()


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


UHUBCTL = """\
state="$(dirname "$0")/state"
while [ $# -gt 0 ]; do case "$1" in -a) echo "$2" >"$state";; esac; shift; done
echo "Current status for hub 1-1 [2109:3431 USB2.0 Hub, USB 2.10, 4 ports, ppps]"
if [ "$(cat "$state" 2>/dev/null)" = on ]; then echo "  Port 2: 0503 power highspeed enable connect"
else echo "  Port 2: 0000 off"; fi
"""


def test_uhubctl_as_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "uhubctl", UHUBCTL)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    spec = Switch("alpha", "uhubctl", "1-1", 2)
    both_ways(spec, lambda: (tmp_path / "state").read_text().strip() == "on")
    with pytest.raises(HardwareError, match="no port 3"):
        backend(spec).status(Switch("alpha", "uhubctl", "1-1", 3))


def test_any_program(tmp_path: Path) -> None:
    set_it = program(tmp_path, "relay", f'echo "$1" >{tmp_path}/state\n')
    ask = program(tmp_path, "ask", f"cat {tmp_path}/state\n")
    spec = Switch("alpha", "command", on_command=(str(set_it), "on"), off_command=(str(set_it), "off"),
                  status_command=(str(ask),))  # fmt: skip
    both_ways(spec, lambda: (tmp_path / "state").read_text().strip() == "on")
    broken = program(tmp_path, "broken", "echo relay is not there >&2; exit 3\n")
    with pytest.raises(HardwareError, match="ended with 3 and said relay is not there"):
        backend(spec).switch(Switch("alpha", "command", on_command=(str(broken),)), True)
    with pytest.raises(EnvironmentFault, match="not installed"):
        backend(spec).switch(Switch("alpha", "command", on_command=("no-such-program-here",)), True)
    (tmp_path / "state").write_text("perhaps")
    with pytest.raises(HardwareError, match="wanted on or off"):
        backend(spec).status(spec)


GPIOSET = """\
echo "$@" >>"$(dirname "$0")/calls"
exec sleep 0
"""


def test_gpio_sets_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "gpioset", GPIOSET)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = Switch("alpha", "gpio", "gpiochip0", 17, active_low=True)
    for on in (True, False):
        backend(spec).switch(spec, on)
        assert backend(spec).status(spec) is on
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"--daemonize --chip gpiochip0 17={level}" for level in ("inactive", "active")]


HOLDING = """#!{python}
import fcntl, os, sys
line = os.open({line!r}, os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(line, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("gpioset: unable to request lines: Device or resource busy")
HOLD = "import signal, time; signal.signal(15, lambda *_: (time.sleep(0.3), exit())); print(end='', flush=True);" \\
    "open(1, 'w').close(); signal.pause()"
ready, there = os.pipe()
if os.fork() == 0:
    os.set_inheritable(line, True)
    os.dup2(there, 1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)
    os.execv(sys.executable, ["gpioset", "-c", HOLD, *sys.argv[1:]])
os.close(there)
os.read(ready, 1)  # it holds the line, and waits to be ended
"""


def test_a_gpio_line_is_free_before_it_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, "gpioset", "")
    path.write_text(HOLDING.format(python=sys.executable, line=str(tmp_path / "line")))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = Switch("alpha", "gpio", "gpiochip0", 17)
    try:
        for on in (True, False, True):
            backend(spec).switch(spec, on)
            assert backend(spec).status(spec) is on
    finally:
        holder = int(next(tmp_path.glob("hil-gpio-*-17")).read_text())
        os.kill(holder, signal.SIGTERM)


@pytest.mark.parametrize("plug", ["shelly", "tasmota"], indirect=True)
def test_plugs_say_watts(plug: Plug, request: pytest.FixtureRequest) -> None:
    plug.on = True
    via, channel, wanted = (
        ("tasmota", 2, 5.5) if request.node.callspec.params["plug"] == "tasmota" else ("shelly", 0, 4.2)
    )
    read = importlib.import_module(READERS[via]).watts
    assert read(Meter("alpha", via, plug.url, channel)) == wanted
    with pytest.raises(HardwareError, match=r"board alpha: plug at http://127\.0\.0\.1:9"):
        read(Meter("alpha", via, "http://127.0.0.1:9", channel))
    if via == "tasmota":
        with pytest.raises(HardwareError, match="wanted StatusSNS"):
            read(Meter("alpha", via, plug.url, 7))


@pytest.mark.parametrize("language", ["korad", "scpi"])
def test_supplies_say_watts(language: str) -> None:
    supply = Supply(language)
    try:
        assert importlib.import_module(READERS[language]).watts(Meter("alpha", language, supply.port)) == 5.1 * 0.5
    finally:
        supply.close()


def test_any_program_says_watts(tmp_path: Path) -> None:
    read = importlib.import_module(READERS["command"]).watts
    assert read(Meter("alpha", "command", watts_command=(str(program(tmp_path, "ask", "echo 3.25\n")),))) == 3.25
    with pytest.raises(HardwareError, match="printed 'a lot', wanted a number"):
        read(Meter("alpha", "command", watts_command=(str(program(tmp_path, "ask", "echo a lot\n")),)))


def test_every_name_has_its_two_functions() -> None:
    for name in BACKENDS:
        module = backend(Switch("alpha", name))
        assert callable(module.switch)
        assert callable(module.status)
