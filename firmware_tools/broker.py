"""Mosquitto, the MQTT broker: find or fetch it, and configure a private one on loopback."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from firmware_tools import apt_package
from firmware_tools.broker_access import Access, render_acl, render_listener
from hil_config.errors import EnvironmentFault, UsageError

SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/sbin"
"""Distributions put the program where a user's PATH often does not look."""

OLDEST = (2, 0)
"""`listener PORT ADDRESS` with explicit `allow_anonymous` behaves as written here since 2.0."""

MAX_PACKET_BYTES = 16 << 20
_INSTALLERS = {
    "apt-get": "sudo apt-get install mosquitto",
    "dnf": "sudo dnf install mosquitto",
    "zypper": "sudo zypper install mosquitto",
    "pacman": "sudo pacman -S mosquitto",
    "apk": "sudo apk add mosquitto",
    "brew": "brew install mosquitto",
}

_CONFIG = """\
# Private broker of one run, written by hil: {who}, nothing kept on disk.
{user}{listener}
persistence false
set_tcp_nodelay true
max_queued_messages 100000
max_queued_bytes 0
max_packet_size {packet}
log_dest file {log}
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


@dataclass(frozen=True)
class Mosquitto:
    """A program that starts. `environment` is what it needs on top of the caller's."""

    program: Path
    version: str
    environment: dict[str, str]


class Recipe(msgspec.Struct, frozen=True):
    """How to start a broker: command, what its environment needs on top, and its configuration file."""

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    config: str

    def typed(self) -> str:
        """The same as one types it at a shell."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, *map(shlex.quote, (self.program, *self.arguments))])


def cache_folder() -> Path:
    """Where fetched programs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacemoe-hil"


def install_command() -> str:
    """What a person types to install Mosquitto on this machine."""
    for program, command in _INSTALLERS.items():
        if shutil.which(program):
            return command
    return "install Mosquitto 2.0 or newer, see https://mosquitto.org/download"


def installed_mosquitto() -> Mosquitto | None:
    """The one on PATH or where distributions put it, else one fetched before. Uses no network."""
    for path in (None, SYSTEM_FOLDERS):
        found = shutil.which("mosquitto", path=path)
        if found:
            try:
                return _started(Path(found), {})
            except EnvironmentFault:
                continue  # too old or broken: ours may still do
    try:
        return _in_tree(_fetched_folder())
    except EnvironmentFault:
        return None


def find_mosquitto(tell: Callable[[str], None] = lambda _: None) -> Mosquitto:
    """A Mosquitto that starts; fetches the distribution's package if there is none.

    Args:
        tell: called with a sentence before the download, which can take a minute.

    Raises:
        EnvironmentFault: there is none and it cannot be fetched; the hint is the command that installs it.
    """
    found = installed_mosquitto()
    if found is not None:
        return found
    folder = _fetched_folder()
    tell(f"mosquitto is not installed; fetching the distribution's package into {folder} (no root needed)")
    try:
        apt_package.fetch("mosquitto", folder, _in_tree)
        return _in_tree(folder)
    except EnvironmentFault as error:
        raise EnvironmentFault(f"the MQTT broker is missing; {error.message}", install_command()) from error


def prepare_broker(
    port: int, folder: Path, tell: Callable[[str], None] = lambda _: None, access: Access | None = None
) -> Recipe:
    """Write FOLDER/mosquitto.conf (and acl) for a broker on `port` and say how to start it.

    Args:
        access: TLS, and who may do what; without it the broker is for this machine alone.

    Raises:
        EnvironmentFault: no Mosquitto, or the folder cannot be written.
    """
    mosquitto = find_mosquitto(tell)
    home = folder.absolute()
    text = render_config(port, home / "mosquitto.log", access and (access, home / "acl"))
    config = home / "mosquitto.conf"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if access is not None:
            (home / "acl").write_text(render_acl(access.bench), encoding="utf-8")
            (home / "acl").chmod(0o600)  # Mosquitto complains about one that others can read
        config.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            f"{config}: cannot be written: {error.strerror or error}", "choose another folder"
        ) from error
    return Recipe(str(mosquitto.program), ("-c", str(config)), mosquitto.environment, str(config))


def render_config(port: int, log: Path, access: tuple[Access, Path] | None = None) -> str:
    """Configuration of a private broker: for whoever can log in to this machine, or with `access` (and the path of
    its ACL file) for whoever holds a certificate of the bench.

    The queues are long because evidence is small and the controller may pause; a packet may hold a whole
    link schedule.
    """
    if not 1 <= port <= 65_535:
        raise UsageError(f"port {port}, wanted 1 to 65535", "give a free TCP port")
    if not str(log).isprintable():
        raise UsageError(f"folder {str(log.parent)!r}: control characters in its name", "choose another")
    # Started by root it would become `nobody`, who cannot write the log.
    user = "user root\n" if os.geteuid() == 0 else ""
    who, listener = "this machine only", f"listener {port} 127.0.0.1\nallow_anonymous true"
    if access is not None:
        who, listener = "certificates of this bench only", render_listener(port, *access)
    return _CONFIG.format(who=who, user=user, listener=listener, packet=MAX_PACKET_BYTES, log=log)


def _fetched_folder() -> Path:
    """One folder per distribution and machine type: a home folder may be shared between machines."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    words = (release.get("ID", "unknown"), release.get("VERSION_ID", "0"), platform.machine())
    return cache_folder() / "mosquitto" / "-".join(re.sub(r"[^A-Za-z0-9._]", "", word) for word in words)


def _in_tree(tree: Path) -> Mosquitto:
    """The program in an unpacked package, with the libraries that came with it."""
    program = tree / "usr" / "sbin" / "mosquitto"
    if not os.path.isfile(program):  # False, and no error, also where we may not look
        raise EnvironmentFault(f"{program}: is not there")
    folders = sorted({str(library.parent) for library in tree.glob("**/lib*.so*")})
    known = os.environ.get("LD_LIBRARY_PATH")
    return _started(program, {"LD_LIBRARY_PATH": ":".join(folders + ([known] if known else []))} if folders else {})


def _started(program: Path, environment: dict[str, str]) -> Mosquitto:
    """Start it once for its help text, which begins with its version."""
    try:
        done = subprocess.run(
            [str(program), "-h"], env={**os.environ, **environment}, capture_output=True, text=True,
            errors="replace", stdin=subprocess.DEVNULL, timeout=20.0, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{program}: does not start: {error}") from error
    match = re.search(r"mosquitto version (\d+)\.(\d+)\S*", done.stdout + done.stderr)
    if match is None:
        line = next(iter((done.stderr or done.stdout).strip().splitlines()), f"exit code {done.returncode}")
        raise EnvironmentFault(f"{program}: does not start: {line}")
    version = match.group(0).removeprefix("mosquitto version ")
    if (int(match.group(1)), int(match.group(2))) < OLDEST:
        raise EnvironmentFault(f"{program}: is version {version}, wanted {OLDEST[0]}.{OLDEST[1]} or newer")
    return Mosquitto(program, version, environment)
