"""`hil schedule import` and `export` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ground_controller.cli.schedule_files import write_folder
from hil_config.door import run
from hil_config.errors import UsageError
from tests.formats.conftest import DATA

PLANS = DATA / "contact_plans"


def test_there_and_back_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, ion, again = tmp_path / "plan.csv", tmp_path / "plan.ionrc", tmp_path / "again.csv"
    source = str(PLANS / "hdtn_cgr_tutorial.json")
    assert run(["schedule", "import", source, "--format", "hdtn", "--out", str(plan), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["contacts"], told["nodes"], told["end_s"], told["rate_bit_s"]) == (16, 5, 60.0, [1e6, 1e6])
    assert "every owlt is 1" in told["warnings"][0]
    assert run(["schedule", "export", str(plan), "--format", "ion", "--out", str(ion)]) == 0
    assert run(["schedule", "import", str(ion), "--format", "ion", "--out", str(again)]) == 0
    assert again.read_text() == plan.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "plan.csv", "plan.ionrc"]


def test_names_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, plan = tmp_path / "names.csv", tmp_path / "plan.csv"
    names.write_text("name,number\nSAT-A,1\nSAT-B,2\n")
    plan.write_text("source,target,start_s,end_s,rate_bit_s,delay_s\nSAT-A,SAT-B,0,60.5,8000,0.25\n")
    out = tmp_path / "x.json"
    export = ["schedule", "export", str(plan), "--format", "hdtn", "--out", str(out)]
    assert run(export) == 4
    assert "found 'SAT-A'" in capsys.readouterr().err
    assert run([*export, "--node-map", str(names)]) == 4
    assert "--round" in capsys.readouterr().err
    assert not out.exists()
    assert run([*export, "--node-map", str(names), "--round"]) == 0
    (contact,) = json.loads(out.read_text())["contacts"]
    wanted = {"contact": 0, "source": 1, "dest": 2, "startTime": 0, "endTime": 60, "rateBitsPerSec": 8000, "owlt": 1}
    assert contact == wanted
    back = tmp_path / "back.csv"
    assert run(["schedule", "import", str(out), "--format", "hdtn", "--node-map", str(names), "--out", str(back)]) == 0
    assert "SAT-A,SAT-B,0,60,8000,1" in back.read_text()


def test_a_folder_is_written_whole_and_never_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.csv", tmp_path / "epochs"
    plan.write_text("# epoch_utc: 2024-06-01T12:00:00Z\nsource,target,start_s,end_s,rate_bit_s,delay_s\n"
                    "a,b,0,60,8000,0.25\nb,a,0,60,8000,0.25\n")  # fmt: skip
    export = ["schedule", "export", str(plan), "--format", "netsatbench", "--out", str(out)]
    assert run(export) == 0
    assert sorted(path.name for path in out.iterdir()) == ["NetSatBench-epoch0.json", "NetSatBench-epoch1.json"]
    assert run(export) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["schedule", "import", str(out), "--format", "netsatbench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch_utc"] == "2024-06-01T12:00:00Z"


def test_an_empty_plan_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, ion = tmp_path / "plan.csv", tmp_path / "plan.ionrc"
    plan.write_text("source,target,start_s,end_s,rate_bit_s,delay_s\n")
    ion.write_text("a contact -1 -1 5 5 0\n")
    out = tmp_path / "out"
    for command in (["import", str(ion), "--format", "ion"], ["export", str(plan), "--format", "hdtn"]):
        assert run(["schedule", *command, "--out", str(out)]) == 4
        assert "the plan holds no contact" in capsys.readouterr().err
        assert not out.exists()


def test_what_rounding_leaves_nothing_of_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.csv"
    head, short = "source,target,start_s,end_s,rate_bit_s,delay_s\n", "1,2,0.2,0.8,8000,0.01\n1,2,2.5,3.5,8000,0.01\n"
    for name in ("hdtn", "ion"):
        out = tmp_path / name
        export = ["schedule", "export", str(plan), "--format", name, "--out", str(out), "--round"]
        plan.write_text(head + short)
        assert run(export) == 4
        assert "leaves nothing of any contact" in capsys.readouterr().err and not out.exists()
        plan.write_text(head + short + "1,2,4,60,8000,0.01\n")
        assert run(export) == 0
        assert "left out: 2 of 3 contacts" in capsys.readouterr().err
        assert run(["schedule", "import", str(out), "--format", name]) == 0
        assert "1 contacts of 2 nodes, 4 to 60 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["import", str(PLANS / "hdtn_10nodes.json"), "--format", "hdtn"], 4, "hdtn_10nodes.json:1618: contact 3639"),
        (["import", str(PLANS / "none"), "--format", "ion"], 4, "none: cannot be read"),
        (["import", str(PLANS / "hdtn_10nodes.json"), "--format", "ion"], 4, ":1: unknown or unsupported command"),
        (["import", str(PLANS), "--format", "netsatbench"], 4, "holds no file like NetSatBench-epoch0.json"),
        (["import", "x", "--format", "csv", "--rate-unit", "bit/s"], 2, "--rate-unit means nothing"),
        (["import", "x", "--format", "morse"], 2, "no format is called 'morse'"),
        (["export", "x", "--format", "hypatia", "--out", "y"], 4, "x: cannot be read"),
        (["import", str(PLANS / "hdtn_cgr_tutorial.json"), "--format", "hdtn", "--out", "/no/such/x.csv"], 2,
         "cannot be written"),
    ],
)  # fmt: skip
def test_refusals(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schedule", *arguments]) == code
    told = capsys.readouterr()
    assert words in told.err and "hint: " in told.err
    assert told.out == "" and "Traceback" not in told.err


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    for files in ({"a": "x", "a/b": "y"}, {"a/b": "x", "a": "y"}):
        with pytest.raises(UsageError, match="cannot be written"):
            write_folder(tmp_path / "out", files)
        assert list(tmp_path.iterdir()) == []
    write_folder(tmp_path / "out", {"a/b": "x"})
    assert (tmp_path / "out" / "a" / "b").read_text() == "x"
    (tmp_path / "again.part").mkdir()
    with pytest.raises(UsageError, match=r"again\.part: cannot be made"):
        write_folder(tmp_path / "again", {"a": "x"})
    assert (tmp_path / "again.part").is_dir()  # not ours, so it stays
