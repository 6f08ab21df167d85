"""The shard manifest: what a model is, and what each of its shard files must be before it is served.

A model folder holds `manifest.json` beside the shard files it names. Nothing is loaded that the manifest
does not name with the same size and SHA-256. What is inside a shard file: `models.serving.shard_file`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from hil_config.errors import ArtefactError
from hil_config.wire.mapped_file import map_file

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 3
BLOCK = 32
"""Inputs that share a scale unless the card says otherwise."""
"""Below 3, trunk steps took one request and weights lay inside the graph; nodes of now cannot run those shards."""
MAX_MANIFEST_BYTES = 64 << 20

_HINT = "build the shards again: hil models build"

Precision = Literal["fp32", "fp16", "int8", "int4"]
ShardKind = Literal["embed", "trunk", "head", "expert"]


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One graph input or output. A dimension is a number or the name of a free dimension."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[int | str, ...]


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file. `expert` is -1 except for expert shards; `layer` is -1 for embed and head."""

    name: str
    kind: ShardKind
    precision: Precision
    sha256: str
    bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layer: int = -1
    expert: int = -1


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model's own router rule: the k largest selection scores.

    Mixing weights are the scores themselves, divided by their sum over the model's own k picks if
    `normalise_top_k`; with `separate_weights` the trunk gives finished mixing weights beside the scores.
    The last `always_on` experts (shared experts) are used by every token and counted in `top_k`.
    """

    top_k: int
    normalise_top_k: bool
    separate_weights: bool = False
    always_on: int = 0


class ExpertFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """down(act(gate x) * up x). silu: g sigmoid(g); clamped: min(g, limit) sigmoid(alpha g) (u within limit + 1)."""

    activation: Literal["silu", "clamped"] = "silu"
    alpha: float = 1.0
    limit: float = 0.0


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dimensions of the model and what is known of its experts.

    `activation[layer][expert]` is the share of calibration tokens that picked the expert (rows sum to
    top_k); `importance[layer][expert]` is the mean of ||w y|| over calibration tokens.
    `layers` are those with experts; `trunk_depth` says how many decoder layers each trunk shard has (the
    others are dense; empty: one each). `value_dim` 0: as `head_dim`. All but experts is at `trunk_precision`.
    `block` is written only where it is not the usual one (see `scale_block`).
    """

    name: str
    layers: int
    experts: int
    hidden: int
    expert_width: int
    vocabulary: int
    kv_heads: int
    head_dim: int
    context: int
    end_of_text: int
    routing: Routing
    activation: tuple[tuple[float, ...], ...]
    importance: tuple[tuple[float, ...], ...]
    perplexity: dict[str, float] = {}
    family: str = "qwen3_moe"
    value_dim: int = 0
    trunk_depth: tuple[int, ...] = ()
    trunk_precision: Precision = "fp32"
    expert_function: ExpertFunction = ExpertFunction()
    block: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def begin(self) -> int:
        """The token before every text: end-of-text, or the first of the vocabulary where the model names none."""
        return max(self.end_of_text, 0)

    @property
    def scale_block(self) -> int:
        """How many inputs share a scale at int8 and int4."""
        return BLOCK if isinstance(self.block, msgspec.UnsetType) else self.block

    def cache_shape(self, layer: int) -> tuple[int, int, int]:
        """Heads, key size and value size of what a trunk shard caches for a position."""
        depth = self.trunk_depth[layer] if self.trunk_depth else 1
        return depth * self.kv_heads, self.head_dim, self.value_dim or self.head_dim


class SideFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside the shards that is not served: what was measured of the experts (`importance.json`)."""

    name: str
    kind: Literal["importance"]
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node needs to know before it opens a shard.

    `version` is that of this schema. `model_version` is the publisher's and only rises: a node that has served a
    version refuses those below it. `license` and `source` are the checkpoint's own statements; empty: unknown.
    """

    version: int
    model: ModelCard
    source_sha256: str
    opset: int
    minimum_onnxruntime: str
    shards: tuple[Shard, ...]
    model_version: int = 1
    license: str = ""
    source: str = ""
    tokenizer_sha256: str = ""
    files: tuple[SideFile, ...] = ()

    def find(self, kind: ShardKind, precision: Precision, layer: int = -1, expert: int = -1) -> Shard:
        """The one shard of that kind, precision, layer and expert, or ArtefactError."""
        for shard in self.shards:
            if (shard.kind, shard.precision, shard.layer, shard.expert) == (kind, precision, layer, expert):
                return shard
        raise ArtefactError(
            f"the manifest of {self.model.name!r} has no {precision} {kind} shard for layer {layer}, expert {expert}",
            "list what it has: hil models show FOLDER",
        )


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def manifest_hash(manifest: Manifest) -> str:
    """SHA-256 of the manifest's canonical encoding."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`; ArtefactError says what is wrong with it."""
    return decode_manifest(read_manifest_bytes(folder), folder / MANIFEST_NAME)


def read_manifest_bytes(folder: Path) -> bytes:
    """The manifest file as it is: what a signature is about."""
    path = folder / MANIFEST_NAME
    try:
        size = path.stat().st_size
        if size > MAX_MANIFEST_BYTES:
            raise ArtefactError(f"{path}: {size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}", _HINT)
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}", _HINT) from error


def decode_manifest(data: bytes, path: Path) -> Manifest:
    """The manifest in `data`; `path` is named in errors."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (ValueError, RecursionError) as error:  # msgspec's errors and a bare UnicodeDecodeError
        found = _schema_version(data)
        if found not in {None, MANIFEST_VERSION}:
            raise ArtefactError(f"{path}: manifest version {found}, wanted {MANIFEST_VERSION}", _HINT) from error
        raise ArtefactError(f"{path}: not a shard manifest: {error}", _HINT) from error
    if manifest.version != MANIFEST_VERSION:
        raise ArtefactError(f"{path}: manifest version {manifest.version}, wanted {MANIFEST_VERSION}", _HINT)
    return manifest


class _Version(msgspec.Struct):
    version: int


def _schema_version(data: bytes) -> int | None:
    """The schema version of a manifest that is otherwise not ours to read."""
    try:
        return msgspec.json.decode(data, type=_Version).version
    except (ValueError, RecursionError):
        return None


def read_shard(folder: Path, shard: Shard | SideFile) -> memoryview:
    """The file's bytes, memory-mapped, only if their size and SHA-256 are the manifest's."""
    path = folder / shard.name
    hint = "the file changed after it was built; build it again: hil models build"
    if path.name != shard.name or shard.name in {"", ".", ".."}:
        raise ArtefactError(f"{folder}: shard name {shard.name!r} is not a plain file name", hint)
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise ArtefactError(f"{path}: {size} bytes, the manifest says {shard.bytes}", hint)
        data = map_file(path)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise ArtefactError(f"{path}: {error}", hint) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != shard.sha256:
        raise ArtefactError(f"{path}: sha256 {digest}, the manifest says {shard.sha256}", hint)
    return data
