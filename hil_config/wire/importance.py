"""What was measured of a model's experts: `importance.json` beside the shards, named by the manifest.

Tables are [layers][experts] unless said otherwise; nats are per token, means over the calibration text. Each table
says how it came about: *measured* is a difference of two runs over the text, *estimated* follows from a measured
error and the layer's measured sensitivity (see `docs/explanations/importance.md`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hil_config.errors import ArtefactError
from hil_config.wire.manifest import Manifest, read_shard

IMPORTANCE_VERSION = 1

Table = tuple[tuple[float, ...], ...]


class PrecisionCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One precision of the expert shards.

    `bytes`: of one shard (mean). `nats`: estimated rise when that expert alone is served so. `whole_nats`: measured
    rise when all experts are, by domain.
    """

    precision: str
    bytes: int
    nats: Table
    whole_nats: dict[str, float]


class Importance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything calibration found.

    `activation`: share of tokens that picked the expert; `gate_mass`: mean mixing weight; `contribution`: mean of
    ||w y|| (Spearman 0.7 to 0.9 with ablation on small models, far above the two others); each also by domain,
    [domains][layers][experts]. `ablation`: measured rise when the expert is left out; -1 where it was not measured.
    `drop_nats`: that, or an estimate. `sensitivity` [layers]: measured rise per unit of squared error added to the
    layer's expert sum. `similarity` [layers][experts][experts]: mean cosine of two experts' outputs on the rows of
    either. `substitute`: the expert whose output is nearest on the rows of e, and `substitute_error`: its squared
    distance relative to ||y||^2 (1 is as bad as leaving it out). `mutual_information` [layers]: bits between the
    text's domain and the expert picked.
    """

    version: int
    model: str
    text_sha256: str
    tokens: dict[str, int]
    reference: str
    nats: dict[str, float]
    domains: tuple[str, ...]
    activation: Table
    activation_by_domain: tuple[Table, ...]
    gate_mass: Table
    gate_mass_by_domain: tuple[Table, ...]
    contribution: Table
    contribution_by_domain: tuple[Table, ...]
    ablation: Table
    drop_nats: Table
    sensitivity: tuple[float, ...]
    similarity: tuple[Table, ...]
    substitute: tuple[tuple[int, ...], ...]
    substitute_error: Table
    mutual_information: tuple[float, ...]
    precisions: tuple[PrecisionCost, ...]


def encode_importance(importance: Importance) -> bytes:
    return msgspec.json.encode(importance) + b"\n"


def decode_importance(data: bytes, where: str) -> Importance:
    """ArtefactError unless `data` is an importance file whose tables have one shape."""
    hint = "measure it again: hil models calibrate FOLDER"
    try:
        found = msgspec.json.decode(data, type=Importance)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{where}: not an importance file: {error}", hint) from error
    if found.version != IMPORTANCE_VERSION:
        raise ArtefactError(f"{where}: version {found.version}, wanted {IMPORTANCE_VERSION}", hint)
    layers, experts, domains = len(found.activation), len(found.activation[0]) if found.activation else 0, found.domains
    by_domain = (found.activation_by_domain, found.gate_mass_by_domain, found.contribution_by_domain)
    tables = [found.gate_mass, found.contribution, found.ablation, found.drop_nats, found.substitute_error]
    tables += [
        found.activation,
        *(table for group in by_domain for table in group),
        *(c.nats for c in found.precisions),
    ]
    square = [len(table) == experts and all(len(row) == experts for row in table) for table in found.similarity]
    ok = layers > 0 and all(len(t) == layers and all(len(row) == experts for row in t) for t in tables)
    ok = ok and all(len(group) == len(domains) for group in by_domain)
    ok = ok and len(found.substitute) == layers and all(len(row) == experts for row in found.substitute)
    ok = ok and all(-1 <= e < experts for row in found.substitute for e in row)
    ok = ok and len(found.sensitivity) == len(found.mutual_information) == len(square) == layers and all(square)
    if not ok:
        raise ArtefactError(f"{where}: its tables do not have one shape", hint)
    return found


def read_importance(folder: Path, manifest: Manifest) -> Importance | None:
    """The importance file that the manifest names, checked by its hash; None where it names none."""
    for file in manifest.files:
        if file.kind == "importance":
            found = decode_importance(bytes(read_shard(folder, file)), str(folder / file.name))
            shape = (len(found.activation), len(found.activation[0]))
            if shape != (manifest.model.layers, manifest.model.experts):
                raise ArtefactError(
                    f"{folder / file.name}: {shape[0]} layers of {shape[1]} experts, the model has "
                    f"{manifest.model.layers} of {manifest.model.experts}",
                    "measure it again: hil models calibrate FOLDER",
                )
            return found
    return None
