"""Certificates for agents that run on the ground's own machine: short-lived, keys and all, for one run."""

from __future__ import annotations

from pathlib import Path

from firmware_tools.identity import BROKER, CRL_FILE, GROUND, MONITOR, Authority, write_identity, write_private
from hil_config.errors import UsageError

LOCAL_DAYS = 2.0


def issue_local(folder: Path, names: tuple[str, ...], out: Path) -> None:
    """OUT/NAME/{certificate,key,ca,crl}.pem for each of `names` from the authority in FOLDER.

    Raises:
        ConfigError: FOLDER has no authority.
        UsageError: a name that only the ground's own parties have.
    """
    authority = Authority.read(folder)
    listed = folder / CRL_FILE
    for name in names:
        if name in {BROKER, GROUND, MONITOR}:
            raise UsageError(f"{name}: is not a board", "choose another name for the board")
        write_identity(out / name, authority.issue(name, LOCAL_DAYS))
        if listed.is_file():
            write_private(out / name / CRL_FILE, listed.read_bytes(), 0o644)
