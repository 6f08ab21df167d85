"""Short campaigns through the real command: all of it in processes, none of which outlives a test."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from ruamel.yaml import YAML

from firmware_tools.broker import find_mosquitto
from ground_controller.journal import NAME, Journal
from hil_config.errors import EnvironmentFault
from hil_config.schema.load import default_path

HIL = (sys.executable, "-m", "hil_config.door")
POLL_S = 0.05
SHORT: dict[str, Any] = {
    "campaign": "short",
    "orbit.duration_s": 70,
    "workload.concurrency": 4,
    "workload.max_new_tokens": 24,
    # Far from every limit, whatever the demonstration shows.
    "twin.start": [{"temperature_c": 46 + 2 * i, "charge": 0.8 - 0.1 * i} for i in range(4)],
}
"""Seven seconds of ticks, and generations short enough that some are finished in them."""


class Finished(NamedTuple):
    """How a campaign ended. `told` is the JSON on stdout, {} if there was none."""

    code: int
    told: dict[str, Any]
    errors: str
    folder: Path

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = self.told["metrics"]
        return metrics

    def replay(self) -> dict[str, Any]:
        """What `hil campaign replay` finds in the run folder; it must end well."""
        done = hil("campaign", "replay", str(self.folder), "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


class Launched:
    """A campaign that is under way."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self._pause = threading.Event()

    def count(self, kind: str) -> int:
        """Journal entries of a kind so far; 0 before there is a journal."""
        path = self.folder / NAME
        if not path.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                return int(db.execute("SELECT COUNT(*) FROM entry WHERE kind = ?", (kind,)).fetchone()[0])
        except sqlite3.OperationalError:  # created a moment ago, not written yet
            return 0

    def wait_tokens(self, count: int, timeout_s: float = 90.0) -> int:
        """Until `count` tokens are in the journal; returns how many there are. The first run builds shards."""
        deadline = time.monotonic() + timeout_s
        while (found := self.count("client_token")) < count:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors()}"
            assert time.monotonic() < deadline, f"{found} of {count} tokens after {timeout_s:.0f} s"
            self._pause.wait(POLL_S)
        return found

    def wait_entries(
        self, kind: str, wanted: Callable[[bytes], bool] = lambda body: True, timeout_s: float = 90.0
    ) -> None:
        """Until the journal has an entry of a kind whose body is the one that is wanted."""
        deadline = time.monotonic() + timeout_s
        while True:
            with closing(sqlite3.connect(f"file:{self.folder / NAME}?mode=ro", uri=True)) as db:
                if any(wanted(body) for (body,) in db.execute("SELECT body FROM entry WHERE kind = ?", (kind,))):
                    return
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors()}"
            assert time.monotonic() < deadline, f"no such {kind} after {timeout_s:.0f} s"
            self._pause.wait(POLL_S)

    def wait_for(self, path: Path, timeout_s: float = 90.0) -> None:
        """Until a file is there."""
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors()}"
            assert time.monotonic() < deadline, f"no {path} after {timeout_s:.0f} s"
            self._pause.wait(POLL_S)

    def pid(self, name: str) -> int:
        """Of an agent, or of `broker` as it was at the start."""
        return int(json.loads((self.folder / "pids.json").read_text())[name])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid(name), number)

    def routes(self) -> list[tuple[str, ...]]:
        """The gateways of every attempt so far, in order: one node for each trunk slice."""
        with closing(sqlite3.connect(f"file:{self.folder / NAME}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT body FROM entry WHERE kind = 'attempt' ORDER BY id").fetchall()
        return [tuple(json.loads(body)["gateways"]) for (body,) in rows]

    def bystanders(self) -> list[str]:
        """Agents that are no gateway of any attempt so far: they serve experts only."""
        names = json.loads((self.folder / "pids.json").read_text())
        return sorted(set(names) - {"broker"} - {name for route in self.routes() for name in route})

    def errors(self) -> str:
        return self.folder.with_suffix(".err").read_text()

    def wait(self, timeout_s: float = 60.0) -> Finished:
        """The end of the campaign."""
        code = self.process.wait(timeout_s)
        text = self.folder.with_suffix(".out").read_text()
        return Finished(code, json.loads(text) if text else {}, self.errors(), self.folder)


class Starter:
    """Writes bench and campaign files below `home` and starts runs of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: list[Launched] = []

    def start(self, name: str = "run", **changes: Any) -> Launched:
        """Run the demonstration's campaign with SHORT and `changes`; in their keys `__` stands for a dot."""
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        bench, campaign = write_files(self._home / f"{name}-files", {}, {**copy.deepcopy(SHORT), **dotted})
        return self._launch(self._home / name, "run", str(bench), str(campaign), "--out", str(self._home / name))

    def resume(self, folder: Path) -> Launched:
        """Go on with a run whose controller is gone."""
        return self._launch(folder, "resume", str(folder))

    def _launch(self, folder: Path, *words: str) -> Launched:
        with folder.with_suffix(".out").open("wb") as out, folder.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [*HIL, "campaign", *words, "--json"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        launched = Launched(folder, process)
        self._started.append(launched)
        return launched

    def close(self) -> None:
        """End whatever still runs."""
        for launched in self._started:
            if launched.process.poll() is None:
                launched.process.kill()
                launched.process.wait(10.0)
            left = processes_of(launched.folder)
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(left, timeout=10.0)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose command line names something in a run folder: its agents and its broker."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(f"{folder}/" in word for word in process.info["cmdline"] or ())
        if named and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def hil(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One `hil` command, to its end."""
    return subprocess.run(
        [*HIL, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120.0, check=False,
    )  # fmt: skip


def write_files(home: Path, bench: Mapping[str, Any], campaign: Mapping[str, Any]) -> tuple[Path, Path]:
    """The embedded bench and campaign with changes by dotted key (`twin.start.1.charge`), in `home`."""
    yaml = YAML()
    home.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, changes in (("bench", bench), ("campaign", campaign)):
        data = yaml.load(default_path("bench" if name == "bench" else "campaign"))
        for dotted, value in changes.items():
            *way, last = [int(part) if part.isdigit() else part for part in dotted.split(".")]
            inner = data
            for part in way:
                inner = inner[part]
            inner[last] = value
        path = home / f"{name}.yaml"
        yaml.dump(data, path)
        paths.append(path)
    return paths[0], paths[1]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and so do its children: campaigns here must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def mosquitto() -> None:
    """Without a broker there is no campaign. It is fetched here, so that no run has to wait for it."""
    try:
        find_mosquitto()
    except EnvironmentFault as error:
        pytest.skip(f"no Mosquitto here: {error.message}")


@contextmanager
def _starter(home: Path) -> Iterator[Starter]:
    starter = Starter(home)
    try:
        yield starter
    finally:
        starter.close()


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """For campaigns of one test."""
    with _starter(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """For campaigns that several tests look at."""
    with _starter(tmp_path_factory.mktemp("campaigns")) as made:
        yield made


@pytest.fixture
def left_over() -> Callable[[Path], list[psutil.Process]]:
    """`processes_of`: what a run has left behind."""
    return processes_of


@pytest.fixture(scope="module")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`hil`: one command, to its end."""
    return hil


@pytest.fixture
def journal() -> Iterator[Callable[[Path], Journal]]:
    """Opens the journal of a run folder for reading; closed after the test."""
    opened: list[Journal] = []

    def read(folder: Path) -> Journal:
        opened.append(Journal.read(folder))
        return opened[-1]

    yield read
    for one in opened:
        one.close()
