"""A simulated run with a board that fails, and copies of its folder that grow entry by entry."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ground_controller.journal import NAME, Entry, Journal
from ground_controller.preparation import prepare
from ground_controller.simulation.run import Kill, simulate
from hil_config.schema.load import default_path, load_bench, load_campaign

KILLED, KILLED_AT_S = "bravo", 60.0


class Growing:
    """A run folder that another process of the run would write: `source`'s record up to some entry."""

    def __init__(self, source: Path, folder: Path) -> None:
        folder.mkdir()
        shutil.copy(source / "schedule.hsched", folder)
        self.folder = folder
        journal = Journal.read(source)
        self._entries = list(journal.entries())
        journal.close()
        self._written = 0
        self._to = Journal.create(folder)
        with closing(sqlite3.connect(source / NAME)) as db:
            for key, value in db.execute("SELECT key, value FROM meta"):
                if key != "ended_utc":
                    self._to.set_meta(key, value)

    def __len__(self) -> int:
        return len(self._entries)

    def edit(self, change: Callable[[Entry], Entry | None]) -> None:
        """Have each entry be what `change` makes of it, None: not there. Before the first `grow`."""
        self._entries = [new for entry in self._entries if (new := change(entry)) is not None]

    def last(self, kind: str, node: str = "") -> int:
        """The number of the last entry of a kind (of a node)."""
        return max(n for n, e in enumerate(self._entries, 1) if e.kind == kind and e.node == node)

    def grow(self, until: int) -> None:
        """Write the entries up to number `until`."""
        self._to.commit(self._entries[self._written : until])
        self._written = max(self._written, until)

    def end(self) -> None:
        self._to.set_meta("ended_utc", "2024-10-21T08:30:00Z")

    def close(self) -> None:
        self._to.close()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 120 orbit seconds: bravo fails at 60 s."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(
        update={
            "orbit": intent.orbit.model_copy(update={"duration_s": 120.0}),
            "workload": intent.workload.model_copy(update={"max_new_tokens": 12}),
        }
    )
    folder = tmp_path_factory.mktemp("watched") / "run"
    simulate(prepare(load_bench(default_path("bench")), intent), folder, kills=(Kill(KILLED, KILLED_AT_S),))
    return folder


@pytest.fixture
def growing(simulated: Path, tmp_path: Path) -> Iterator[Callable[[], Growing]]:
    """Makes copies of the run with nothing in their record yet."""
    made: list[Growing] = []

    def make() -> Growing:
        made.append(Growing(simulated, tmp_path / f"run{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.close()
