"""Checkpoint folder -> folder of shards and manifest.json.

Same checkpoint, same bytes. One shard's weights are in memory at a time. Work goes into `.<name>.part` beside the
destination and is renamed at the end, so what stands there is either complete or not there; an interrupted build
goes on where it stopped, and a destination that is already right is left alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import UNSET

from hil_config.durable_file import write_durably
from hil_config.errors import ArtefactError, DataFileError, EnvironmentFault, UsageError
from hil_config.wire.manifest import (
    BLOCK,
    MANIFEST_NAME,
    MANIFEST_VERSION,
    ExpertFunction,
    Manifest,
    ModelCard,
    Precision,
    Routing,
    Shard,
    ShardKind,
    encode_manifest,
    read_manifest,
    read_shard,
)
from models import export_onnx, graph
from models.build_folder import BuildFolder, sole_builder, source_sha256
from models.card import read_card, side_files
from models.checkpoint import TRAINING_NAME, Checkpoint, read_checkpoint
from models.importance import from_training
from models.quantize import BLOCKS
from models.serving.shard_file import SUFFIX

Progress = Callable[[int, int, str], None]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")


def build_shards(
    checkpoint: Path,
    out: Path,
    precisions: tuple[Precision, ...] = ("int8",),
    progress: Progress | None = None,
    trunk_precision: Precision = "fp32",
    block: int = BLOCK,
) -> Manifest:
    """Build `out` from `checkpoint`: experts at each of `precisions`, everything else at `trunk_precision`.

    Routers and norms stay fp32 always. `block` inputs share a scale at int8 and int4. `progress(done, total, what)` is
    called after each shard. Returns the manifest that now stands in `out`.
    """
    if not precisions or len(set(precisions)) != len(precisions) or not {*precisions, trunk_precision} <= {*PRECISIONS}:
        raise UsageError(f"precisions: got {list(precisions)}, wanted each of {', '.join(PRECISIONS)} at most once", "")
    if block not in BLOCKS:
        raise UsageError(f"block {block}: wanted one of {', '.join(map(str, BLOCKS))}", "32 is the most exact")
    if out.name in ("", ".."):
        raise UsageError(f"{out}: wanted a folder by its name", "such as --out shards")
    source = read_checkpoint(checkpoint)
    digest = source_sha256(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with sole_builder(out):
            existing = _standing(out, digest, precisions, trunk_precision, block)
            if existing is None:
                return _build(source, digest, out, precisions, trunk_precision, block, progress)
    except OSError as error:
        hint = "check the disk and its permissions, or choose another --out; what is done already is kept"
        raise EnvironmentFault(f"{out}: cannot be written: {error.strerror}", hint) from error
    if progress is not None:
        progress(len(existing.shards), len(existing.shards), "already built")
    return existing


def _build(
    source: Checkpoint, digest: str, out: Path, precisions: tuple[Precision, ...], trunk: Precision,
    block: int, progress: Progress | None,
) -> Manifest:  # fmt: skip
    """Write everything into the part folder of `out`, then put that in its place."""
    work = BuildFolder(out, f"{digest} {block}")
    try:
        card, own = model_card(source, trunk, block), read_card(source.folder)
        shards = tuple(_write_shards(source, work, precisions, trunk, block, progress))
    except DataFileError:
        work.discard()  # going on cannot help: the checkpoint itself is wrong
        raise
    work.keep_only({shard.name for shard in shards})
    manifest = Manifest(
        version=MANIFEST_VERSION,
        model=card,
        source_sha256=digest,
        opset=graph.OPSET,
        minimum_onnxruntime=graph.MINIMUM_ONNXRUNTIME,
        shards=shards,
        model_version=own.version,
        license=own.license,
        source=own.source,
        tokenizer_sha256=own.tokenizer_sha256,
        files=side_files(source.folder, work.path),
    )
    write_durably(work.path / MANIFEST_NAME, encode_manifest(manifest))
    _put_in_place(work.path, out)
    return manifest


def model_card(checkpoint: Checkpoint, trunk_precision: Precision = "fp32", block: int = BLOCK) -> ModelCard:
    """Dimensions and what training measured of the experts."""
    d, training = checkpoint.description, checkpoint.training()
    a, where = d.attention, str(checkpoint.folder / TRAINING_NAME)
    statistics = from_training(training, d, where)
    perplexity = training.get("perplexity", {})
    if not isinstance(perplexity, dict) or not all(
        type(value) in (int, float) and 0 < value < 1e300 for value in perplexity.values()
    ):
        raise DataFileError(f"{where}: perplexity: got {perplexity!r}, wanted numbers by domain", "measure it again")
    return ModelCard(
        name=checkpoint.name,
        layers=d.layers,
        experts=d.experts,
        hidden=d.hidden,
        expert_width=d.expert.width,
        vocabulary=d.vocabulary,
        kv_heads=a.kv_heads,
        head_dim=a.key_dim,
        context=d.context,
        end_of_text=d.end_of_text,
        routing=Routing(d.top_k, d.router.normalise and not d.separate_weights, d.separate_weights, d.always_on),
        activation=statistics.activation,
        importance=statistics.importance,
        perplexity={domain: float(value) for domain, value in perplexity.items()},
        family=d.family,
        value_dim=0 if a.value_dim == a.key_dim else a.value_dim,
        trunk_depth=tuple(len(d.blocks(layer)) for layer in range(d.layers)) if d.dense else (),
        trunk_precision=trunk_precision,
        expert_function=ExpertFunction(d.expert.activation, d.expert.alpha, d.expert.limit),
        block=UNSET if block == BLOCK else block,
    )


Plan = tuple[str, ShardKind, Precision, int, int]


def plan_shards(
    layers: int, experts: int, precisions: tuple[Precision, ...], trunk: Precision = "fp32"
) -> Iterator[Plan]:
    """(file name, kind, precision, layer, expert) of every shard, in manifest order."""
    yield f"embed{SUFFIX}", "embed", trunk, -1, -1
    for layer in range(layers):
        yield f"trunk_{layer:02d}{SUFFIX}", "trunk", trunk, layer, -1
    yield f"head{SUFFIX}", "head", trunk, -1, -1
    for precision in sorted(precisions):
        for layer in range(layers):
            for expert in range(experts):
                yield f"expert_{layer:02d}_{expert:02d}_{precision}{SUFFIX}", "expert", precision, layer, expert


def build_graph(
    source: Checkpoint, kind: ShardKind, precision: Precision, layer: int, expert: int, block: int = BLOCK
) -> export_onnx.Built:
    """The graph and weights of one shard."""
    if kind == "embed":
        return export_onnx.embed_graph(source, precision)
    if kind == "trunk":
        return export_onnx.trunk_graph(source, layer, precision, block)
    if kind == "head":
        return export_onnx.head_graph(source, precision, block)
    return export_onnx.expert_graph(source, layer, expert, precision, block)


def _write_shards(
    source: Checkpoint, work: BuildFolder, precisions: tuple[Precision, ...], trunk: Precision, block: int,
    progress: Progress | None,
) -> Iterator[Shard]:  # fmt: skip
    d = source.description
    planned = list(plan_shards(d.layers, d.experts, precisions, trunk))
    for done, (name, kind, precision, layer, expert) in enumerate(planned, start=1):
        shard = work.finished(name)
        if shard is None or shard.precision != precision:  # names of the trunk's shards do not tell
            built = build_graph(source, kind, precision, layer, expert, block)
            _check_finite(built, f"{source.folder}: {name}")
            sha256, size = work.write(name, built)
            shard = Shard(name, kind, precision, sha256, size, built.inputs, built.outputs, layer, expert)
            work.record(shard)
        yield shard
        if progress is not None:
            progress(done, len(planned), name)


def _check_finite(built: export_onnx.Built, where: str) -> None:
    """DataFileError for a weight that half floats cannot say: fp16, and the embedding at every precision but fp32."""
    for name, value in built.weights.items():
        if value.dtype == np.float16 and not np.isfinite(value).all():
            raise DataFileError(
                f"{where}: {name}: a weight beyond 65504, where half floats end",
                "build it at another --precision or --trunk-precision: fp32 holds every weight",
            )


def _standing(
    out: Path, digest: str, precisions: tuple[Precision, ...], trunk: Precision, block: int
) -> Manifest | None:
    """The manifest in `out` if it is exactly what would be built and every file still has its hash."""
    if not (out / MANIFEST_NAME).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out}: exists and holds no shards; it will not be replaced", "choose another --out")
        return None
    try:
        manifest = read_manifest(out)
        card = manifest.model
        if (manifest.source_sha256, card.trunk_precision, card.scale_block) != (digest, trunk, block):
            return None
        if {shard.precision for shard in manifest.shards if shard.kind == "expert"} != set(precisions):
            return None
        for shard in manifest.shards:
            read_shard(out, shard)
        for file in manifest.files:
            read_shard(out, file)
    except ArtefactError:
        return None
    return manifest


def _put_in_place(work: Path, out: Path) -> None:
    """Rename the finished folder to its name; an older build is moved aside first and deleted last."""
    old = work.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        work.rename(out)
    finally:
        if old.exists() and not out.exists():  # an interrupt here must not leave `out` missing
            old.rename(out)
    shutil.rmtree(old, ignore_errors=True)
