"""External meters over pseudo-terminals: an emulated device at the other end, whole and broken."""

from __future__ import annotations

import os
import select
import struct
import threading
import tty
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from hil_config.errors import HardwareError
from node_agent.config import SensorSpec
from node_agent.sensors import serial_meter
from node_agent.sensors.meters import fnb58, port
from node_agent.sensors.reading import Absent, Instrument

VOLTS, AMPERES = 5.08, 1.25
Answer = Callable[[bytes], bytes]


class Device:
    """The far end of a pty: answers whole requests, or talks by itself when `stream` gives bytes."""

    def __init__(self, answer: Answer, stream: bytes = b"") -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        self.path = os.ttyname(self._slave)
        self.answer, self.stream = answer, stream
        self.heard = bytearray()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            ready, writable, _ = select.select([self._master], [self._master] if self.stream else [], [], 0.02)
            if ready:
                request = os.read(self._master, 4096)
                self.heard += request
                os.write(self._master, self.answer(request))
            if writable and self.stream:
                os.write(self._master, self.stream)
                self._stop.wait(0.01)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)


class Kind(NamedTuple):
    answer: Answer
    stream: bytes
    broken: bytes


def um_frame(model: int = 0x09C9, milliwatts: int | None = None) -> bytes:
    volts, amperes = round(VOLTS * 1000), round(AMPERES * 10000)
    head = struct.pack(">HHHI", model, volts, amperes, milliwatts or round(VOLTS * AMPERES * 1000))
    return head.ljust(128, b"\0") + b"\xff\xf1"


def fnb_report(kind: int = 4) -> bytes:
    sample = struct.pack("<IIHHBH", round(VOLTS * 1e5), round(AMPERES * 1e5), 600, 600, 1, 305)
    return (bytes([0xAA, kind]) + sample * 4).ljust(64, b"\0")


def korad(request: bytes) -> bytes:
    return {b"VOUT1?": b"05.08", b"IOUT1?": b"1.250"}.get(request, b"")


def scpi(request: bytes) -> bytes:
    replies = {b"*IDN?": b"RIGOL,DP832,DP8A0,00.01", b"MEAS:VOLT?": b"5.0800", b"MEAS:CURR?": b"1.2500"}
    return b"".join(replies.get(line, b"-113") + b"\n" for line in request.split(b"\n") if line)


KINDS: dict[str, Kind] = {
    "um25c": Kind(lambda r: um_frame() * r.count(0xF0), b"", um_frame(0x1234)),
    "fnb58": Kind(lambda r: fnb_report(3) + fnb_report(), b"", b"\x55" * 64),
    "ina226_line": Kind(lambda r: b"", b"4064,5000\n", b"volts and amps\n"),
    "korad": Kind(korad, b"", b"ERR!!"),
    "scpi": Kind(scpi, b"", b"overload\n"),
}


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    kind = KINDS[request.param]
    made = Device(kind.answer, kind.stream)
    yield made
    made.close()


def each_kind(test: Callable[..., None]) -> Callable[..., None]:
    marked: Callable[..., None] = pytest.mark.parametrize(
        ("name", "device"), [(n, n) for n in KINDS], indirect=["device"]
    )(test)
    return marked


def read_often(found: Instrument) -> None:
    """Good readings may still wait in the port before the broken ones."""
    for _ in range(100):
        found.read()


@each_kind
def test_meter_reports_board_input(name: str, device: Device) -> None:
    found = serial_meter.find(SensorSpec(name, device.path, shunt_ohm=0.01), 100.0)
    try:
        for _ in range(3):
            watts, volts, amperes = found.read()
            assert volts == pytest.approx(VOLTS, rel=1e-3) and amperes == pytest.approx(AMPERES, rel=1e-3)
            assert watts == pytest.approx(volts * amperes)
        power = found.quantities[0]
        assert power.provenance.kind == "measured" and "board input" in power.provenance.by
        assert power.hz == min(100.0, serial_meter.PROTOCOLS[name].best_hz) and found.slow
    finally:
        found.close()


@each_kind
def test_garbage_is_refused_and_the_meter_recovers(name: str, device: Device) -> None:
    found = serial_meter.find(SensorSpec(name, device.path, shunt_ohm=0.01), 100.0)
    answer, stream = device.answer, device.stream
    broken = KINDS[name].broken
    device.answer, device.stream = (lambda _: broken), (broken if stream else b"")
    with pytest.raises(HardwareError, match=device.path):
        read_often(found)
    device.answer, device.stream = answer, stream
    for _ in range(100):
        try:
            assert found.read()[1] == pytest.approx(VOLTS, rel=1e-3)
            break
        except HardwareError:
            continue
    else:
        pytest.fail("the meter did not recover")
    found.close()


@each_kind
def test_silence_is_an_error_within_the_deadline(name: str, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    found = serial_meter.find(SensorSpec(name, device.path), 100.0)
    device.answer, device.stream = (lambda _: b""), b""
    for module in (port, fnb58):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(port.Port.read_exactly, "__defaults__", (0.1,))
    monkeypatch.setattr(port.Port.read_line, "__defaults__", (0.1,))
    with pytest.raises(HardwareError, match="came within"):
        read_often(found)
    found.close()


@each_kind
def test_unplugged_meter_is_an_error_then_absent(name: str, device: Device) -> None:
    found = serial_meter.find(SensorSpec(name, device.path), 100.0)
    os.dup2(os.open(os.devnull, os.O_RDWR), device._master)  # the last holder of the far end is gone
    with pytest.raises(HardwareError):
        read_often(found)
    found.close()


@pytest.mark.parametrize("lines", [200, 600])
def test_a_board_that_prints_more_than_is_asked_for_gives_what_it_says_now(lines: int) -> None:
    device = Device(lambda r: b"", b"4064,5000\n")
    found = serial_meter.find(SensorSpec("ina226_line", device.path, shunt_ohm=0.01), 10.0)
    device.stream = b""
    os.write(device._master, b"1000,100\n" * lines)
    device.stream = b"4064,5000\n"
    try:
        assert found.read()[1:] == pytest.approx((VOLTS, AMPERES), rel=1e-3)
    finally:
        found.close()
        device.close()


def test_reports_that_wait_are_dropped_all_at_once() -> None:
    """A pipe of packets gives one a read, as a hidraw node does."""
    reader, writer = os.pipe2(os.O_DIRECT)
    line = port.Port(f"/proc/self/fd/{reader}", 9600)
    for n in range(10):
        os.write(writer, bytes([n]) * 64)
    line.forget()
    os.write(writer, b"n" * 64)
    assert line.read_exactly(64) == b"n" * 64
    line.close()
    os.close(reader)
    os.close(writer)


def test_a_line_that_another_program_reads_is_left_to_it() -> None:
    """`hil-agent sensors` beside the agent: answers would go to whoever reads first, volts for amperes among them."""
    device = Device(korad)
    at_work = serial_meter.find(SensorSpec("korad", device.path), 3.0)
    try:
        with pytest.raises(Absent, match="another program reads it"):
            serial_meter.find(SensorSpec("korad", device.path), 3.0)
        assert at_work.read()[1:] == (VOLTS, AMPERES)
        at_work.close()
        serial_meter.find(SensorSpec("korad", device.path), 3.0).close()
    finally:
        at_work.close()
        device.close()


def test_a_meter_is_absent_without_its_port() -> None:
    with pytest.raises(Absent, match="names no port"):
        serial_meter.find(SensorSpec("korad"), 1.0)
    with pytest.raises(Absent, match="No such file"):
        serial_meter.find(SensorSpec("korad", "/dev/serial/by-id/usb-nothing-*"), 1.0)


def test_a_frame_that_contradicts_itself_is_refused() -> None:
    device = Device(lambda r: um_frame(milliwatts=90_000))
    try:
        with pytest.raises(Absent, match="is not the 90000 mW"):
            serial_meter.find(SensorSpec("um25c", device.path), 1.0)
    finally:
        device.close()
