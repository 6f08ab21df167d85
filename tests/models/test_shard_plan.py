"""The plan's sizes are those of a real build, for every family; what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hil_config.errors import UsageError
from hil_config.wire.manifest import Precision
from models import shard_plan
from models.build import build_shards
from models.cli import models
from models.config_file import read_json
from models.families import describe
from models.shard_plan import GRAPH_BYTES, plan_boards
from tests.models.tiny_families import FAMILIES, save_model

OLMOE: dict[str, Any] = {
    "model_type": "olmoe", "vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 1024,
    "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
    "num_experts_per_tok": 8, "max_position_embeddings": 4096, "rope_theta": 10000.0, "eos_token_id": 50279,
}  # fmt: skip
"""The published sizes of OLMoE-1B-7B-0924."""


@pytest.mark.parametrize("precision", ["fp32", "int4"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_sizes_by_formula_are_those_of_a_build(family: str, precision: Precision, tmp_path: Path) -> None:
    save_model(family, tmp_path / "c")
    d = describe(tmp_path / "c" / "config.json", read_json(tmp_path / "c" / "config.json"))
    manifest = build_shards(tmp_path / "c", tmp_path / "out", (precision,), trunk_precision=precision)
    for shard in manifest.shards:
        if shard.kind == "expert":
            wanted = shard_plan.expert_bytes(d, shard.expert, precision)
        elif shard.kind == "trunk":
            wanted = shard_plan.trunk_bytes(d, shard.layer, precision)
        else:
            wanted = {"embed": shard_plan.embed_bytes, "head": shard_plan.head_bytes}[shard.kind](d, precision)
        depth = len(d.blocks(shard.layer)) if shard.kind == "trunk" else 1
        assert abs(shard.bytes - wanted) <= 6 * GRAPH_BYTES * depth, shard.name
    plan = plan_boards(d, [("a", 1 << 30), ("b", 1 << 30)], precision, precision, 1, 64)
    assert plan.disk_bytes == pytest.approx(
        sum(s.bytes for s in manifest.shards), abs=8 * GRAPH_BYTES * len(manifest.shards)
    )


def test_every_expert_is_placed_and_copies_lie_on_different_boards(tmp_path: Path) -> None:
    d = describe(tmp_path / "config.json", OLMOE)
    plan = plan_boards(d, [(f"pi-{n}", 8 << 30) for n in range(5)], "int8", "int8", 3, 1000, copies=2)
    held = [pair for board in plan.boards for pair in board.experts]
    assert len(held) == 2 * 16 * 64 and all(len(set(board.experts)) == len(board.experts) for board in plan.boards)
    assert sorted(layer for board in plan.boards for layer in board.layers) == list(range(16))
    assert plan.fits


def run(*arguments: str) -> Any:
    return CliRunner().invoke(models, ["plan", *arguments])


def test_the_plan_of_olmoe_for_eight_pi_5_and_four_orin_nano(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OLMOE))
    result = run(str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "64 experts of 1024, top 8, hidden 2048" in result.output
    data = json.loads(run(str(tmp_path / "config.json"), "--json").output)
    assert data["fits"] and len(data["boards"]) == 12
    # 6.4 billion expert weights of 4.5 bits each with their scales of 32 bits a block: 5 bits.
    assert data["expert_bytes"] == pytest.approx(16 * 64 * 3 * 2048 * 1024 * 5 / 8, rel=0.01)


def test_what_does_not_fit_is_said_with_the_boards(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OLMOE))
    result = run(str(tmp_path), "--boards", "raspberry-pi-5=1", "--gateways", "1", "--precision", "fp32")
    assert isinstance(result.exception, UsageError)
    assert "raspberry-pi-5-1 would lack memory" in result.exception.message and result.exception.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--boards", "toaster=3"],
        ["--boards", "raspberry-pi-5"],
        ["--gateways", "0"],
        ["--copies", "99"],
        ["--positions", "-1"],
    ],
)
def test_strange_requests_are_refused(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OLMOE))
    assert isinstance(run(str(tmp_path), *arguments).exception, UsageError)
