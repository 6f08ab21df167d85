"""The agent on every Python that a board may have, and on the processor that boards have.

Emulated tests prove that wheels exist, load and compute the same; nothing is said about speed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firmware_tools import apt_package
from hil_config.errors import EnvironmentFault
from tests.sensing.environments import (
    PIP,
    ROOT,
    cached,
    foreign,
    plain_environment,
    python_of,
    requirements,
    run,
)

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
CPUINFO = """\
processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
"""A Cortex-A76. Without it onnxruntime's cpuinfo reads the host's x86 file and ends the process with a signal."""


def agent_file(folder: Path, shards: Path) -> Path:
    power = {"profile": "raspberry-pi-5", "idle_w": 3.0, "per_core_w": 1.4, "cores": 4, "cpu_scale": 2.0}
    fields: dict[str, Any] = {
        "node": "alpha", "bench": "bench", "broker_host": "127.0.0.1", "broker_port": 1, "data_host": "127.0.0.1",
        "data_port": 0, "shards": str(shards), "spool": str(folder / "spool"), "power_model": power,
        "sysfs_root": str(folder),
    }  # fmt: skip
    path = folder / "agent.json"
    path.write_text(json.dumps(fields))
    return path


def shard_sum(text: str) -> tuple[dict[str, str], float]:
    """(details by check, sum of the real shard's output) of a self-test that went well."""
    told = json.loads(text)
    assert told["ok"], told
    details = {check["name"]: check["detail"] for check in told["checks"]}
    found = re.search(r"sum (-?[\d.]+)", details["shard"])
    assert found is not None
    return details, float(found[1])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, reference_shards: Path) -> float:
    """What the shard gives in this interpreter."""
    path = agent_file(tmp_path_factory.mktemp("here"), reference_shards)
    command = (sys.executable, "-m", "node_agent.cli", "self-test", "--json", "--skip", "broker", "--config", path)
    return shard_sum(run(*command, cwd=ROOT).stdout)[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_self_test_on_every_python(tmp_path: Path, reference_shards: Path, expected: float, version: str) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"no working python{version} on PATH or under ~/.pyenv/versions")

    def make(folder: Path) -> None:
        site = folder / "site"
        own = subprocess.run([python, "-m", "venv", folder / "venv"], capture_output=True, text=True, check=False)
        assert own.returncode == 0, own.stderr
        pip = (folder / "venv/bin/python", *PIP[1:], "--target", site)
        run(*pip, *requirements(), env=plain_environment())
        shutil.rmtree(folder / "venv")

    site = cached(f"python-{version}", [str(python), "target"], make) / "site"
    done = run(
        python, "-W", "error", "-m", "node_agent.cli", "self-test", "--json", "--skip", "broker",
        "--config", agent_file(tmp_path, reference_shards), cwd=ROOT, env=plain_environment(PYTHONPATH=str(site)),
    )  # fmt: skip
    details, found = shard_sum(done.stdout)
    assert f"Python {version}." in details["platform"]
    assert "trunk_00" in details["shard"], "the first token of a request, too"
    assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("version", ["3.10", "3.11"])
def test_every_wheel_resolves_for_aarch64(tmp_path: Path, version: str) -> None:
    """JetPack 6 has Python 3.10, Raspberry Pi OS of 2023 has 3.11."""
    report = tmp_path / "report.json"
    run(
        *PIP, "--dry-run", "--ignore-installed", "--report", report, "--target", tmp_path / "none",
        *foreign(version), *requirements(), env=plain_environment(),
    )  # fmt: skip
    files = {
        item["metadata"]["name"].lower(): item["download_info"]["url"].rpartition("/")[2]
        for item in json.loads(report.read_text())["install"]
    }
    for name in ("numpy", "onnxruntime", "msgspec", "cryptography", "psutil"):
        assert "aarch64" in files[name], files[name]
    numpy_major, onnxruntime_minor = files["numpy"].split("-")[1][0], int(files["onnxruntime"].split(".")[1])
    assert numpy_major == "2" and onnxruntime_minor >= 23, "the pair that belongs together"


# --- emulation --------------------------------------------------------------------------------------------------

_APT = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
Acquire::Languages "none";
Acquire::Retries "2";
APT::Architecture "arm64";
APT::Architectures:: "arm64";
APT::Install-Recommends "false";
APT::Sandbox::User "{user}";
Debug::NoLocking "true";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
"""


def _emulator() -> Path:
    """qemu-aarch64 of the system, or its package unpacked into the cache."""
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        if found := shutil.which(name):
            return Path(found)

    def make(folder: Path) -> None:
        try:
            apt_package.fetch("qemu-user-static", folder / "tree", _check)
        except EnvironmentFault as error:
            pytest.skip(f"no qemu-aarch64 here: {error.message}")

    return cached("qemu", "qemu-user-static", make) / "tree/usr/bin/qemu-aarch64-static"


def _check(tree: Path) -> None:
    if not (tree / "usr/bin/qemu-aarch64-static").exists():
        raise EnvironmentFault("qemu-user-static: no qemu-aarch64-static in it")


def _board(folder: Path) -> None:
    """An arm64 Debian's Python and the node extra's wheels, unpacked and never configured: no foreign code runs."""
    if not apt_package.can_fetch() or "bookworm" not in Path("/etc/os-release").read_text():
        pytest.skip("the arm64 Python is fetched with apt from Debian 12")
    work = folder / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "log"):
        (work / part).mkdir(parents=True)
    (work / "status").touch()
    user = "root" if os.geteuid() == 0 else ""
    (work / "apt.conf").write_text(_APT.format(folder=work, user=user))
    apt = ("apt-get", "-c", work / "apt.conf", "-q", "-y")
    run(*apt, "update")
    run(*apt, "install", "--download-only", *DEBIAN)
    root = folder / "root"
    for package in sorted((work / "cache/archives").glob("*.deb")):
        run("dpkg-deb", "-x", package, root)
    shutil.rmtree(work)
    for name in ("usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / name, ignore_errors=True)
    run(*PIP, "--target", root / "site", *foreign("3.11"), *requirements(), env=plain_environment())
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(CPUINFO)


def test_self_test_with_a_real_shard_on_aarch64(tmp_path: Path, reference_shards: Path, expected: float) -> None:
    emulator = _emulator()
    root = cached("aarch64", [DEBIAN, CPUINFO, _APT], _board) / "root"
    done = run(
        emulator, "-cpu", "cortex-a76", "-L", root, root / "usr/bin/python3.11", "-m", "node_agent.cli", "self-test",
        "--json", "--skip", "broker", "--config", agent_file(tmp_path, reference_shards), cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/site", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    details, found = shard_sum(done.stdout)
    assert "aarch64" in details["platform"] and "verified and run" in details["shard"]
    assert found == pytest.approx(expected, abs=2e-3)
