"""A bench file, and how it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hil_config.errors import ConfigError
from hil_config.schema.load import load_bench

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "bench.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write_file


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_bench(path)
    assert caught.value.message.startswith(f"{path}")
    assert caught.value.hint
    return caught.value
