"""The process that owns one serial line. Started by `attach.open_console`, ended by `attach.close_console`.

It reads all the time (a line that nobody reads loses its prompt), writes every line with its time to a log, keeps the
last part for whoever attaches later, and opens the line again when it was lost: boards are switched off. A file beside
the log says why the line is not open; it is empty while it is: a line that nobody hears is no silent board.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import termios
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

KEPT = 64 << 10
AGAIN_S = 0.1
IDLE_S, OPEN_S = 1.0, 2.0
PIECE = 4096
"""Bytes taken from a client, or the line, at once."""


class Log:
    """Lines with the time at which each began; what has no end yet is written when the line is quiet."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._line = b""
        self._begun = 0.0

    def add(self, data: bytes) -> None:
        for part in data.splitlines(keepends=True):
            if not self._line:
                self._begun = time.time()
            self._line += part
            if part.endswith((b"\n", b"\r")):
                self.flush()

    def flush(self) -> None:
        text = self._line.strip(b"\r\n")
        self._line = b""
        if text:
            at = datetime.fromtimestamp(self._begun, timezone.utc).isoformat(timespec="milliseconds")
            os.write(self._handle, at.encode() + b" " + text + b"\n")


class Line:
    """The serial port, opened again and again; what it says goes into a pipe, and into `note` why it is not open."""

    def __init__(self, url: str, baud: int, out: int, note: Path) -> None:
        self._url, self._baud, self._out, self._note = url, baud, out, note
        self._port: Any = None
        self._noted: str | None = None
        self.stopping, self.opened = threading.Event(), threading.Event()

    def work(self) -> None:
        import serial

        while not self.stopping.is_set():
            try:
                options: dict[str, Any] = {} if self._url.startswith(("socket:", "rfc2217:")) else {"exclusive": True}
                if not self._url.startswith("rfc2217:"):  # whoever does not read shall not stop us from reading
                    options["write_timeout"] = 2.0 + 20.0 * PIECE / self._baud
                with serial.serial_for_url(self._url, baudrate=self._baud, timeout=0.2, **options) as port:
                    self._port = port
                    self._note_down("")
                    self.opened.set()
                    while not self.stopping.is_set():
                        data = port.read(1)
                        if data:
                            os.write(self._out, data + port.read(min(port.in_waiting, PIECE)))
            except (OSError, ValueError, NotImplementedError, termios.error, serial.SerialException) as error:
                self._port = None  # ValueError: an address or rate that there is not
                self._note_down(str(error) or type(error).__name__)
                self.opened.set()
                self.stopping.wait(AGAIN_S)

    def _note_down(self, trouble: str) -> None:
        if trouble == self._noted:
            return
        part = self._note.with_name(f"{self._note.name}.part")
        try:
            part.write_text(" ".join(trouble.split()), encoding="utf-8")
            part.replace(self._note)
            self._noted = trouble
        except OSError:
            pass  # no room: tried again at the next change

    def write(self, data: bytes) -> None:
        import serial

        try:
            if self._port is not None:
                self._port.write(data)
        except (OSError, serial.SerialException):
            pass  # the reading side opens it again


def serve(url: str, baud: int, log: Log, listener: socket.socket, note: Path) -> None:
    """Until SIGTERM: line to log and clients, clients to line."""
    inside, outside = os.pipe()
    woken, wake = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(wake, b"x"))
    line = Line(url, baud, outside, note)
    thread = threading.Thread(target=line.work, name="console line")
    thread.start()
    line.opened.wait(OPEN_S)  # whoever attaches at once shall not speak into a line that is not open yet
    clients: list[socket.socket] = []
    kept = b""
    try:
        while True:
            watched: list[Any] = [inside, woken, listener, *clients]
            ready, _, _ = select.select(watched, [], [], IDLE_S)
            if not ready:
                log.flush()
            for one in ready:
                if one == woken:
                    return
                if one == inside:
                    data = os.read(inside, 65_536)
                    log.add(data)
                    kept = (kept + data)[-KEPT:]
                    clients = [client for client in clients if _sent(client, data)]
                elif one is listener:
                    client, _ = listener.accept()
                    client.settimeout(1.0)
                    if _sent(client, kept):
                        clients.append(client)
                elif isinstance(one, socket.socket):
                    _from_client(one, clients, line)
    finally:
        log.flush()
        line.stopping.set()
        os.close(inside)  # it may be writing into a pipe that is full
        thread.join()
        note.unlink(missing_ok=True)


def _from_client(client: socket.socket, clients: list[socket.socket], line: Line) -> None:
    try:
        data = client.recv(PIECE)
    except OSError:
        data = b""
    if data:
        line.write(data)
    elif client in clients:
        clients.remove(client)
        client.close()


def _sent(client: socket.socket, data: bytes) -> bool:
    """False, and closed, for a client that does not read."""
    try:
        client.sendall(data)
        return True
    except OSError:
        client.close()
        return False


def main() -> None:
    """Entry point: `python -m firmware_tools.console.owner`."""
    parser = argparse.ArgumentParser()
    for name in ("--url", "--log", "--socket", "--note"):
        parser.add_argument(name, required=True)
    parser.add_argument("--baud", type=int, required=True)
    args = parser.parse_args()
    os.umask(0o077)
    path = Path(args.socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        listener.bind(args.socket)
        listener.listen(8)
        try:
            serve(args.url, args.baud, Log(Path(args.log)), listener, Path(args.note))
        finally:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
