"""Shared by all tests: a private MQTT broker, and nobody leaves a thread behind."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import hil_config.no_reporting  # noqa: F401  # before any test imports onnxruntime
from firmware_tools.broker import Recipe, prepare_broker
from hil_config.errors import EnvironmentFault

READY_S = 10.0
THREAD_END_S = 2.0


LONGEST_FIRST = (
    "tests/firmware/virtual/", "tests/firmware/systemd/", "tests/test_docs.py", "tests/campaign/", "tests/matrix/",
    "tests/simulation/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for emulated machines and paced clocks goes first, so that no worker is left with it at the end."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_ready(process: subprocess.Popen[bytes], address: Address) -> None:
    deadline = time.monotonic() + READY_S
    pause = threading.Event()
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(address, 0.2).close()
            return
        except OSError:
            pause.wait(0.01)
    raise AssertionError(f"no broker on {address}: exit code {process.poll()}")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Host and port of a Mosquitto on loopback, shared by the session: use names of benches of your own."""
    folder = tmp_path_factory.mktemp("broker")
    address = Address("127.0.0.1", _free_port())
    try:
        recipe = prepare_broker(address.port, folder)
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")
    with serving(recipe, address, folder):
        yield address


@contextmanager
def serving(recipe: Recipe, address: Address, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A broker that takes connections, ended afterwards."""
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [recipe.program, *recipe.arguments], env={**os.environ, **recipe.environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        _wait_ready(process, address)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(READY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(READY_S)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fails a test after which a thread runs that would keep the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_END_S
    left = [one for one in threading.enumerate() if one not in before and not one.daemon]
    for one in left:  # a thread that was told to end may need a moment
        one.join(max(0.0, deadline - time.monotonic()))
    names = [one.name for one in left if one.is_alive()]
    assert not names, f"threads left behind: {', '.join(names)}"


@pytest.fixture(scope="session")
def reference_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that ships, built at int8."""
    from models.build import build_shards  # slow to import, and most tests do without
    from models.locate import reference_checkpoint

    out = tmp_path_factory.mktemp("shards") / "reference"
    build_shards(reference_checkpoint(), out, ("int8",))
    return out
