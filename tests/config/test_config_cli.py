"""`hil config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil_config.door import run
from hil_config.schema.json_schema import json_schema, schema_text
from hil_config.schema.load import default_path

BENCH, CAMPAIGN = str(default_path("bench")), str(default_path("campaign"))


def test_check_says_what_it_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", BENCH, CAMPAIGN]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{BENCH}: bench demo, 4 boards: in order",
        f"{CAMPAIGN}: campaign demo, 4 boards: in order",
    ]


def test_check_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "--json", BENCH, CAMPAIGN]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in answer["files"]] == ["bench", "campaign"]
    assert len(answer["config_sha256"]) == 64


def test_check_tells_the_mistakes_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, campaign, other = (tmp_path / name for name in ("b.yaml", "c.yaml", "o.yaml"))
    bench.write_text("bench: b\nboards: [{name: x, profile: local-process}, {name: y, profile: local-process}]\n")
    campaign.write_text(Path(CAMPAIGN).read_text(encoding="utf-8"), encoding="utf-8")
    other.write_text("hello: 1\n")
    assert run(["config", "check", str(other), str(bench), str(campaign)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith(f"error: {other}:1:1: neither a bench file")
    assert lines[1].startswith(f"{campaign}:19:5: orbit.satellites: found 4 entries, wanted 2: one per board")
    assert lines[2].startswith("  hint: ")


@pytest.mark.parametrize("name", ["bench", "campaign"])
def test_schema_and_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema", name]) == 0
    assert capsys.readouterr().out == schema_text(name)
    assert run(["config", "schema", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema(name)
    assert run(["config", "example", name]) == 0
    path = BENCH if name == "bench" else CAMPAIGN
    assert capsys.readouterr().out == Path(path).read_text(encoding="utf-8")
    assert run(["config", "example", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == path


def test_a_schema_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema", "agent"]) == 2
    assert "'agent' is not one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("name: lyapunov ", "name: nobody "), "policies.selection: there is no selection policy 'nobody'"),
        (("name: lyapunov ", "name: deadly.py:Policy "), "policies.selection: "),
        (("name: rank_match ", "name: nowhere "), "policies.placement: there is no placement policy 'nowhere'"),
        (("name: full ", "name: half "), "policies.transmission: there is no transmission policy 'half'"),
        (("selection:\n    name: lyapunov", "selection:\n    options: {v: -1}\n    name: lyapunov"), "v is -1.0"),
    ],
)
def test_check_knows_the_policies(
    change: tuple[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run would stop at is found here, at its line."""
    text = Path(CAMPAIGN).read_text(encoding="utf-8")
    lines = text.replace(*change)
    if "-1" in change[1]:
        head, tail = lines.split("name: lyapunov", 1)
        lines = head + "name: lyapunov" + tail.replace("\n    options: {}", "", 1)
    assert lines != text
    campaign = tmp_path / "c.yaml"
    campaign.write_text(lines, encoding="utf-8")
    assert run(["config", "check", BENCH, str(campaign)]) == 3
    told = capsys.readouterr().err
    line = 1 + next(n for n, one in enumerate(lines.splitlines()) if change[1].splitlines()[-1].strip() in one)
    assert told.startswith(f"error: {campaign}:{line}:") and words in told and "hint: " in told
    assert run(["simulate", BENCH, str(campaign), "--out", str(tmp_path / "run")]) == 3
    assert f"{campaign}:{line}:" in capsys.readouterr().err and not (tmp_path / "run").exists()
