"""`hil models`: results on stdout, talk on stderr, expected errors passed on to the door."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from hil_config.errors import ArtefactError, DataFileError, EnvironmentFault, UsageError
from hil_config.wire.manifest import manifest_hash, read_manifest
from models.build import build_shards
from models.cli import models
from models.locate import reference_checkpoint
from models.oracle import Oracle


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


@pytest.mark.parametrize("command", [["evaluate"], ["calibrate"]])
def test_another_models_tokenizer_is_refused(command: list[str], tiny_shards: Path) -> None:
    before = (tiny_shards / "manifest.json").read_bytes()
    for further in ([], ["--checkpoint", str(reference_checkpoint())]):
        refused = invoke(*command, tiny_shards, *further)
        assert isinstance(refused.exception, DataFileError)
        assert "not the tokenizer of tiny" in refused.exception.message
        assert "--checkpoint" in refused.exception.hint
    assert (tiny_shards / "manifest.json").read_bytes() == before


def test_a_model_without_an_end_of_text_token_is_evaluated(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    words = {f"w{n}": n for n in range(100)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    manifest = build_shards(folder, tmp_path / "shards")
    assert (manifest.model.end_of_text, manifest.model.begin) == (-1, 0)
    (tmp_path / "set.json").write_text(json.dumps({"texts": {"x": ["w7"]}}))
    done = invoke("evaluate", tmp_path / "shards", "--checkpoint", folder, "--set", tmp_path / "set.json", "--json")
    assert done.exit_code == 0, done.exception
    wanted = -Oracle(tmp_path / "shards").nll([0, 7])
    assert math.log(json.loads(done.stdout)["perplexity"]["x"]) == pytest.approx(-wanted)


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_built_and_a_pair_is_made_by_name(name: str) -> None:
    for command in (("build",), ("keygen",)):
        assert isinstance(invoke(*command, "--out", name).exception, UsageError), command


@pytest.mark.parametrize("name", [".", "a-file/allocation.json"])
def test_an_allocation_that_cannot_be_written_is_told(name: str, reference_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    out = tmp_path / name
    refused = invoke("budget", reference_shards, "--bytes", "3MB", "--out", out)
    assert isinstance(refused.exception, EnvironmentFault) and str(out) in refused.exception.message


def test_a_measurement_that_cannot_be_written_is_told(reference_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference_shards, tmp_path / "shards"))
    (folder / "importance.json").unlink()
    (folder / "importance.json").mkdir()
    (tmp_path / "text.json").write_text('{"a": ["In the beginning was the word."]}')
    refused = invoke("calibrate", folder, "--text", tmp_path / "text.json", "--ablate", "3")
    assert isinstance(refused.exception, EnvironmentFault) and str(folder) in refused.exception.message


def test_joules_of_a_precision_that_was_not_measured_are_refused(reference_shards: Path) -> None:
    given = ["--joules", "1", "--call-joules", "int8=0.0004", "--call-joules", "in4=0.0003"]
    refused = invoke("budget", reference_shards, *given)
    assert isinstance(refused.exception, UsageError) and "in4: not measured" in refused.exception.message


def test_an_allocation_that_no_campaign_runs_says_so(reference_shards: Path) -> None:
    done = invoke("budget", reference_shards, "--bytes", "100kB", "--json")
    assert done.exit_code == 0 and "no expert is left in layer" in done.stderr
    json.loads(done.stdout)
    assert not invoke("budget", reference_shards, "--bytes", "3MB").stderr


def test_an_unknown_precision_is_a_usage_error(tmp_path: Path) -> None:
    assert invoke("build", "--out", tmp_path / "out", "--precision", "int3").exit_code == 2
