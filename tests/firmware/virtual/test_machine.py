"""What QEMU is told of a virtual board, and what a bench file cannot say of one."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from firmware_tools.state import State
from firmware_tools.virtual import machine
from hil_config.errors import EnvironmentFault
from hil_config.schema.load import load_bench


@pytest.mark.skipif(not shutil.which("qemu-system-aarch64"), reason="not installed: qemu-system-arm")
def test_a_bench_in_a_folder_with_a_comma_and_a_blank(tmp_path: Path) -> None:
    folder = tmp_path / "Pi, Orin and others"
    folder.mkdir()
    for name in ("disk", "kernel", "initrd"):
        (folder / name).write_bytes(bytes(1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    disk, kernel, initrd = (str(folder / name) for name in ("disk", "kernel", "initrd"))
    forward = machine.Forward("10.0.2.100:8883", 1)
    one = machine.Machine("alpha", disk, kernel, initrd, port, 0, (forward,), str(folder))
    try:
        machine.start(one)
        assert machine.process_of(one) is not None and one.console_log.exists()
    finally:
        machine.stop(one)


def test_an_image_that_another_user_has_built_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, console = tmp_path / "bench.yaml", "{port: 'socket://127.0.0.1:9'}"
    board = f"{{name: a, profile: raspberry-pi-5, kind: virtual, disk: {{file: a.img}}, console: {console}}}"
    file.write_text(f"bench: lab\nboards: [{board}]\n")
    bench = load_bench(file)
    with pytest.raises(EnvironmentFault, match=f"by this user .*{tmp_path}/cache") as caught:
        machine.machine_of(bench, bench.boards[0], State(file))
    assert "as root" in caught.value.hint
