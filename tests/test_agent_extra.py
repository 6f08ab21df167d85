"""A board needs the `node` extra and nothing else, on the oldest Python that is promised.

Builds the wheel, installs it with that extra alone into a fresh Python 3.10, and starts the agent there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOR_PEOPLE_OR_TRAINING = (
    "click",
    "onnx",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "ruamel.yaml",
    "tokenizers",
    "torch",
)
UNREACHABLE = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Failed to establish a new connection"
    r"|Connection refused|Network is unreachable|Max retries exceeded|timed out|ProxyError|No route to host"
)

pytest.importorskip("hatchling", reason="the build backend comes with the dev extra")


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    outside = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=outside, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def _is_3_10(python: Path) -> bool:
    done = _run(python, "-c", "import sys, venv, ensurepip; print(sys.version_info[:2] == (3, 10))", cwd=Path("/"))
    return done.stdout.strip() == "True"


def _python_3_10() -> Path | None:
    on_path = shutil.which("python3.10")
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))
    return next((path for path in candidates if _is_3_10(path)), None)  # a pyenv shim may be there and not work


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done = _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that holds the wheel with the node extra alone."""
    python = _python_3_10()
    if python is None:
        pytest.skip("no working python3.10 on PATH or under ~/.pyenv/versions")
    home = tmp_path_factory.mktemp("board") / "venv"
    made = _run(python, "-m", "venv", home, cwd=home.parent)
    assert made.returncode == 0, made.stderr
    inside = home / "bin" / "python"
    pip = (
        inside,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--quiet",
        "--retries",
        "1",
    )
    done = _run(*pip, f"{wheel}[node]", cwd=home)
    if done.returncode != 0 and UNREACHABLE.search(done.stderr):
        pytest.skip(f"pip cannot reach its package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return inside


def test_wheel_holds_packages_and_data_but_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"hil_config", "models", "node_agent", "ground_controller", "firmware_tools"}
    assert "models/reference/checkpoint/model.safetensors" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_agent_tells_its_version(board: Path, wheel: Path) -> None:
    done = _run(board.parent / "hil-agent", "--version", cwd=board.parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == wheel.name.split("-")[1]


def test_service_imports_without_warnings(board: Path) -> None:
    code = "import sys, node_agent.service; print(sys.version_info[:2], node_agent.service.Agent.__name__)"
    done = _run(board, "-W", "error", "-c", code, cwd=board.parents[1])
    assert (done.returncode, done.stdout.strip()) == (0, "(3, 10) Agent"), done.stderr


def test_nothing_for_people_or_training_is_installed(board: Path) -> None:
    done = _run(board, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json", cwd=board.parents[1])
    installed = {re.sub(r"[-_.]+", "-", item["name"]).lower() for item in json.loads(done.stdout)}
    assert "onnxruntime" in installed
    assert installed.isdisjoint(re.sub(r"[-_.]+", "-", name) for name in FOR_PEOPLE_OR_TRAINING)
