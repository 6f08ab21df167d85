"""Passwords come from files, never from the command line."""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import ConfigError


def first_line(path: str | None) -> str:
    """The first line of a password file; empty if there is no file named.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no password in it", f"write it into its first line; chmod 600 {path}") from error
