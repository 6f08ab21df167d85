"""A headless Chromium, driven over its DevTools protocol: no driver program, no other library."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
START_S = 30.0
ANSWER_S = 60.0
POLL_S = 0.05
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
         "Home": 36, "End": 35}  # fmt: skip


def find_browser() -> str | None:
    """The program, if there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One window, 1366 x 768 of page unless told otherwise. `folder` must be empty; it becomes the profile."""

    def __init__(self, program: str, folder: Path, width: int = 1366, height: int = 768) -> None:
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [program, f"--user-data-dir={folder}", f"--window-size={width},{height}", *_ARGUMENTS],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._closing = ExitStack()
        self.problems: list[str] = []
        try:
            port = self._port(folder / "DevToolsActivePort")
            self._socket = self._connect(port)
            for domain in ("Page", "Runtime", "Log", "Performance"):
                self.ask(f"{domain}.enable")
            self.size(width, height)
        except BaseException:
            self._process.kill()
            self._process.wait(10.0)
            raise

    def _port(self, path: Path) -> int:
        self.wait(lambda: path.exists() and path.read_text().strip(), "the browser's port", START_S)
        return int(path.read_text().split()[0])

    def _connect(self, port: int) -> ClientConnection:
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_S) as answer:
            targets = json.load(answer)
        page = next(one for one in targets if one["type"] == "page")
        return self._closing.enter_context(connect(page["webSocketDebuggerUrl"], max_size=1 << 28))

    def wait(self, holds: Any, what: str, timeout_s: float = ANSWER_S) -> Any:
        """Until `holds()` is true; returns its value."""
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while not (found := holds()):
            assert self._process.poll() is None, f"the browser ended with {self._process.returncode}"
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s; the page said {self.problems}"
            pause.wait(POLL_S)
        return found

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(ANSWER_S))
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                found: dict[str, Any] = message["result"]
                return found
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        """What the page complains of."""
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(told["exceptionDetails"])[:500])
        elif message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, expression: str, timeout_s: float = ANSWER_S) -> Any:
        """Until a JavaScript expression is true; returns its value."""
        return self.wait(lambda: self.run(expression), expression, timeout_s)

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as a person presses it."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str) -> None:
        """The middle of an element, where it is seen."""
        where = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    def prefer(self, scheme: str) -> None:
        """`dark` or `light`, as the system would say."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width: int, height: int) -> None:
        """Give the page this much room."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """A PNG of what is seen."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def metrics(self) -> dict[str, float]:
        """Counters of the page's main thread: seconds in tasks, scripts, layout and styles since it began."""
        return {one["name"]: float(one["value"]) for one in self.ask("Performance.getMetrics")["metrics"]}

    def close(self) -> None:
        """End it, by its own command if it still listens."""
        try:
            self._socket.send(json.dumps({"id": next(self._numbers), "method": "Browser.close"}))
            self._process.wait(10.0)
        except Exception:  # whatever keeps it from ending in order: it is a process of ours
            self._process.kill()
            self._process.wait(10.0)
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
