"""`module:Name` of the user's own, where it is not what it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools.power.registry import backend
from firmware_tools.power.spec import Switch
from ground_controller.formats.registry import find_format
from hil_config.errors import ConfigError
from hil_config.own_code import own_code
from hil_config.schema.load import default_path, load_bench
from node_agent.config import SensorSpec
from node_agent.sensors.registry import probe
from tests.sensing import boards


def test_what_is_not_there_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match="there is no switch 'shely'") as unknown:
        own_code("shely", "switch", ("shelly", "gpio"))
    assert "gpio, shelly, or module:Name" in unknown.value.hint
    with pytest.raises(ConfigError, match="No module named 'no_such_module'") as absent:
        own_code("no_such_module:X", "switch", ())
    assert "PYTHONPATH" in absent.value.hint
    with pytest.raises(ConfigError, match="has no attribute 'Nothing'"):
        own_code("json:Nothing", "switch", ())


def test_a_part_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks switch and status"):
        backend(Switch("alpha", "json:dumps"))
    with pytest.raises(ConfigError, match="is a function"):
        find_format("json:dumps")
    with pytest.raises(ConfigError, match="cannot be called"):
        probe(boards.config(tmp_path, SensorSpec("json:__name__")))


def test_a_profile_of_ones_own_is_found_beside_the_bench_file(tmp_path: Path) -> None:
    text = default_path("bench").read_text().replace("profile: local-process", "profile: mine.yaml", 1)
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bench.yaml:\d+:\d+: .*mine.yaml"):
        load_bench(path)
    (tmp_path / "mine.yaml").write_text("name: mine\nidle_w: 2\n")
    with pytest.raises(ConfigError, match=r"mine.yaml"):
        load_bench(path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nidle_w: 2\nper_core_w: 1\ncores: 4\ncpu_scale: 2\nmemory_mb: 1024\nexpert_slots: 8\nsource: ours\n"
    )
    assert load_bench(path).boards[0].profile == str(tmp_path / "mine.yaml")


def test_a_plugin_without_options_skips(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(hil_run): assert False\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "1 skipped" in done.stdout and "--hil-run FOLDER" in done.stdout, done.stdout
