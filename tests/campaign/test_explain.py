"""Every token of a real run explains itself: its picks are those recorded, each pick left out has a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from ground_controller.client_events import TokenArrived
from ground_controller.decision import Decision
from ground_controller.explain import explain_token, token_number
from ground_controller.explain_node import explain_node
from ground_controller.journal import Journal
from hil_config.errors import UsageError
from hil_config.wire.messages import Record, TokenEvidence, decode

if TYPE_CHECKING:
    import subprocess

    from tests.campaign.conftest import Starter


@pytest.fixture(scope="module")
def folder(module_starter: Starter) -> Path:
    """A run whose prices bite: one satellite is over its soft limit, one nearly."""
    finished = module_starter.start(
        orbit__duration_s=100,
        twin__start=[{"temperature_c": t, "charge": 0.6} for t in (46, 59.2, 46, 58.5)],
    ).wait()
    assert finished.code == 0, finished.errors
    return finished.folder


def test_tokens_explain_themselves(folder: Path) -> None:
    journal = Journal.read(folder)
    arrived = [msgspec.json.decode(e.body, type=TokenArrived) for e in journal.entries("client_token")]
    recorded: dict[tuple[int, int, int, int], list[int]] = {}
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        for one in body.layers:
            picks = np.frombuffer(one.picks, "<i2").reshape(body.rows, -1)[-1]
            key = (body.request, body.attempt, body.start + body.rows, one.layer)
            recorded[key] = [int(e) for e in picks if e >= 0]
    journal.close()
    passed_over = 0
    for number in range(1, len(arrived) + 1, 7):
        why, came = explain_token(folder, number), arrived[number - 1]
        assert (why.request, why.position, why.token) == (came.request, came.position, came.token)
        assert [layer.layer for layer in why.layers] == [0, 1, 2, 3]
        assert why.plans[0].policy == "lyapunov"
        assert why.plans[0].reason
        for layer in why.layers:
            used = [pick.expert for pick in layer.picks]
            assert used == recorded[came.request, came.attempt, came.position, layer.layer]
            assert set(layer.top_k) <= set(used) | {over.expert for over in layer.passed_over}
            assert all(pick.host in dict(pick.replicas) for pick in layer.picks)
            assert all(over.why for over in layer.passed_over)
            passed_over += len(layer.passed_over)
    assert passed_over > 0


def test_by_place_and_by_number(folder: Path, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    why = explain_token(folder, 20)
    assert token_number(folder, why.request, why.position) == 20
    done = command("explain", str(folder), "--request", str(why.request), "--position", str(why.position), "--json")
    assert json.loads(done.stdout) == json.loads(msgspec.json.encode(why))
    table = command("explain", str(folder), "--token", "20").stdout
    assert f"token 20: {why.token}" in table
    assert "layer 3 at" in table
    for number, after in ((1, "its request began"), (20, "its request began" if why.first else "the one before")):
        assert f" ms after {after}" in command("explain", str(folder), "--token", str(number)).stdout


def test_no_such_token(folder: Path) -> None:
    with pytest.raises(UsageError, match="found token 100000, wanted 1 to"):
        explain_token(folder, 100_000)
    with pytest.raises(UsageError, match="request 1 has no token at position 0") as told:
        token_number(folder, 1, 0)
    first = int(told.value.hint.partition("positions ")[2].partition(" ")[0])
    assert token_number(folder, 1, first) >= 1
    with pytest.raises(UsageError, match="requests up to"):
        token_number(folder, 9999, 0)


def test_hops_say_what_was_scheduled_beside_what_was_achieved(folder: Path) -> None:
    """A shaped frame never comes before its time; every second layer's call crosses a link."""
    hops, overs = [], []
    for number in range(1, 60, 3):
        why = explain_token(folder, number)
        hops += [(hop, layer.link_us) for layer in why.layers for hop in layer.hops]
        overs += [(hop, hop.note) for hop in why.hand_overs]
        assert {hop.target for layer in why.layers for hop in layer.hops} <= {node.node for node in why.nodes}
    alone = [(hop, link_us) for hop, link_us in hops if "answered last" not in hop.note and link_us > 0.0]
    told = [(hop.scheduled_us, hop.achieved_us) for hop, _ in alone if hop.scheduled_us and hop.achieved_us]
    assert len(told) > 0.8 * len(alone) > 0, "few of them were answered by a hedge"
    assert all(scheduled > 1_000.0 for scheduled, _ in told)
    assert overs and all(hop.source != hop.target and "clocks uncertain by" in note for hop, note in overs)
    assert all(hop.achieved_us > hop.scheduled_us - 5_000.0 for hop, _ in overs if hop.scheduled_us and hop.achieved_us)


def test_a_node_says_why_it_was_out_of_service(
    folder: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    journal = Journal.read(folder)
    decisions = [msgspec.json.decode(e.body, type=Decision) for e in journal.entries("decision")]
    journal.close()
    hot = next((d, i) for d in decisions for i, up in enumerate(d.column("in_service").tolist()) if not up)
    decision, index = hot
    node = decision.plan.nodes[index]
    why = explain_node(folder, node, decision.scenario_s + 1.0)
    assert (why.tick, why.numbers) == (decision.tick, decision.nodes[index])
    assert why.changes[-1].state == "no new work"
    assert f"{why.numbers.temperature_c:.1f} C is over the soft limit of 59 C" in why.changes[-1].why
    assert why.changes[0].state == "in service" or why.changes[0].scenario_s == 0.0
    calm = explain_node(folder, "alpha", 0.0)
    assert [one.state for one in calm.changes] == ["in service"] and calm.power is None and calm.experts
    assert set(why.reasons) == set(decision.plan.reason.split("; "))
    text = command("explain", str(folder), "--node", node, "--at", str(decision.scenario_s)).stdout
    assert "no new work (twin: " in " ".join(text.split()) and "nothing was set in this run" in text


def test_what_of_a_node_cannot_be_asked(
    folder: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match="no node 'echo'"):
        explain_node(folder, "echo", 10.0)
    both = command("explain", str(folder), "--node", "alpha")
    assert both.returncode == 2 and "--node and --at belong together" in both.stderr
