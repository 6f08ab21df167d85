"""Passwords come from files, never from the command line."""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import ConfigError


def first_line(path: str | None) -> str:
    """The first line of a password file; empty if there is no file named.

    Raises:
        ConfigError: it cannot be read, or its first line is empty: that would be a password, too.
    """
    if path is None:
        return ""
    try:
        found = Path(path).read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{path}: no password in it: {why}", f"its first line is taken; chmod 600 {path}") from error
    if not found:
        raise ConfigError(f"{path}: its first line is empty", f"write the password into it; chmod 600 {path}")
    return found
