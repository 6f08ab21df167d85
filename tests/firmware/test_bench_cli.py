"""`hil bench doctor` and `hil bench list`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firmware_tools import doctor
from hil_config.door import run
from hil_config.schema.load import default_path


def test_doctor_names_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["bench", "doctor", "--json", "--runs", str(tmp_path / "runs")])
    answer = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in answer["checks"]]
    assert {"python", "onnxruntime", "mosquitto", "disk", "cores"} <= set(names)
    assert answer["ok"] == all(check["ok"] for check in answer["checks"])
    assert code == (0 if answer["ok"] else 9)
    assert not (tmp_path / "runs").exists()


def test_doctor_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("onnxruntime", "no-such-thing"))
    monkeypatch.setattr(doctor, "installed_mosquitto", lambda: None)
    monkeypatch.setattr("firmware_tools.apt_package.can_fetch", lambda: False)
    monkeypatch.setattr(doctor, "FREE_DISK_GB", 1e9)
    assert run(["bench", "doctor", "--runs", str(tmp_path)]) == 9
    lines = capsys.readouterr().out.splitlines()
    missing = [line.split()[1] for line in lines if line.startswith("MISSING")]
    assert missing[:3] == ["no-such-thing", "mosquitto", "disk"]
    orders = [line.strip() for line in lines if line.strip().startswith("do: ")]
    assert len(orders) == len(missing)
    assert orders[0].endswith(" -m pip install 'spacemoe-hil[ground]'")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(default_path("bench"))
    assert run(["bench", "list", path]) == 0
    out = capsys.readouterr().out
    for name in ("alpha", "bravo", "charlie", "delta", "local-process", "modelled"):
        assert name in out
    assert run(["bench", "list", path, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [board["name"] for board in answer["boards"]] == ["alpha", "bravo", "charlie", "delta"]
    assert answer["boards"][0]["profile"]["idle_w"] == 2.7


def test_list_of_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text("bench: a\nboards: [{name: x, profile: pi}]\n")
    assert run(["bench", "list", str(path)]) == 3
    assert f"error: {path}:2:29: boards[0].profile: found 'pi'" in capsys.readouterr().err


def test_all_is_every_board_that_there_is_to_work_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "bench.yaml", "  - {name: m, profile: raspberry-pi-5, kind: model}\n"
    switch = "{via: command, on_command: [a], off_command: [b], status_command: [echo, on]}"
    alpha = f"  - {{name: alpha, profile: raspberry-pi-5, kind: debian, power: {switch}}}\n"
    path.write_text(f"bench: lab\nboards:\n{alpha}{model}")
    assert run(["power", "all", "status", "--bench", str(path)]) == 0
    assert capsys.readouterr().out == "alpha: on\n"
    path.write_text(f"bench: lab\nboards:\n{model}")
    assert run(["power", "all", "status", "--bench", str(path)]) == 2
    assert "has model boards alone" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf", "-nan"])
def test_what_is_no_number_is_no_duration(tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text("bench: lab\nboards: [{name: alpha, profile: raspberry-pi-5}]\n")
    assert run(["bench", "reserve", "alpha", f"--hours={number}", "--bench", str(path)]) == 2
    assert "--hours" in capsys.readouterr().err
    assert run(["provision", "alpha", f"--timeout={number}", "--bench", str(path)]) == 2
    assert run(["bench", "characterise", "alpha", f"--load={number}", "--bench", str(path)]) == 2
