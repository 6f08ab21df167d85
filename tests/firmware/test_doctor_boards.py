"""`hil bench doctor --bench`: what is wrong with each board, and what to type."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.virtual.recipe import recipe_hash
from hil_config.door import run


def looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    words = ["bench", "doctor", "--runs", str(tmp_path), "--bench", str(tmp_path / "bench.yaml"), "--json"]
    run(words)
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}


def test_each_cause_with_its_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pty.openpty()
    (tmp_path / "bench.yaml").write_text(
        "bench: lab\nidentity: identity\nboards:\n  - name: alpha\n    profile: raspberry-pi-5\n"
        "    kind: raspberry-pi\n"
        f"    disk: {{file: alpha.img}}\n    console: {{port: {os.ttyname(far)}, password_file: password}}\n"
        '    power: {via: command, on_command: ["true"], off_command: ["true"], status_command: [echo, on]}\n'
        "  - {name: bravo, profile: raspberry-pi-5, kind: raspberry-pi, disk: {serial: NOT-THERE-9},"
        " console: {port: /dev/no-such-port}, power: {via: shelly, at: 'http://127.0.0.1:9'}}\n"
        "  - {name: charlie, profile: local-process}\n"
    )
    found = looked_at(tmp_path, capsys)
    wrong = {name: one["do"] for name, one in found.items() if not one["ok"] and "." in name}
    assert wrong["alpha.disk"] == "hil flash alpha --image IMAGE"
    assert wrong["alpha.console"].endswith(f"chmod 600 {tmp_path / 'password'}")
    assert set(wrong) == {"alpha.disk", "alpha.console", "bravo.disk", "bravo.console", "bravo.power"}
    assert found["alpha.power"]["found"] == "command: on"
    assert found["identity"]["do"] == "make one: hil bench init"
    assert not any(name.startswith("charlie") for name in found)

    assert run(["provision", "alpha", "--bench", str(tmp_path / "bench.yaml")]) == 3
    assert "hil bench init" in capsys.readouterr().err
    (tmp_path / "password").write_text("x\n")
    (tmp_path / "password").chmod(0o644)
    assert looked_at(tmp_path, capsys)["alpha.console"]["do"] == f"chmod 600 {tmp_path / 'password'}"
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "alpha.img").write_bytes(bytes(1 << 20))
    assert run(["bench", "init", "lab", "--folder", str(tmp_path / "identity")]) == 0
    assert run(["bench", "reserve", "alpha", "--bench", str(tmp_path / "bench.yaml")]) == 0
    found = looked_at(tmp_path, capsys)
    assert found["alpha.disk"]["ok"] and found["alpha.console"]["ok"] and found["identity"]["ok"]
    assert found["alpha.identity"]["do"] == "hil firstboot alpha; hil provision alpha"
    assert "for 4.0 h more" in found["alpha.held"]["found"]
    assert all(found[f"{name}.identity"]["ok"] for name in ("broker", "ground", "monitor"))
    identity, file = tmp_path / "identity", tmp_path / "bench.yaml"
    file.write_text(file.read_text().replace("bench: lab\n", "bench: demo\n"))
    assert looked_at(tmp_path, capsys)["identity"]["do"].startswith("write `bench: lab`")
    assert run(["provision", "alpha", "--bench", str(file)]) == 3
    assert "is of bench 'lab', the bench file is of 'demo'" in capsys.readouterr().err
    file.write_text(file.read_text().replace("bench: demo\n", "bench: lab\n"))
    assert run(["bench", "identity", "revoke", "ground", "--folder", str(identity)]) == 0
    assert (
        looked_at(tmp_path, capsys)["ground.identity"]["do"] == f"hil bench identity renew ground --folder {identity}"
    )
    os.close(near)
    os.close(far)


def test_a_path_that_may_not_be_looked_at_is_one_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 300  # which the system refuses for everybody, as it does a folder of somebody else
    console = f"console: {{port: /dev/no-such-port, password_file: {name}}}"
    board = f"{{name: alpha, profile: raspberry-pi-5, kind: debian, disk: {{file: {name}}}, {console}}}"
    (tmp_path / "bench.yaml").write_text(f"bench: lab\nboards: [{board}]\n")
    found = looked_at(tmp_path, capsys)
    assert not found["alpha.disk"]["ok"] and not found["alpha.console"]["ok"]
    assert found["alpha.disk"]["do"] and found["cores"]


def test_nothing_is_written_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = tmp_path / "cache" / "spacemoe-hil" / "virtual" / recipe_hash()
    built.mkdir(parents=True)
    (built / "complete").touch()
    (tmp_path / "bench.yaml").write_text(
        "bench: lab\nboards:\n  - {name: alpha, profile: raspberry-pi-5, kind: virtual, disk: {file: alpha.img},"
        " console: {port: 'socket://127.0.0.1:9'}, power: {via: virtual}}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    assert looked_at(tmp_path, capsys)["alpha.power"]["found"] == "virtual: off"
    assert run(["power", "alpha", "status", "--bench", str(tmp_path / "bench.yaml")]) == 0
    assert sorted(tmp_path.rglob("*")) == before
