"""The units of systemd that come with the agent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "node_agent" / "systemd"


@pytest.mark.parametrize("unit", ["hil-agent.service", "hil-agent-jetson.service"])
def test_units_are_hardened(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here (package systemd)")
    text = (UNITS / unit).read_text()
    (tmp_path / unit).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", "--no-pager", str(tmp_path / unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file (before version 250)")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None and float(level[1]) <= 2.0
    checked = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if unit in line]
    assert not complaints, complaints


@pytest.mark.parametrize("unit", ["hil-agent.service", "hil-agent-jetson.service"])
def test_what_another_start_would_find_again_ends_the_service(unit: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text("{}")
    done = subprocess.run([sys.executable, "-m", "node_agent.cli", "run", "--config", str(file)], check=False)
    assert f"\nRestartPreventExitStatus={done.returncode}\n" in (UNITS / unit).read_text()


def test_the_printed_unit_is_the_one_that_is_tested() -> None:
    for arguments, name in (
        ([], "hil-agent.service"), (["--jetson"], "hil-agent-jetson.service"),
        (["--tmpfiles"], "hil-agent.tmpfiles.conf"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "node_agent.cli", "unit", *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout == (UNITS / name).read_text()


def _install(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node_agent.cli", "install", *words], capture_output=True, text=True, check=False
    )


def test_a_check_of_what_is_installed_fails_where_something_differs(tmp_path: Path) -> None:
    where = ("--root", str(tmp_path))
    bare = _install("--check", *where)
    told = json.loads(bare.stdout)
    assert (bare.returncode, len(told["differed"]), told["mended"]) == (9, 6, False)
    assert list(tmp_path.iterdir()) == [], "only looked"
    written = _install(*where)
    assert (written.returncode, written.stderr, json.loads(written.stdout)["differed"]) == (0, "", told["differed"])
    same = _install("--check", *where)
    assert (same.returncode, same.stderr, json.loads(same.stdout)["differed"]) == (0, "", [])
    (tmp_path / "etc/systemd/system/hil-agent.service").write_text("[Unit]\nDescription=somebody else's\n")
    (tmp_path / "etc/systemd/system/multi-user.target.wants/hil-agent.path").unlink()
    changed = _install("--check", *where)
    wrong = ["etc/systemd/system/hil-agent.service", "etc/systemd/system/multi-user.target.wants/hil-agent.path"]
    assert (changed.returncode, json.loads(changed.stdout)["differed"]) == (9, wrong)
    assert changed.stderr.splitlines() == [
        f"error: {tmp_path}: missing or not as this agent has it: {', '.join(wrong)}",
        f"hint: sudo hil-agent install --root {tmp_path}",
    ]
