"""A simulated campaign whose controller is killed a hundred times: it must end as the unbroken one does."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ground_controller.simulation.continuation import content_hash
from hil_config.schema.load import default_path

KILLS = 100
SECONDS = 200
"""Of the demonstration's orbit."""
LIMIT_S = 120.0
HIL = (sys.executable, "-m", "hil_config.door")


def _entries(folder: Path) -> int:
    path = folder / "journal.sqlite"
    if not path.exists():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)
    try:
        return int(db.execute("SELECT COUNT(*) FROM entry").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it has no table yet
    finally:
        db.close()


def campaign_file(folder: Path) -> Path:
    """The demonstration, shorter."""
    text = default_path("campaign").read_text(encoding="utf-8")
    path = folder / "campaign.yaml"
    path.write_text(text.replace("duration_s: 600", f"duration_s: {SECONDS}"), encoding="utf-8")
    return path


def simulate(campaign: Path, folder: Path) -> list[str]:
    """The command that begins a run."""
    return [*HIL, "simulate", str(default_path("bench")), str(campaign), "--no-report", "--out", str(folder)]


def resume(folder: Path) -> list[str]:
    """The command that goes on with one."""
    return [*HIL, "campaign", "resume", str(folder)]


def killed_at(command: list[str], folder: Path, entries: int) -> bool:
    """Start a controller and SIGKILL it once its record has so many entries; False if it ended before that."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if _entries(folder) >= entries:
                process.kill()
                return process.wait() != 0
        return False
    finally:
        process.kill()
        process.wait()


def broken_run(campaign: Path, folder: Path, total: int, kills: int, seed: int) -> int:
    """A run killed at `kills` random sizes of its record (of `total`), then brought to its end; how many met it."""
    rng = random.Random(seed)
    met = 0
    for entries in sorted(rng.randrange(1, total) for _ in range(kills)):
        begun = _entries(folder) > 0
        met += killed_at(resume(folder) if begun else simulate(campaign, folder), folder, entries)
    subprocess.run(resume(folder), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S)
    return met


def run() -> None:
    """Prints both hashes; exits with an error if they differ."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        campaign, unbroken, broken = campaign_file(home), home / "unbroken", home / "broken"
        subprocess.run(simulate(campaign, unbroken), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begin_s, total = time.perf_counter(), _entries(unbroken)
        met = broken_run(campaign, broken, total, KILLS, seed=1)
        ours, theirs = content_hash(unbroken), content_hash(broken)
        took_s = time.perf_counter() - begin_s
        verdict = "the same" if ours == theirs else "DIFFERENT"
        print(
            f"{met} of {KILLS} kills met the controller, over {total} entries, in {took_s:.0f} s; "
            f"content unbroken {ours[:16]}, broken {theirs[:16]}: {verdict}"
        )
        if ours != theirs:
            raise SystemExit(1)
