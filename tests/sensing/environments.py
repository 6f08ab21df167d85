"""Environments that hold the node extra and nothing else, kept in the cache by a hash of how they are made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tomllib

from firmware_tools.broker import cache_folder

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300
UNREACHABLE = re.compile(
    r"Temporary failure|Name or service not known|Failed to establish|Connection refused|Network is unreachable"
    r"|Max retries exceeded|timed out|ProxyError|No route to host|Could not resolve|Failed to fetch|Unable to fetch"
)
GLIBC = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
"""With the first alone pip resolves an onnxruntime built for numpy 1. Debian 12, JetPack 5 and 6 have glibc 2.31+."""


def requirements() -> list[str]:
    """What the node extra installs, as pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["node"]]


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command that must end well; skips the test when it fails for lack of a network."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        stdin=subprocess.DEVNULL, cwd=cwd, env=env,
    )  # fmt: skip
    if done.returncode != 0 and UNREACHABLE.search(done.stderr):
        pytest.skip(f"{command[0]}: no network: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def cached(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, from the cache if the recipe is the same."""
    digest = hashlib.sha256(json.dumps([recipe, requirements()], sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder() / "test-environments" / f"{name}-{digest}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            make(made)
            try:
                made.rename(folder)
            except OSError:  # another test process was faster
                assert folder.exists()
    return folder


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-compile")


def foreign(version: str) -> list[str]:
    """pip's options for an aarch64 board with this Python."""
    platforms = [part for name in GLIBC for part in ("--platform", name)]
    return ["--only-binary=:all:", "--python-version", version, "--implementation", "cp", *platforms]


def python_of(version: str) -> Path | None:
    """A working interpreter of that version on PATH or from pyenv."""
    candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    candidates += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for path in candidates:
        done = subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True, check=False)
        if done.returncode == 0:
            return path
    return None


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would lead to other packages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "COV_"))}
    return {**kept, "OMP_NUM_THREADS": "1", **more}
