"""Files that are mapped without being held open."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.mapped_file import map_file


def _mapped(path: Path) -> int:
    """How often this process has the file mapped."""
    return Path("/proc/self/maps").read_text().count(str(path))


def _is_open(path: Path) -> bool:
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return any(os.readlink(link) == str(path) for link in links if os.path.islink(link))


def test_a_mapped_file_is_not_held_open_and_stays_as_long_as_it_is_looked_at(tmp_path: Path) -> None:
    path, content = tmp_path / "weights", os.urandom(10_000)
    path.write_bytes(content)
    data = map_file(path)
    assert (bytes(data), data.readonly, data.format, _is_open(path), _mapped(path)) == (content, True, "B", False, 1)
    view = np.frombuffer(data, np.uint8, 5, 4_096)
    del data
    assert (view.tobytes(), _mapped(path)) == (content[4_096:4_101], 1)
    del view
    assert not _mapped(path)


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty"):
        map_file(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "nowhere")
    with open(tmp_path / "vast", "wb") as file:
        file.truncate(1 << 40)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 39, before[1]))
    try:
        with pytest.raises(OSError, match="memory"):
            map_file(tmp_path / "vast")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
