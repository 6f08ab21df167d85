"""onnxruntime's wheels report to their makers unless they are told not to; nothing of a bench does.

Seen by what a process leaves in its home folder: an identifier and a database of what is to be sent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

RUNS = "from node_agent.shards.providers import CPU, smoke_test; assert smoke_test(CPU, {}) == ''"
SUPPRESSING = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}
"""What onnxruntime looks at itself."""


def left_behind(home: Path, **settings: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SUPPRESSING}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), **settings}
    subprocess.run([sys.executable, "-c", RUNS], env=environment, check=True, timeout=120)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_a_session_of_ours_leaves_nothing_to_report(tmp_path: Path) -> None:
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 29), reason=f"onnxruntime {ort.__version__} reports nothing"
)
def test_whoever_wants_the_reports_says_so(tmp_path: Path) -> None:
    """And the test above can see what there would be."""
    assert "deviceid" in left_behind(tmp_path, ORT_DISABLE_TELEMETRY="0")
