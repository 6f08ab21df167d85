"""`hil-agent install`: systemd's files for an agent in slots (/opt/hil/current), written where they differ.

Used by the first boot and by provisioning alike, from the version that runs, so that units and agent go together.
Standard library only. The unit is the agent's own text; what is different with slots stands in a file beside it.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault

SYSTEMD = Path(__file__).parent / "systemd"
UNITS = "etc/systemd/system"
SERVICE, STARTER = "hil-agent.service", "hil-agent.path"
USER = "hil-agent"
COMMAND_S = 30.0

_BESIDE = """\
[Unit]
ConditionPathExists=/etc/hil/identity/certificate.pem

[Service]
ExecStartPre=+/bin/chown -R {runs}:{runs} /etc/hil /var/lib/hil
ExecStart=
ExecStart=/usr/bin/python3 -m node_agent.cli run --config /etc/hil/agent.json
Environment=PYTHONPATH=/opt/hil/current:/opt/hil/site
StateDirectory=hil
"""
# PathChanged, not PathExists: that one would start an agent again that somebody has stopped.
_STARTER = """\
[Unit]
Description=Starts the node agent when the board gets its certificate

[Path]
PathChanged=/etc/hil/identity/certificate.pem

[Install]
WantedBy=multi-user.target
"""


def wanted(jetson: bool) -> dict[str, bytes]:
    """Path below the root -> content."""
    unit = (SYSTEMD / ("hil-agent-jetson.service" if jetson else SERVICE)).read_bytes()
    return {
        f"{UNITS}/{SERVICE}": unit,
        f"{UNITS}/{SERVICE}.d/firstboot.conf": _BESIDE.format(runs="root" if jetson else USER).encode(),
        f"{UNITS}/{STARTER}": _STARTER.encode(),
        "etc/tmpfiles.d/hil-agent.conf": (SYSTEMD / "hil-agent.tmpfiles.conf").read_bytes(),
    }


LINKS = {f"{UNITS}/multi-user.target.wants/{name}": f"../{name}" for name in (STARTER, SERVICE)}


def differing(root: Path, jetson: bool) -> list[str]:
    """What is missing or other than it should be below `root`; nothing is written."""
    found = [path for path, text in wanted(jetson).items() if _content(root / path) != text]
    found += [path for path, target in LINKS.items() if _target(root / path) != target]
    if root == Path("/") and not jetson and not _has_user():
        found.append(f"user {USER}")
    if root == Path("/") and not found and _is_stale():
        found.append("daemon-reload")
    return found


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def _is_stale() -> bool:
    """Whether systemd still goes by an older file, because it was not told of this one."""
    words = ("systemctl", "show", "--property=NeedDaemonReload", "--value", SERVICE)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "yes"


def install(root: Path, jetson: bool) -> list[str]:
    """Write what differs, mode 0644 whatever the umask; on this very system tell systemd. Returns what differed.

    Raises:
        EnvironmentFault: a file cannot be written, or a command of the system fails.
    """
    found, here = differing(root, jetson), root == Path("/")
    for path, text in wanted(jetson).items():
        if path in found:
            _write(root / path, text)
    for path, target in LINKS.items():
        if path in found:
            _link(root / path, target)
    if found and here:
        if f"user {USER}" in found:
            _tell("useradd", "--system", "--home-dir", "/var/lib/hil", "--no-create-home",
                  "--shell", "/usr/sbin/nologin", USER)  # fmt: skip
        _tell("systemctl", "daemon-reload")
        _tell("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/hil-agent.conf", must=False)  # no cpufreq: nothing to do
    return found


def _folder(path: Path) -> None:
    before = os.umask(0o022)
    try:
        path.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(before)


def _write(path: Path, text: bytes) -> None:
    try:
        _folder(path.parent)
        write_durably(path, text, 0o644)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}", "run it as root") from error


def _link(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        _folder(path.parent)
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        os.replace(new, path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be linked: {error.strerror}", "run it as root") from error


def _tell(*words: str, must: bool = True) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{words[0]}: {error}", "is this a board with systemd?") from error
    if done.returncode and must:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
        raise EnvironmentFault(f"{' '.join(words[:2])}: exit code {done.returncode}, it said {said[0]!r}")


def report(root: Path, jetson: bool, check: bool) -> None:
    """Print one JSON object: what `differed`, and whether it was mended.

    Raises:
        EnvironmentFault: something differs and nothing was to be written; or as `install`.
    """
    found = differing(root, jetson) if check else install(root, jetson)
    print(json.dumps({"differed": found, "mended": not check}), flush=True)
    if check and found:
        options = (" --jetson" if jetson else "") + ("" if root == Path("/") else f" --root {root}")
        raise EnvironmentFault(
            f"{root}: missing or not as this agent has it: {', '.join(found)}", f"sudo hil-agent install{options}"
        )
