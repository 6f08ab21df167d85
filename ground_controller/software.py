"""What the ground ran on: versions of Python and libraries, and the revision of the source tree."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import msgspec

PACKAGE = "spacemoe-hil"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
GIT_S = 5.0


class Software(msgspec.Struct, frozen=True):
    """`revision`: of the git tree that the code lies in, "" where it is in none; `changed`: that tree has changes."""

    version: str
    python: str
    machine: str
    system: str
    revision: str
    changed: bool
    libraries: dict[str, str]


def software() -> Software:
    """Of this process. Libraries: those that the package asks for and that are installed."""
    names = sorted({_NAME.match(text)[0] for text in requires(PACKAGE) or () if _NAME.match(text)} - {PACKAGE})  # type: ignore[index]  # matched
    revision, changed = _git(Path(__file__).resolve().parents[1])
    return Software(
        _version(PACKAGE), platform.python_version(), platform.machine(), platform.platform(), revision, changed,
        {name: found for name in names if (found := _version(name))},
    )  # fmt: skip


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git(tree: Path) -> tuple[str, bool]:
    """Revision and whether tracked files differ from it; ("", False) outside a source tree of ours."""
    if not (tree / ".git").exists():
        return "", False
    revision = _output("git", "-C", str(tree), "rev-parse", "HEAD")
    return revision, bool(revision and _output("git", "-C", str(tree), "status", "--porcelain", "-uno"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
