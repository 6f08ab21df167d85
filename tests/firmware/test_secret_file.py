"""Passwords come out of files, and an empty one is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_tools.secret_file import first_line
from hil_config.errors import ConfigError


@pytest.mark.parametrize(
    ("data", "password"), [(b"word\n", "word"), (b"two words \r\nmore\n", "two words "), (b"x", "x")]
)
def test_the_first_line(tmp_path: Path, data: bytes, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(data)
    assert first_line(str(file)) == password


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"\nword\n", b"\xff\n"])
def test_a_file_without_a_password(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=str(file)):
        first_line(str(file))
    with pytest.raises(ConfigError, match="no password in it"):
        first_line(str(tmp_path / "none"))
    assert first_line(None) == ""
