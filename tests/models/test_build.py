"""Building: same bytes every time, nothing done twice, nothing half-written, nothing foreign replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save

from hil_config.errors import ArtefactError, DataFileError, UsageError
from hil_config.wire.importance import read_importance
from hil_config.wire.manifest import MANIFEST_NAME, Manifest, Precision, read_manifest, read_shard
from models.build import build_shards
from models.locate import reference_checkpoint
from models.oracle import Oracle
from models.serving.shard_file import SUFFIX, unpack
from models.session import open_shard, trial_run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def with_weights(data: memoryview) -> onnx.ModelProto:
    """The graph of a shard with its weights put back into it."""
    contents = unpack(data)
    model = onnx.load_from_string(contents.graph)
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(onnx.numpy_helper.from_array(contents.weights[tensor.name], tensor.name))
    return model


def test_two_builds_are_equal_byte_for_byte(tiny_checkpoint: Path, tiny_shards: Path, tmp_path: Path) -> None:
    build_shards(tiny_checkpoint, tmp_path / "again", ("fp32", "int8"))
    assert contents(tmp_path / "again") == contents(tiny_shards)


def test_the_manifest_lists_every_file_once(tiny_shards: Path) -> None:
    manifest = read_manifest(tiny_shards)
    names = [shard.name for shard in manifest.shards]
    assert sorted([*names, MANIFEST_NAME]) == sorted(path.name for path in tiny_shards.iterdir())
    assert len(names) == 1 + 3 + 1 + 2 * 3 * 8
    assert manifest.find("expert", "int8", 2, 5).name == "expert_02_05_int8.safetensors"
    assert manifest.find("trunk", "fp32", 1).name == "trunk_01.safetensors"


def test_every_shard_runs_and_has_the_stated_tensors(tiny_shards: Path) -> None:
    for shard in read_manifest(tiny_shards).shards:
        trial_run(shard, read_shard(tiny_shards, shard))


def test_standard_graphs_pass_the_onnx_checker(tiny_shards: Path) -> None:
    for shard in read_manifest(tiny_shards).shards:
        if shard.precision == "fp32":
            onnx.checker.check_model(with_weights(read_shard(tiny_shards, shard)), full_check=True)


def test_a_finished_folder_is_left_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    first = build_shards(tiny_checkpoint, tmp_path / "out")
    before, steps = stamps(tmp_path / "out"), []
    second = build_shards(tiny_checkpoint, tmp_path / "out", progress=lambda *step: steps.append(step))
    assert second == first
    assert stamps(tmp_path / "out") == before
    assert steps == [(29, 29, "already built")]


def test_a_damaged_folder_is_built_again(tiny_checkpoint: Path, tiny_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_shards(tiny_checkpoint, out, ("int8", "fp32"))
    (out / "head.safetensors").write_bytes(b"short")
    (out / "embed.safetensors").unlink()
    build_shards(tiny_checkpoint, out, ("int8", "fp32"))
    assert contents(out) == contents(tiny_shards)
    assert list(tmp_path.iterdir()) == [out]


def test_a_damaged_measurement_is_built_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = build_shards(reference_checkpoint(), out)
    for damage in (lambda path: path.write_bytes(path.read_bytes() + b" "), Path.unlink):
        damage(out / "importance.json")
        assert build_shards(reference_checkpoint(), out) == whole
        assert read_importance(out, read_manifest(out)) is not None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e999", "true", '"8"'])
def test_a_perplexity_that_is_no_number_is_refused(value: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / "training.json").write_text(f'{{"perplexity": {{"a": {value}}}}}')
    with pytest.raises(DataFileError, match="perplexity: got"):
        build_shards(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("victim", "precisions", "trunk"),
    [
        ("model.embed_tokens.weight", ("int8",), "int8"),
        ("model.layers.0.mlp.experts.1.up_proj.weight", ("fp16",), "fp32"),
    ],
)
def test_a_weight_beyond_half_floats_is_refused_there_and_served_elsewhere(
    victim: str, precisions: tuple[Precision, ...], trunk: Precision, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")
    tensors[victim][3, 5] = 7e4
    (folder / "model.safetensors").write_bytes(save(tensors))
    with pytest.raises(DataFileError, match="a weight beyond 65504"):
        build_shards(folder, tmp_path / "out", precisions, trunk_precision=trunk)
    assert sorted(tmp_path.iterdir()) == [folder], "nothing is left"
    for shard in build_shards(folder, tmp_path / "out", ("int8",), trunk_precision="fp32").shards:
        trial_run(shard, read_shard(tmp_path / "out", shard))


def test_other_weights_replace_the_folder(
    make_checkpoint: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = build_shards(tiny_checkpoint, out)
    second = build_shards(make_checkpoint(tmp_path / "other", seed=2), out)
    assert second.source_sha256 != first.source_sha256
    assert read_manifest(out) == second


def test_another_block_is_another_build(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Also of one that was interrupted: shards of two blocks never stand in one folder."""

    def stop(done: int, total: int, what: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build_shards(tiny_checkpoint, out, ("int4",), stop, "int4")
    wide = build_shards(tiny_checkpoint, out, ("int4",), None, "int4", 64)
    scales = {len(unpack(read_shard(out, shard)).weights["y.base.scales"]) for shard in wide.shards[-3:]}
    card = wide.model
    assert (card.scale_block, scales) == (64, {card.hidden * -(-card.expert_width // 64)})
    assert read_manifest(out) == wide == build_shards(tiny_checkpoint, out, ("int4",), None, "int4", 64)
    usual = build_shards(tiny_checkpoint, out, ("int4",), None, "int4")
    assert usual.model.scale_block == 32
    assert b'"block"' not in (out / MANIFEST_NAME).read_bytes(), "as manifests always were"
    with pytest.raises(UsageError, match="block 48: wanted one of 32, 64, 128"):
        build_shards(tiny_checkpoint, out, ("int4",), block=48)


def test_another_trunk_precision_takes_over_no_trunk_of_an_interrupted_build(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(tiny_checkpoint, tmp_path / "out", ("int8",), stop, "fp32")
    expert = next((tmp_path / ".out.part").glob("expert_*")).name
    stamp = stamps(tmp_path / ".out.part")[expert]
    build_shards(tiny_checkpoint, tmp_path / "out", ("int8",), trunk_precision="int4")
    build_shards(tiny_checkpoint, tmp_path / "whole", ("int8",), trunk_precision="int4")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert stamps(tmp_path / "out")[expert] == stamp, "what both have is kept"


def test_progress_counts_every_shard(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    manifest = build_shards(tiny_checkpoint, tmp_path / "out", progress=lambda *step: steps.append(step))
    assert steps == [(done, 29, shard.name) for done, shard in enumerate(manifest.shards, start=1)]


def test_an_interrupted_build_goes_on_where_it_stopped(
    tiny_checkpoint: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(tiny_checkpoint, tmp_path / "out", ("fp32", "int8"), progress=stop)
    part = tmp_path / ".out.part"
    assert list(tmp_path.iterdir()) == [part]
    done = {name: stamp for name, stamp in stamps(part).items() if name.endswith(SUFFIX)}
    assert len(done) == 10
    (part / "expert_09_09_int8.safetensors.tmp").write_bytes(b"half")
    build_shards(tiny_checkpoint, tmp_path / "out", ("fp32", "int8"))
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert contents(tmp_path / "out") == contents(tiny_shards)
    assert {name: stamp for name, stamp in stamps(tmp_path / "out").items() if name in done} == done


def test_what_another_checkpoint_left_is_not_taken_over(
    make_checkpoint: Callable[..., Path], tiny_checkpoint: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(make_checkpoint(tmp_path / "other", seed=2), tmp_path / "out", progress=stop)
    build_shards(tiny_checkpoint, tmp_path / "out", ("fp32", "int8"))
    assert contents(tmp_path / "out") == contents(tiny_shards)


def test_an_interrupted_rebuild_leaves_the_old_build(
    make_checkpoint: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", make_checkpoint(tmp_path / "other", seed=2)
    build_shards(tiny_checkpoint, out)
    before = contents(out)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(other, out, progress=stop)
    assert contents(out) == before
    assert sorted(tmp_path.iterdir()) == sorted([out, other, tmp_path / ".out.part"])


def test_a_folder_of_something_else_is_not_replaced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="will not be replaced"):
        build_shards(tiny_checkpoint, tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("precisions", [(), ("int8", "int8")])
def test_strange_precision_lists_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, precisions: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        build_shards(tiny_checkpoint, tmp_path / "out", precisions)  # type: ignore[arg-type]


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> tuple[Path, Manifest]:
    return tmp_path / "out", build_shards(tiny_checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["embed.safetensors", "trunk_02.safetensors", "head.safetensors", "expert_01_03_int8.safetensors"]
)
def test_one_flipped_bit_is_refused_before_it_is_run(copied: tuple[Path, Manifest], name: str) -> None:
    folder, _ = copied
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtefactError, match="sha256") as caught:
        Oracle(folder, "int8")
    assert caught.value.exit_code == 5
    assert name in str(caught.value)


def test_a_missing_shard_is_refused(copied: tuple[Path, Manifest]) -> None:
    folder, _ = copied
    os.remove(folder / "trunk_00.safetensors")
    with pytest.raises(ArtefactError, match="trunk_00"):
        Oracle(folder, "int8")


def test_a_precision_that_was_not_built_is_refused(copied: tuple[Path, Manifest]) -> None:
    with pytest.raises(ArtefactError, match="no fp32 expert shard"):
        Oracle(copied[0], "fp32")


def test_a_graph_that_is_not_what_the_manifest_says_is_refused(copied: tuple[Path, Manifest]) -> None:
    folder, manifest = copied
    head, expert = manifest.find("head", "fp32"), manifest.find("expert", "int8", 0, 0)
    with pytest.raises(ArtefactError, match="inputs"):
        open_shard(head, read_shard(folder, expert))


def test_bytes_that_are_no_graph_are_refused(copied: tuple[Path, Manifest]) -> None:
    head = copied[1].find("head", "fp32")
    with pytest.raises(ArtefactError, match="not a shard"):
        open_shard(head, b"not a graph")
    with pytest.raises(ArtefactError, match="no tensor 'graph'"):
        open_shard(head, save({"weights": np.zeros(3)}))
    with pytest.raises(ArtefactError, match="refuses"):
        open_shard(head, save({"graph": np.zeros(30, np.uint8)}))
