"""`hil schedule route` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil_config.door import run

HEADER = "source,target,start_s,end_s,rate_mbit_s,delay_s\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.csv"
    path.write_text(HEADER + "a,b,0,10,1,1\nb,c,20,30,1,1\na,c,50,60,1,1\n")
    return path


def test_route_and_what_becomes_of_it(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["schedule", "route", str(plan), "--from", "a", "--to", "c", "--size-mbit", "2"]
    assert run(ask) == 0
    told = capsys.readouterr().out
    assert told.startswith("cgr: a - b - c, predicted at 23 s, gone at 10 s\n")
    assert told.endswith("arrives at 23 s over the plan\n")
    late = tmp_path / "late.csv"
    late.write_text(HEADER + "a,b,0,10,1,1\nb,c,25,30,1,1\n")
    assert run([*ask, "--factual", str(late), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["predicted_arrival_s"], found["arrived_s"], found["stranded_at"]) == (23.0, 28.0, None)
    late.write_text(HEADER + "a,b,0,10,1,1\n")
    assert run([*ask, "--factual", str(late)]) == 0
    assert "stranded at b" in capsys.readouterr().out


def test_no_route_and_no_node(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["schedule", "route", str(plan), "--to", "a", "--from"]
    assert run([*ask, "c"]) == 0
    assert capsys.readouterr().out == "no route from c to a\n"
    assert run([*ask, "c", "--router", "snapshot_dijkstra", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"router": "snapshot_dijkstra", "route": None}
    assert run([*ask, "z"]) == 3
    assert "no node 'z'" in capsys.readouterr().err
