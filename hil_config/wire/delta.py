"""A delta: low-rank changes of a model's experts and routers, small enough for an inter-satellite link.

    magic "SMHD" | header length u32 | header (JSON) | payload

Each factor pair (A [inputs, rank], B [rank, outputs]) is stored as int8 codes with one float16 scale a rank row of A
transposed and of B: `scales 2 x rank f16 | A codes rank x inputs | B codes rank x outputs`, in the order of `parts`.
W x becomes W x + alpha / rank * B^T A^T x (LoRA, arXiv 2106.09685). The header carries the SHA-256 of the payload, the
model it belongs to, and the sequence number that only rises; a minisign signature beside it covers the whole file.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import Manifest

DELTA_VERSION = 1
MAGIC = b"SMHD"
MAX_RANK = 64
MAX_PARTS = 1 << 16
MAX_SIZE = 1 << 15
MAX_DELTA_BYTES = 8 << 20
_LENGTH = struct.Struct("<4sI")
_HINT = "make it again: hil models delta pack"

F32 = NDArray[np.float32]
Site = Literal["gate_up", "y", "router"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One factor pair. `expert` is -1 for a router's."""

    layer: int
    expert: int
    site: Site
    inputs: int
    outputs: int


class DeltaHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`base_sha256` is the manifest's `source_sha256`. `tokens`: trained on; nats: held-out, before and after."""

    version: int
    name: str
    seq: int
    base_sha256: str
    rank: int
    alpha: float
    parts: tuple[Part, ...]
    payload_sha256: str = ""
    tokens: int = 0
    nats_before: float = 0.0
    nats_after: float = 0.0
    origin: str = ""


class Factors(NamedTuple):
    """A [inputs, rank] and B [rank, outputs], float32."""

    a: F32
    b: F32


Place = tuple[int, int, str]
"""(layer, expert, site)."""


class Delta(NamedTuple):
    """A decoded delta; `factors` have alpha / rank multiplied into B."""

    header: DeltaHeader
    factors: dict[Place, Factors]


def encode_delta(header: DeltaHeader, factors: dict[Place, Factors]) -> bytes:
    """The file. `header.parts` and `payload_sha256` are filled in here."""
    parts, payload = [], []
    for (layer, expert, site), (a, b) in sorted(factors.items()):
        parts.append(Part(layer, expert, site, a.shape[0], b.shape[1]))  # type: ignore[arg-type]
        codes_a, scales_a = _quantise(np.ascontiguousarray(a.T))
        codes_b, scales_b = _quantise(b)
        payload += [scales_a.tobytes(), scales_b.tobytes(), codes_a.tobytes(), codes_b.tobytes()]
    body = b"".join(payload)
    full = msgspec.structs.replace(header, parts=tuple(parts), payload_sha256=hashlib.sha256(body).hexdigest())
    head = msgspec.json.encode(full)
    return _LENGTH.pack(MAGIC, len(head)) + head + body


def decode_delta(data: bytes, where: str) -> Delta:
    """ArtefactError for anything that `encode_delta` would not have written."""
    if len(data) > MAX_DELTA_BYTES or len(data) < _LENGTH.size:
        raise ArtefactError(f"{where}: {len(data)} bytes, a delta has {_LENGTH.size} to {MAX_DELTA_BYTES}", _HINT)
    magic, length = _LENGTH.unpack_from(data)
    if magic != MAGIC:
        raise ArtefactError(f"{where}: not a delta: it starts {data[:4]!r}", _HINT)
    if _LENGTH.size + length > len(data):
        raise ArtefactError(f"{where}: {len(data)} bytes, its header alone has {length}: the file is cut", _HINT)
    head, body = data[_LENGTH.size : _LENGTH.size + length], memoryview(data)[_LENGTH.size + length :]
    try:
        header = msgspec.json.decode(head, type=DeltaHeader)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{where}: its header is not a delta's: {error}", _HINT) from error
    if header.version != DELTA_VERSION:
        raise ArtefactError(f"{where}: version {header.version}, wanted {DELTA_VERSION}", _HINT)
    if not (1 <= header.rank <= MAX_RANK and len(header.parts) <= MAX_PARTS and np.isfinite(header.alpha)):
        raise ArtefactError(f"{where}: rank {header.rank}, {len(header.parts)} parts, alpha {header.alpha}", _HINT)
    if hashlib.sha256(body).hexdigest() != header.payload_sha256:
        raise ArtefactError(f"{where}: its payload is not the one its header names", _HINT)
    return Delta(header, _unpack(header, body, where))


def _unpack(header: DeltaHeader, body: memoryview, where: str) -> dict[Place, Factors]:
    rank, at = header.rank, 0
    factors: dict[Place, Factors] = {}
    for part in header.parts:
        place = (part.layer, part.expert, part.site)
        good = 1 <= part.inputs <= MAX_SIZE and 1 <= part.outputs <= MAX_SIZE and part.layer >= 0
        if not good or place in factors or (part.expert < 0) != (part.site == "router"):
            raise ArtefactError(f"{where}: part {place}: {part.inputs} x {part.outputs}, or twice", _HINT)
        size = 4 * rank + rank * (part.inputs + part.outputs)
        if at + size > len(body):
            raise ArtefactError(f"{where}: its payload ends before part {place}", _HINT)
        scales = np.frombuffer(body, "<f2", 2 * rank, at).astype(np.float32)
        codes = np.frombuffer(body, np.int8, rank * (part.inputs + part.outputs), at + 4 * rank).astype(np.float32)
        if not np.isfinite(scales).all():
            raise ArtefactError(f"{where}: part {place}: a scale is not finite", _HINT)
        a = codes[: rank * part.inputs].reshape(rank, part.inputs) * scales[:rank, None]
        b = codes[rank * part.inputs :].reshape(rank, part.outputs) * scales[rank:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            b *= np.float32(header.alpha / rank)
        if not np.isfinite(b).all():
            raise ArtefactError(
                f"{where}: part {place}: alpha {header.alpha:g} makes a value that is not finite", _HINT
            )
        factors[place] = Factors(np.ascontiguousarray(a.T), b)
        at += size
    if at != len(body):
        raise ArtefactError(f"{where}: {len(body) - at} bytes after the last part", _HINT)
    return factors


def check_fit(delta: Delta, manifest: Manifest, where: str) -> None:
    """ArtefactError unless it is for this very model, and each part has the shape of its place.

    How wide a shared expert is its graph alone knows: whoever runs it looks at that.
    """
    if delta.header.base_sha256 != manifest.source_sha256:
        raise ArtefactError(
            f"{where}: made for base {delta.header.base_sha256[:12]}, this model is {manifest.source_sha256[:12]}",
            "pack it for the model that is deployed: hil models delta pack FACTORS --model FOLDER",
        )
    card = manifest.model
    for (layer, expert, site), (a, b) in delta.factors.items():
        width = 0 if expert >= card.experts - card.routing.always_on else card.expert_width  # 0: any
        sizes = {
            "gate_up": (card.hidden, 2 * width), "y": (width, card.hidden), "router": (card.hidden, card.experts),
        }[site]  # fmt: skip
        good = all(size in (0, n) for n, size in zip((a.shape[0], b.shape[1]), sizes, strict=True))
        if layer >= card.layers or expert >= card.experts or not good:
            raise ArtefactError(
                f"{where}: layer {layer} expert {expert} {site}: {a.shape[0]} x {b.shape[1]}, the model has "
                f"{sizes[0] or 'any'} x {sizes[1] or 'any'} in {card.layers} layers of {card.experts}",
                "pack it for the model that is deployed",
            )
        if site == "router" and card.routing.separate_weights:
            raise ArtefactError(
                f"{where}: the routers of {card.name} are not a softmax: a router delta cannot act there",
                "train the experts' factors only",
            )


def raised_scores(factors: Factors, rows: F32, scores: F32) -> F32:
    """Softmax scores [T, E] with the router's delta added to its logits; `rows` [T, H] enter the router."""
    # softmax(log s + d) is s exp(d), normalised: the logits themselves are not needed.
    shift = rows @ factors.a @ factors.b
    raised: F32 = scores * np.exp(shift - shift.max(axis=1, keepdims=True))
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def expert_feeds(delta: Delta) -> dict[tuple[int, int], dict[str, F32]]:
    """Extra inputs of the expert graphs by (layer, expert).

    Both sites of a graph share one free dimension, the rank: a site that the delta leaves alone gets zeros.
    """
    out: dict[tuple[int, int], dict[str, F32]] = {}
    for (layer, expert, site), (a, b) in delta.factors.items():
        if expert < 0:
            continue
        extra = out.setdefault((layer, expert), {})
        if site == "y":
            other, inputs, outputs = "gate_up", b.shape[1], 2 * a.shape[0]
        else:
            other, inputs, outputs = "y", b.shape[1] // 2, a.shape[0]
        extra.setdefault(f"delta_{other}_a", np.zeros((inputs, delta.header.rank), np.float32))
        extra.setdefault(f"delta_{other}_b", np.zeros((delta.header.rank, outputs), np.float32))
        extra.update({f"delta_{site}_a": a, f"delta_{site}_b": b})
    return out


def _quantise(rows: F32) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """int8 codes and float16 scales of rows [rank, n]; a row's largest value is 127 steps."""
    largest = np.abs(rows).max(axis=1)
    scales = (largest / 127).astype("<f2")
    short = scales.astype(np.float64) * 127 < largest
    scales = np.where(short, np.nextafter(scales, np.float16(np.inf)), scales).astype("<f2")
    step = scales.astype(np.float32)[:, None]
    codes = np.divide(rows, step, out=np.zeros_like(rows), where=step > 0)
    return np.clip(np.rint(codes), -127, 127).astype(np.int8), scales
