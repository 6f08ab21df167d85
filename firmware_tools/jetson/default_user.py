"""The user of a Jetson's root file system, so that its first-boot wizard does not wait on a console."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from firmware_tools.firstboot.crypt_hash import sha512_crypt
from firmware_tools.state import write_whole
from hil_config.errors import EnvironmentFault, UsageError

SCRIPT = "tools/l4t_create_default_user.sh"
TIMEOUT_S = 600.0


def create_user(folder: Path, user: str, host_name: str, password: str) -> bool:
    """Make sure that the user exists in `folder`/rootfs with this password; True if the script had to run.

    NVIDIA's script takes a password as an argument, where every process can read it. It makes one up without: it is
    called so, what it prints is dropped, and the hash goes into /etc/shadow afterwards.

    Raises:
        EnvironmentFault: the script fails, or has not made the user. UsageError: a name it would misread.
    """
    for name in (user, host_name):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise UsageError(f"{name!r} is not a name for a user or host", "lower-case letters, digits and hyphens")
    shadow = folder / "rootfs/etc/shadow"
    ran = not re.search(rf"^{user}:", _read(folder / "rootfs/etc/passwd"), re.MULTILINE)
    if ran:
        words = [f"./{SCRIPT}", "-u", user, "-n", host_name, "-a", "--accept-license"]
        try:
            done = subprocess.run(
                words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentFault(f"{SCRIPT}: {error}", f"cd {folder}; sudo {' '.join(words)}") from error
        if done.returncode:
            raise EnvironmentFault(f"{SCRIPT} ended with {done.returncode}", f"cd {folder}; sudo {' '.join(words)}")
    (folder / "rootfs/etc/hostname").write_text(f"{host_name}\n", encoding="utf-8")
    text, hashed = _read(shadow), sha512_crypt(password)
    new, count = re.subn(rf"^({user}):[^:]*:", lambda match: f"{match[1]}:{hashed}:", text, flags=re.MULTILINE)
    if count != 1:
        raise EnvironmentFault(f"{shadow}: {count} entries of {user}", f"is {SCRIPT} that of Jetson Linux?")
    facts = shadow.stat()
    write_whole(shadow, new.encode(), facts.st_mode & 0o777)
    os.chown(shadow, facts.st_uid, facts.st_gid)  # of the group shadow, whose programs check passwords
    return ran


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path}: cannot be read", "unpack NVIDIA's root file system; run as root") from error
