"""`hil models`: results on stdout, talk on stderr, expected errors passed on to the door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hil_config.errors import ArtefactError, DataFileError
from hil_config.wire.manifest import manifest_hash, read_manifest
from models.cli import models


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


def test_build_then_build_again_then_verify(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = invoke("build", tiny_checkpoint, "--out", out, "--precision", "int8", "--precision", "fp32", "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["written"] == 53
    assert report["manifest_sha256"] == manifest_hash(read_manifest(out))
    again = json.loads(
        invoke("build", tiny_checkpoint, "--out", out, "--precision", "fp32", "--precision", "int8", "--json").stdout
    )
    assert again == report | {"written": 0}
    assert json.loads(invoke("verify", out, "--json").stdout)["verified"] == 53


def test_the_shipped_checkpoint_is_the_default(tmp_path: Path) -> None:
    result = invoke("build", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "70 shards written" in result.stdout
    assert read_manifest(tmp_path / "out").model.experts == 16


def test_show_lists_kinds_and_sizes(tiny_shards: Path) -> None:
    text = invoke("show", tiny_shards)
    assert text.exit_code == 0
    for word in ("tiny", "embed", "trunk", "head", "expert", "int8", "fp32", "24"):
        assert word in text.stdout
    report = json.loads(invoke("show", tiny_shards, "--json").stdout)
    assert {(row["kind"], row["precision"], row["count"]) for row in report["shards"]} == {
        ("embed", "fp32", 1), ("trunk", "fp32", 3), ("head", "fp32", 1),
        ("expert", "fp32", 24), ("expert", "int8", 24),
    }  # fmt: skip


def test_verify_finds_a_changed_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invoke("build", tiny_checkpoint, "--out", out)
    data = bytearray((out / "trunk_01.safetensors").read_bytes())
    data[100] ^= 8
    (out / "trunk_01.safetensors").write_bytes(data)
    result = invoke("verify", out)
    assert isinstance(result.exception, ArtefactError)
    assert "trunk_01.safetensors" in str(result.exception)


@pytest.mark.parametrize(("command", "error"), [("show", ArtefactError), ("verify", ArtefactError)])
def test_a_folder_without_a_manifest_is_named(tmp_path: Path, command: str, error: type[Exception]) -> None:
    result = invoke(command, tmp_path)
    assert isinstance(result.exception, error)
    assert "manifest.json" in str(result.exception)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    result = invoke("build", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert isinstance(result.exception, DataFileError)
    assert "config.json" in str(result.exception)


def test_an_unknown_precision_is_a_usage_error(tmp_path: Path) -> None:
    assert invoke("build", "--out", tmp_path / "out", "--precision", "int3").exit_code == 2
