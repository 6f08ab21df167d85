"""A distribution's package without root: fetched with apt into folders of our own, unpacked, never installed.

Nothing of the system is changed: apt gets its own lists, cache and locks, and no hook of the machine's
configuration runs. Sources, keys, pins and proxies are the system's, so what arrives is signed by the
distribution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from hil_config.errors import EnvironmentFault

TIMEOUT_S = 240.0
STATUS = Path("/var/lib/dpkg/status")

# `#clear` works in a file only, and the file must come after the system's: hence `-c` and not APT_CONFIG.
_SETTINGS = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Install-Recommends "false";
APT::Sandbox::User "{user}";
Debug::NoLocking "true";
Dir::State "{folder}/state";
Dir::State::status "{status}";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
"""


def can_fetch() -> bool:
    """Whether this machine has what `fetch` needs."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb") and STATUS.exists())


def fetch(package: str, target: Path, check: Callable[[Path], object]) -> None:
    """Unpack `package` and those of its dependencies that the system lacks into the folder `target`.

    Args:
        target: replaced as a whole, and only after `check` has accepted the unpacked tree: a download that
            was cut short never counts.
        check: raises when the tree cannot be used.

    Raises:
        EnvironmentFault: apt or dpkg-deb is missing or fails; whatever `check` raises passes too.
    """
    if not can_fetch():
        raise EnvironmentFault(f"{package}: this machine has no apt-get and dpkg-deb to fetch it with")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{package}-", dir=target.parent) as folder:
            tree = _unpacked(package, Path(folder))
            check(tree)
            _put(tree, target, Path(folder) / "old", check)
    except OSError as error:
        raise EnvironmentFault(f"{package}: cannot be kept in {target.parent}: {error.strerror or error}") from error


def _unpacked(package: str, folder: Path) -> Path:
    for part in ("state/lists/partial", "cache/archives/partial", "log", "tree"):
        (folder / part).mkdir(parents=True)
    settings = folder / "apt.conf"
    # As root apt would fetch as user _apt, who may not enter this folder.
    user = "root" if os.geteuid() == 0 else ""
    settings.write_text(_SETTINGS.format(folder=folder, status=STATUS, user=user), encoding="utf-8")
    apt = ["apt-get", "-c", str(settings), "-q", "-y"]
    # One broken source of many fails the update; what counts is whether the package is found afterwards.
    updated = _run([*apt, "update"])
    done = _run([*apt, "install", "--download-only", package])
    packages = sorted((folder / "cache" / "archives").glob("*.deb"))
    if done.returncode != 0 or not packages:
        before = f" (before that: {_complaint(updated)})" if updated.stderr.strip() else ""
        raise EnvironmentFault(f"{package}: apt could not fetch it: {_complaint(done)}{before}")
    for deb in packages:
        unpacked = _run(["dpkg-deb", "-x", str(deb), str(folder / "tree")])
        if unpacked.returncode != 0:
            raise EnvironmentFault(f"{package}: {deb.name} cannot be unpacked: {_complaint(unpacked)}")
    return folder / "tree"


def _put(tree: Path, target: Path, old: Path, check: Callable[[Path], object]) -> None:
    """`tree` becomes `target`, unless another process was faster: a copy that passes `check` stays."""
    try:
        tree.rename(target)
    except OSError:
        if not target.exists():
            raise
        try:
            check(target)
        except EnvironmentFault:
            target.rename(old)
            tree.rename(target)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"{command[0]} did not end within {TIMEOUT_S:.0f} s") from error


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The most telling line that a run has left, errors before warnings."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    for sign in ("E:", "W:", ""):
        for line in lines:
            if line.startswith(sign):
                return line
    return f"exit code {done.returncode}"
