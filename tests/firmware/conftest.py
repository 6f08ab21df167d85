"""What several tests of firmware tools stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware.linux_for_tegra import make_l4t


@pytest.fixture
def l4t(tmp_path: Path) -> Path:
    """NVIDIA's folder, r36."""
    return make_l4t(tmp_path / "Linux_for_Tegra")
