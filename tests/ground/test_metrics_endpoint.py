"""`hil metrics` between a real broker and a real Prometheus; dashboard and snippets name what is there."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
import pytest
import tomllib
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from ground_controller.fleet.summaries import Heard
from ground_controller.telemetry.exposition import METRICS, exposition
from hil_config.schema.load import default_path
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.provenance import fake, measured, modelled

FILES = Path(__file__).resolve().parents[2] / "docs/how-to/monitoring"
PROMETHEUS = shutil.which("prometheus")
PAUSE = Event()
WAIT_S = 30.0


class Node:
    """Says what a node says of itself, over MQTT."""

    def __init__(self, address: Any, bench: str, name: str, watts: m.Quantity) -> None:
        self._bench, self.name, self._watts = bench, name, watts
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.connect(address.host, address.port)
        self._client.loop_start()

    def _publish(self, row: topics.Topic, body: Any) -> None:
        told = self._client.publish(topics.address(self._bench, self.name, row), m.encode(body), row.qos, row.retained)
        told.wait_for_publish(10.0)

    def status(self, state: Any) -> None:
        self._publish(
            topics.STATUS,
            m.Status(node=self.name, boot_id="b1", state=state, agent_version="0.1.0", quantities=(self._watts,)),
        )

    def summary(self, **values: Any) -> None:
        self._publish(topics.SUMMARY, m.Summary(node=self.name, **values))

    def rubbish(self, row: topics.Topic) -> None:
        """What no node of this release says."""
        topic = topics.address(self._bench, self.name, row)
        self._client.publish(topic, b'{"node":"elsewhere","v":9}', 1).wait_for_publish(10.0)

    def close(self) -> None:
        for row in (topics.STATUS, topics.SUMMARY):  # leave nothing retained
            self._client.publish(topics.address(self._bench, self.name, row), b"", 1, True).wait_for_publish(10.0)
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def nodes(broker: Any) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(bench: str, name: str, watts: m.Quantity) -> Node:
        made.append(Node(broker, bench, name, watts))
        return made[-1]

    yield make
    for node in made:
        node.close()


@contextmanager
def serving(home: Path, bench: str, *options: str) -> Iterator[str]:
    """A `hil metrics` process; the address that it prints."""
    data = YAML().load(default_path("bench"))
    data["bench"] = bench
    YAML().dump(data, home / "bench.yaml")
    with (home / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "hil_config.door", "metrics", str(home / "bench.yaml"), "--port", "0", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), (home / "err").read_text()
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(10.0) == 0, (home / "err").read_text()
    finally:
        process.kill()
        process.wait(10.0)
        if process.stdout is not None:
            process.stdout.close()


def get(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10.0) as answer:
        text: str = answer.read().decode()
        return text


def values(text: str) -> dict[tuple[str, str], tuple[float, dict[str, str]]]:
    """(sample, node) -> value and labels, by Prometheus' own client library."""
    return {
        (sample.name, sample.labels.get("node", "")): (sample.value, sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        PAUSE.wait(0.1)
    raise AssertionError(f"nothing after {WAIT_S:.0f} s")


def test_the_endpoint_tells_what_nodes_say(broker: Any, nodes: Callable[..., Node], tmp_path: Path) -> None:
    bench = "metrics-a"
    alpha = nodes(bench, "alpha", m.Quantity("power_w", "W", 10.0, measured("INA3221")))
    bravo = nodes(bench, "bravo", m.Quantity("power_w", "W", 10.0, modelled("coefficients")))
    alpha.summary(power_w=1.0)  # retained before anybody listens: of unknown age
    with serving(tmp_path, bench, "--broker", f"{broker.host}:{broker.port}") as address:
        for node in (alpha, bravo):
            node.status("serving")

        def told() -> dict[tuple[str, str], tuple[float, dict[str, str]]] | None:
            alpha.summary(power_w=5.25, temperature_c=51.0, cpu_percent=80.0, memory_mb=100.0, tokens=7, spooled=2)
            bravo.summary(power_w=3.0, expert_calls=9)
            found = values(get(address))
            return found if found.get(("hil_node_up", "bravo"), (0.0, {}))[0] == 1.0 else None

        found = wait_for(told)
        assert found["hil_power_watts", "alpha"] == (
            5.25, {"bench": bench, "node": "alpha", "provenance": "measured"},
        )  # fmt: skip
        assert found["hil_power_watts", "bravo"][1]["provenance"] == "modelled"
        assert found["hil_cpu_ratio", "alpha"][0] == 0.8 and found["hil_memory_bytes", "alpha"][0] == 1e8
        assert found["hil_tokens_total", "alpha"][0] == 7.0 and found["hil_expert_calls_total", "bravo"][0] == 9.0
        assert ("hil_temperature_celsius", "bravo") not in found, "no value is no 0"
        assert found["hil_broker_up", ""][0] == 1.0
        assert found["hil_bad_messages_total", "bravo"][0] == 0.0
        for row in (topics.STATUS, topics.SUMMARY):
            bravo.rubbish(row)
        bad = wait_for(lambda: (v := values(get(address)))["hil_bad_messages_total", "bravo"][0] == 2.0 and v)
        assert bad["hil_bad_messages_total", "alpha"][0] == 0.0
        bravo.status("offline")
        gone = wait_for(lambda: (v := values(get(address)))["hil_node_up", "bravo"][0] == 0.0 and v)
        assert ("hil_power_watts", "bravo") not in gone, "a node that is gone has no power"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address.replace("/metrics", "/"))
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(address, Host="elsewhere.example")


def test_stale_and_unread_values_are_left_out() -> None:
    watts = m.Quantity("power_w", "W", 10.0, fake("a battery"))
    status = m.Status(node="a", boot_id='b"\\\n', state="serving", quantities=(watts,))
    summary = m.Summary(node="a", power_w=2.0)
    fresh = values(exposition("x", {"a": Heard(summary, 100.0, status)}, True, {"b": 3}, 105.0))
    assert fresh["hil_power_watts", "a"][1]["provenance"] == "fake"
    assert fresh["hil_node_info", "a"][1]["boot_id"] == 'b"\\\n', "labels are escaped"
    told = {node: fresh["hil_bad_messages_total", node][0] for node in ("a", "b")}
    assert told == {"a": 0.0, "b": 3.0}, "also of a node of which nothing else was heard"
    for old in (
        exposition("x", {"a": Heard(summary, 100.0, status)}, True, {}, 110.5),
        exposition("x", {"a": Heard(summary, 100.0, status)}, False, {}, 101.0),
        exposition("x", {"a": Heard(summary, 100.0, None)}, True, {}, 101.0),
        exposition("x", {"a": Heard(summary, 0.0, status)}, True, {}, 5.0),
    ):
        found = values(old)
        assert found["hil_node_up", "a"][0] == 0.0
        assert ("hil_power_watts", "a") not in found


def test_other_addresses_need_a_token(broker: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-enough-letters\n")
    token.chmod(0o600)
    place = ("--broker", f"{broker.host}:{broker.port}")
    with serving(tmp_path, "metrics-b", *place, "--host", "0.0.0.0", "--token-file", str(token)) as address:
        near = address.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(near)
        assert "hil_broker_up" in get(near, Authorization="Bearer a-token-of-enough-letters")
    refused = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "metrics", str(tmp_path / "bench.yaml"), *place, "--host", "0.0.0.0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode != 0 and "no token is set" in refused.stderr
    unknown = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "metrics", str(tmp_path / "bench.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert unknown.returncode != 0 and "write a fixed broker.port" in unknown.stderr


def expressions() -> list[str]:
    dashboard = json.loads((FILES / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus on PATH: apt-get install prometheus")
def test_a_real_prometheus_scrapes_it_and_answers_the_dashboard(
    broker: Any, nodes: Callable[..., Node], tmp_path: Path
) -> None:
    """The shipped configuration, with another address and a shorter interval."""
    assert PROMETHEUS is not None
    bench = "metrics-c"
    alpha = nodes(bench, "alpha", m.Quantity("power_w", "W", 10.0, modelled("coefficients")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with serving(tmp_path, bench, "--broker", f"{broker.host}:{broker.port}") as address:
        config = YAML().load(FILES / "prometheus.yml")
        config["global"]["scrape_interval"] = "1s"
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [urllib.parse.urlsplit(address).netloc]
        YAML().dump(config, tmp_path / "prometheus.yml")
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [PROMETHEUS, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        count = iter(range(10, 10_000, 10))

        def ask(expression: str) -> list[dict[str, Any]]:
            alpha.status("serving")
            alpha.summary(power_w=4.5, temperature_c=40.0, cpu_percent=10.0, tokens=next(count), spooled=1)
            query = urllib.parse.urlencode({"query": expression})
            try:
                answer = json.loads(get(f"http://127.0.0.1:{port}/api/v1/query?{query}"))
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
                return []
            result: list[dict[str, Any]] = answer["data"]["result"]
            return result

        try:
            (power,) = wait_for(lambda: ask(f'hil_power_watts{{bench="{bench}"}}'))
            assert power["value"][1] == "4.5"
            assert power["metric"]["node"] == "alpha" and power["metric"]["provenance"] == "modelled"
            for expression in expressions():
                assert wait_for(lambda e=expression: ask(e.replace("$bench", bench))), expression  # type: ignore[misc]
        finally:
            process.terminate()
            process.wait(20.0)


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    """Against Grafana's documented JSON model: panels have a type, a place and targets; Grafana itself was not run."""
    dashboard = json.loads((FILES / "grafana-dashboard.json").read_text())
    known = {one.name for one in METRICS} | {"hil_node_up", "hil_broker_up"}
    assert dashboard["schemaVersion"] >= 36 and dashboard["uid"] and dashboard["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, "panels do not lie over each other"
        taken |= cells
        for target in panel["targets"]:
            assert {name.partition("{")[0] for name in _names(target["expr"])} <= known
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    assert {"datasource", "bench"} == variables


def _names(expression: str) -> list[str]:
    return [word for word in expression.replace("(", " ").replace("{", " {").split() if word.startswith("hil_")]


def test_the_telegraf_snippet_parses_our_topics() -> None:
    """Against the documented options of inputs.mqtt_consumer; Telegraf itself was not run."""
    (consumer,) = tomllib.loads((FILES / "telegraf.conf").read_text())["inputs"]["mqtt_consumer"]
    documented = {"servers", "topics", "qos", "client_id", "topic_tag", "data_format", "topic_parsing"}
    assert set(consumer) <= documented and consumer["data_format"] == "json"
    ours = topics.address("lab", "+", topics.SUMMARY).replace("lab", "+")
    assert consumer["topics"] == [ours]
    (rule,) = consumer["topic_parsing"]
    assert rule["topic"] == ours
    for part in (rule["measurement"], rule["tags"]):
        assert len(part.split("/")) == len(ours.split("/"))
    assert rule["tags"].split("/")[2:4] == ["bench", "node"]
    flat = json.loads(m.encode(m.Summary(node="a", power_w=1.0)))
    assert all(isinstance(value, (int, float, str, type(None))) for value in flat.values()), (
        "flat, as data_format json wants"
    )
