"""Checkpoint folder -> folder of shards and manifest.json.

Same checkpoint, same bytes. The folder is built beside its destination and renamed at the end, so what stands
there is either complete or not there; a destination that is already right is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hil_config.errors import ArtefactError, DataFileError, EnvironmentFault, UsageError
from hil_config.wire.manifest import (
    MANIFEST_NAME,
    MANIFEST_VERSION,
    Manifest,
    ModelCard,
    Precision,
    Routing,
    Shard,
    ShardKind,
    Tensor,
    encode_manifest,
    read_manifest,
    read_shard,
)
from models import export_onnx
from models.card import CARD_NAME, IMPORTANCE_NAME, TOKENIZER_NAME, read_card, side_files
from models.checkpoint import TRAINING_NAME, Checkpoint, read_checkpoint
from models.importance import from_training

Progress = Callable[[int, int, str], None]

BUILD_REVISION = 2
"""Raised when the same checkpoint gives other bytes, so that folders of the older layout are built again."""


def source_sha256(checkpoint: Checkpoint) -> str:
    """SHA-256 of the build revision and of all checkpoint files: equal means the folder would be equal."""
    beside = [checkpoint.folder / name for name in (CARD_NAME, IMPORTANCE_NAME, TOKENIZER_NAME)]
    texts = [hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "-" for path in beside]
    return hashlib.sha256(f"{BUILD_REVISION} {checkpoint.sha256()} {' '.join(texts)}".encode()).hexdigest()


def build_shards(
    checkpoint: Path,
    out: Path,
    precisions: tuple[Precision, ...] = ("int8",),
    progress: Progress | None = None,
) -> Manifest:
    """Build `out` from `checkpoint`; experts at each of `precisions`, everything else at fp32.

    `progress(done, total, what)` is called after each shard. Returns the manifest that now stands in `out`.
    """
    if not precisions or len(set(precisions)) != len(precisions):
        raise UsageError(f"precisions: got {list(precisions)}, wanted each of int8, fp32 at most once", "")
    source = read_checkpoint(checkpoint)
    digest = source_sha256(source)
    try:
        existing = _standing(out, digest, precisions)
        if existing is None:
            return _build(source, digest, out, precisions, progress)
    except OSError as error:
        hint = "check the disk and its permissions, or choose another --out"
        raise EnvironmentFault(f"{out}: cannot be written: {error.strerror}", hint) from error
    if progress is not None:
        progress(len(existing.shards), len(existing.shards), "already built")
    return existing


def _build(
    source: Checkpoint, digest: str, out: Path, precisions: tuple[Precision, ...], progress: Progress | None
) -> Manifest:
    """Write everything into a sibling folder of `out`, then put that in its place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        card = read_card(source.folder)
        manifest = Manifest(
            version=MANIFEST_VERSION,
            model=model_card(source),
            source_sha256=digest,
            opset=export_onnx.OPSET,
            minimum_onnxruntime=export_onnx.MINIMUM_ONNXRUNTIME,
            shards=tuple(_write_shards(source, work, precisions, progress)),
            model_version=card.version,
            license=card.license,
            source=card.source,
            tokenizer_sha256=card.tokenizer_sha256,
            files=side_files(source.folder, work),
        )
        _write(work / MANIFEST_NAME, encode_manifest(manifest))
        _put_in_place(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def model_card(checkpoint: Checkpoint) -> ModelCard:
    """Dimensions and what training measured of the experts."""
    a, training = checkpoint.architecture, checkpoint.training()
    where = str(checkpoint.folder / TRAINING_NAME)
    statistics = from_training(training, a, where)
    perplexity = training.get("perplexity", {})
    if not isinstance(perplexity, dict) or not all(isinstance(value, (int, float)) for value in perplexity.values()):
        raise DataFileError(f"{where}: perplexity: got {perplexity!r}, wanted numbers by domain", "measure it again")
    return ModelCard(
        name=checkpoint.name,
        layers=a.layers,
        experts=a.experts,
        hidden=a.hidden,
        expert_width=a.expert_width,
        vocabulary=a.vocabulary,
        kv_heads=a.kv_heads,
        head_dim=a.head_dim,
        context=a.context,
        end_of_text=a.end_of_text,
        routing=Routing(a.top_k, a.normalise_top_k),
        activation=statistics.activation,
        importance=statistics.importance,
        perplexity={domain: float(value) for domain, value in perplexity.items()},
    )


Plan = tuple[str, ShardKind, Precision, int, int]


def plan_shards(layers: int, experts: int, precisions: tuple[Precision, ...]) -> Iterator[Plan]:
    """(file name, kind, precision, layer, expert) of every shard, in manifest order."""
    yield "embed.onnx", "embed", "fp32", -1, -1
    for layer in range(layers):
        yield f"trunk_{layer:02d}.onnx", "trunk", "fp32", layer, -1
    yield "head.onnx", "head", "fp32", -1, -1
    for precision in sorted(precisions):
        for layer in range(layers):
            for expert in range(experts):
                yield f"expert_{layer:02d}_{expert:02d}_{precision}.onnx", "expert", precision, layer, expert


def _graph(
    source: Checkpoint, kind: ShardKind, precision: Precision, layer: int, expert: int
) -> tuple[bytes, tuple[Tensor, ...], tuple[Tensor, ...]]:
    a = source.architecture
    if kind == "embed":
        return export_onnx.embed_graph(source), *export_onnx.embed_contract(a)
    if kind == "trunk":
        return export_onnx.trunk_graph(source, layer), *export_onnx.trunk_contract(a)
    if kind == "head":
        return export_onnx.head_graph(source), *export_onnx.head_contract(a)
    return export_onnx.expert_graph(source, layer, expert, precision), *export_onnx.expert_contract(a)


def _write_shards(
    source: Checkpoint, work: Path, precisions: tuple[Precision, ...], progress: Progress | None
) -> list[Shard]:
    a = source.architecture
    planned = list(plan_shards(a.layers, a.experts, precisions))
    shards = []
    for done, (name, kind, precision, layer, expert) in enumerate(planned, start=1):
        data, inputs, outputs = _graph(source, kind, precision, layer, expert)
        _write(work / name, data)
        digest = hashlib.sha256(data).hexdigest()
        shards.append(Shard(name, kind, precision, digest, len(data), inputs, outputs, layer, expert))
        if progress is not None:
            progress(done, len(planned), name)
    return shards


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _standing(out: Path, digest: str, precisions: tuple[Precision, ...]) -> Manifest | None:
    """The manifest in `out` if it is exactly what would be built and every file still has its hash."""
    if not (out / MANIFEST_NAME).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out}: exists and holds no shards; it will not be replaced", "choose another --out")
        return None
    try:
        manifest = read_manifest(out)
        if manifest.source_sha256 != digest:
            return None
        if {shard.precision for shard in manifest.shards if shard.kind == "expert"} != set(precisions):
            return None
        for shard in manifest.shards:
            read_shard(out, shard)
    except ArtefactError:
        return None
    return manifest


def _put_in_place(work: Path, out: Path) -> None:
    """Rename the finished folder to its name; an older build is moved aside first and deleted last."""
    work.chmod(0o755)  # mkdtemp makes it private
    old = work.with_suffix(".old")
    if out.exists():
        out.rename(old)
    try:
        work.rename(out)
    except BaseException:  # an interrupt here must not leave `out` missing
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
