"""Every export format is read back by the library or program that it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import jsonschema
import pyarrow.feather
import pyarrow.parquet
import pytest
from mcap.reader import make_reader

from ground_controller import load_run
from ground_controller.preparation import prepare
from ground_controller.simulation.run import simulate
from ground_controller.telemetry.export import FORMATS, export_run
from ground_controller.telemetry.influx import lines
from ground_controller.telemetry.tables import Column, Table
from hil_config.errors import UsageError
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.provenance import fake

EPOCH_S = 1_729_498_800
"""2024-10-21T08:20:00Z, the demonstration's epoch."""
INFLUXD = shutil.which("influxd")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": 60.0})
    folder = tmp_path_factory.mktemp("export") / "run"
    simulate(prepare(load_bench(default_path("bench")), campaign.model_copy(update={"orbit": orbit})), folder)
    export_run(folder, FORMATS)
    return folder


def test_parquet_and_arrow_carry_units_and_provenance(run: Path) -> None:
    known = load_run(run)
    for name in known.tables:
        parquet = pyarrow.parquet.read_table(run / f"export/{name}.parquet")
        arrow = pyarrow.feather.read_table(run / f"export/{name}.arrow")
        assert parquet.equals(arrow) and parquet.num_rows == known.arrow(name).num_rows
        for field in (*parquet.schema, *arrow.schema):
            facts = known.columns(name)[field.name]
            assert field.metadata[b"unit"].decode() == facts.unit
            assert field.metadata[b"provenance"].decode() == facts.provenance


def test_mcap_is_read_back_and_follows_its_schemas(run: Path) -> None:
    known = load_run(run)
    counts: dict[str, int] = {}
    with (run / "export/run.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        (metadata,) = reader.iter_metadata()
        assert metadata.metadata["run"] == "run"
        for schema, channel, message in reader.iter_messages():
            assert schema is not None and schema.encoding == "jsonschema" and channel.message_encoding == "json"
            table = schema.name.removeprefix("hil.")
            counts[table] = counts.get(table, 0) + 1
            wanted = json.loads(schema.data)
            row = json.loads(message.data)
            if counts[table] < 50:
                jsonschema.validate(row, {**wanted, "additionalProperties": False})
            assert set(row) == set(wanted["properties"])
            if row.get("node"):
                assert channel.topic == f"/{row['node']}/{table}"
            at_s = row.get("scenario_s", 0.0)
            assert message.log_time / 1e9 == pytest.approx(EPOCH_S + at_s, abs=1e-6)
            assert wanted["properties"]["node"]["provenance"] == "measured(journal)" if "node" in row else True
    assert counts == {name: known.arrow(name).num_rows for name in known.tables}


_TAG = r"(?:\\[,= ]|[^,= \\\n]|\\(?![,= ]))+"
_FIELD = rf'{_TAG}=(?:"(?:\\["\\]|[^"\\])*"|-?\d+i|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|true|false)'
LINE = re.compile(
    rf"(?P<measurement>{_TAG})(?P<tags>(?:,{_TAG}={_TAG})*) (?P<fields>{_FIELD}(?:,{_FIELD})*) (?P<at>-?\d+)"
)
"""The documented grammar: measurement[,tag=value]* field=value[,field=value]* timestamp."""


def test_every_line_is_of_the_documented_grammar(run: Path) -> None:
    known, points = load_run(run), set()
    counts: dict[str, int] = {}
    for line in (run / "export/run.lp").read_text(encoding="utf-8").splitlines():
        found = LINE.fullmatch(line)
        assert found is not None, line
        points.add((found["measurement"], found["tags"], found["at"]))
        counts[found["measurement"]] = counts.get(found["measurement"], 0) + 1
    assert len(points) == sum(counts.values()), "no point replaces another"
    for name in known.tables:
        assert counts[f"hil_{name}"] == known.arrow(name).num_rows
    assert counts["hil_columns"] == sum(len(known.columns(name)) for name in known.tables)


def awkward() -> Table:
    columns = tuple(
        Column(name, kind, "", fake("x"))
        for name, kind in (
            ("scenario_s", "float"), ("node", "text"), ("text", "text"), ("value", "float"), ("n", "int"),
            ("ok", "flag"),
        )
    )  # fmt: skip
    rows = [
        (1.0, "a b,c=d\\", 'say "x\\y"\nnext, line=2', float("nan"), 3, True),
        (1.0, "a b,c=d\\", "", 1e-9, None, False),
        (1.0 + 1e-9, "a b,c=d\\", "third", -1e300, 1 << 62, None),
        (2.0, "", "no tag", None, None, None),
        (3.0, "empty", None, float("inf"), None, None),
    ]
    return Table("samples", columns, lambda: iter(rows))


def test_awkward_values_are_escaped_and_nothing_collides() -> None:
    found = list(lines(awkward(), "r", 0))
    assert len(found) == 4, "a row without any value is no point"
    assert all(LINE.fullmatch(line) for line in found), found
    assert found[0] == r'hil_samples,node=a\ b\,c\=d,run=r text="say \"x\\y\" next, line=2",n=3i,ok=true 1000000000'
    assert [line.rpartition(" ")[2] for line in found] == ["1000000000", "1000000001", "1000000002", "2000000000"]


@contextmanager
def influxd(home: Path) -> Iterator[str]:
    """A real InfluxDB on loopback, with a database `hil`; its address."""
    assert INFLUXD is not None
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(server.getsockname()[1])
    environment = {
        **os.environ, "INFLUXDB_DATA_DIR": str(home / "data"), "INFLUXDB_META_DIR": str(home / "meta"),
        "INFLUXDB_DATA_WAL_DIR": str(home / "wal"), "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{ports[0]}",
        "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{ports[1]}", "INFLUXDB_REPORTING_DISABLED": "true",
    }  # fmt: skip
    address = f"http://127.0.0.1:{ports[0]}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([INFLUXD], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        pause = Event()
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (home / "log").read_text()
                pause.wait(0.1)
        ask(address, "CREATE DATABASE hil", post=True)
        yield address
    finally:
        process.terminate()
        process.wait(20.0)


def ask(address: str, query: str, post: bool = False) -> list[dict[str, Any]]:
    """Series of an answer."""
    data = urllib.parse.urlencode({"q": query, "db": "hil", "epoch": "ns"})
    place = f"{address}/query" if post else f"{address}/query?{data}"
    with urllib.request.urlopen(place, data.encode() if post else None, timeout=60) as answer:
        told = json.load(answer)["results"][0]
    assert "error" not in told, told
    series: list[dict[str, Any]] = told.get("series", [])
    return series


@pytest.mark.skipif(INFLUXD is None, reason="no influxd on PATH: apt-get install influxdb")
def test_a_real_influxdb_takes_every_line(run: Path, tmp_path: Path) -> None:
    text = (run / "export/run.lp").read_text(encoding="utf-8").splitlines()
    text += lines(awkward(), "awkward", EPOCH_S * 10**9)
    known = load_run(run)
    with influxd(tmp_path) as address:
        for start in range(0, len(text), 5000):  # as its documentation advises
            body = "\n".join(text[start : start + 5000]).encode()
            with urllib.request.urlopen(f"{address}/write?db=hil", body, timeout=60) as answer:
                assert answer.status == 204
        for name in known.tables:
            column = next(
                c for c in known.arrow(name).column_names if c not in {"scenario_s", "node", "peer", "event", "domain"}
            )
            (series,) = ask(address, f"SELECT count(\"{column}\") FROM hil_{name} WHERE run = 'run'")
            assert series["values"][0][1] == known.arrow(name).num_rows, name
        watts = ask(address, "SELECT mean(power_w) FROM hil_samples WHERE run = 'run' GROUP BY node")
        means = known.pandas("samples").groupby("node")["power_w"].mean()
        for one in watts:
            assert one["values"][0][1] == pytest.approx(means[one["tags"]["node"]])
        (text_back,) = ask(address, "SELECT text FROM hil_samples WHERE run = 'awkward' AND ok = true")
        assert text_back["values"][0][1] == 'say "x\\y" next, line=2'


def test_an_unknown_format_is_refused_and_nothing_half_written_stays(run: Path) -> None:
    with pytest.raises(UsageError, match="unknown export format xlsx"):
        export_run(run, ("xlsx",))
    assert not list((run / "export").glob("*.part"))
    (run / "export/run.mcap").unlink()
    assert [path.name for path in export_run(run, ("mcap",))] == ["run.mcap"]
