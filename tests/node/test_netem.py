"""The kernel's shaper, in a kernel that has it: user-mode-linux boots, shapes a veth, and tells what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil_config.errors import EnvironmentFault
from hil_config.wire.link_state import DOWN, LinkState
from node_agent.link.netem import Netem, Setting, Target, _words

HERE = Path(__file__).parent / "uml"
BOOT_TIMEOUT_S = 240


def _modules() -> Path | None:
    return next(iter(sorted(Path("/usr/lib/uml/modules").glob("*/kernel"))), None)


def _environment(folder: Path) -> dict[str, str]:
    """With the shim where the processor's extended state is larger than user-mode-linux 6.1 can hold."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    if "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("user-mode-linux 6.1 needs a shim on processors with AMX, and there is no C compiler")
        shim = folder / "shim.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", shim, HERE / "xstate_shim.c"], check=True)
        environment["LD_PRELOAD"] = str(shim)
    return environment


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    program, modules = shutil.which("linux.uml"), _modules()
    if program is None or modules is None:
        pytest.skip("no user-mode-linux here: apt-get install user-mode-linux")
    if shutil.which("tc") is None:
        pytest.skip("no tc here: apt-get install iproute2")
    folder = tmp_path_factory.mktemp("uml")
    done = subprocess.run(
        [
            program, "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={HERE / 'init.sh'}",
            "con=null", "con0=null,fd:1", f"PY={sys.executable}", f"REPO={HERE.parents[2]}",
            f"MODULES={modules.parent}",
        ],
        env=_environment(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=BOOT_TIMEOUT_S, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines and "Run " not in done.stdout:
        pytest.skip(f"user-mode-linux does not boot here: {done.stdout[-300:]}")
    assert lines, done.stdout[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found


@pytest.mark.parametrize("delay_ms", ["1.0", "12.05", "25.0"])
def test_packets_to_the_data_port_take_the_delay_and_others_do_not(result: dict[str, Any], delay_ms: str) -> None:
    found = result["delay"][delay_ms]
    assert found["read_ms"] == pytest.approx(float(delay_ms), abs=0.002)
    assert found["min_ms"] >= float(delay_ms)
    assert found["management_ms"] < found["min_ms"]


@pytest.mark.parametrize("mbit_s", ["1.0", "10.0"])
def test_the_rate_is_not_exceeded(result: dict[str, Any], mbit_s: str) -> None:
    assert 0.5 * float(mbit_s) < result["rate"][mbit_s] <= float(mbit_s)


@pytest.mark.parametrize("bit_s", ["1004.0", "12.0", "3.0", "2399.9"])
def test_a_slow_link_has_whole_bytes_a_second(result: dict[str, Any], bit_s: str) -> None:
    """netem counts in them: 1,004 bit/s was read back as 1,000, which ended the agent, and 3 as no limit."""
    got = result["slow"][bit_s]
    assert isinstance(got, float) and got % 8 == 0, got
    assert got == max(8.0, 8.0 * round(float(bit_s) / 8.0))


def test_a_change_of_delay_keeps_the_loss_and_an_outage_loses_all(result: dict[str, Any]) -> None:
    assert result["loss_after_delay_change"] == pytest.approx(0.1, abs=1e-4)
    assert result["down"] == 1.0


def test_meddling_is_noticed_by_reading_back(result: dict[str, Any]) -> None:
    assert "found Setting(delay_s=0.009" in result["meddled"] and "wanted Setting(delay_s=0.002" in result["meddled"]


def test_the_interface_is_given_back_and_a_stranger_is_left_alone(result: dict[str, Any]) -> None:
    assert result["after"] == result["before"]
    assert "has somebody else's tbf on it" in result["foreign"]


def test_every_command_carries_the_full_set() -> None:
    words = _words(Setting.of(LinkState(0.01205, 50e6, 0.01, True)))
    assert words == "netem limit 100000 delay 12050.0us loss 1.0000% rate 50000000bit"
    assert "loss 100.0000%" in _words(Setting.of(DOWN))


def test_a_missing_interface_or_kernel_module_is_a_clear_error() -> None:
    if shutil.which("tc") is None:
        pytest.skip("no tc here: apt-get install iproute2")
    with pytest.raises(EnvironmentFault, match="data interface 'no-such0'"):
        Netem("no-such0", {"b": Target("10.0.0.2", 7000)}).start()
