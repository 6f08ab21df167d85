from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hil_config.durable_file import write_durably, write_result
from hil_config.errors import EnvironmentFault


def test_new_bytes_replace_old_ones_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for text in (b"old", b"new"):
        write_durably(path, text)
        assert path.read_bytes() == text
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_mode_holds_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_durably(tmp_path / "key", b"x", mode)
        write_durably(tmp_path / "plain", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o600


def test_a_failed_attempt_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_durably(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_what_a_person_asked_for_and_cannot_have_is_told(tmp_path: Path) -> None:
    write_result(tmp_path / "new" / "page.html", b"x")
    assert (tmp_path / "new" / "page.html").read_bytes() == b"x"
    with pytest.raises(EnvironmentFault, match="inner: cannot be written: File exists"):
        write_result(tmp_path / "new" / "page.html" / "inner", b"x")
