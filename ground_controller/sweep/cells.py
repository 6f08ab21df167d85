"""From a bench, a campaign and what is varied to cells: each one simulated run with a key that says what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ground_controller.policies.named import check_policies
from ground_controller.report.accounting import accounting_of_campaigns
from ground_controller.simulation.board_model import Calibration
from ground_controller.software import software
from hil_config.errors import ConfigError, UsageError
from hil_config.schema.bench import Bench
from hil_config.schema.load import campaign_of
from hil_config.schema.matrix import Matrix
from hil_config.schema.variants import variants_of
from hil_config.schema.yaml_text import Document, Key, Place

FORMAT = 1
CHUNK = 1 << 20


class SweepCell(msgspec.Struct, frozen=True):
    """One run, whole in itself so that any process can run it.

    `key`: SHA-256 of everything that decides the result: release and revision, configuration, seed, board models,
    stride and the bytes of every file that the campaign names, and of the boards' own profiles. `labels`: axis ->
    variant; `changes`: dotted key -> its value.
    `bench`, `campaign`, `calibration`: their JSON, the campaign with its seed.
    """

    key: str
    labels: dict[str, str]
    changes: dict[str, Any]
    seed: int
    bench: str
    campaign: str
    calibration: str
    stride: int
    release: str
    revision: str


def with_axes(
    document: Document, axes: Mapping[str, Mapping[str, Mapping[str, Any]]], seeds: Sequence[int]
) -> Document:
    """The campaign's document with further axes, and with `seeds` if there are any. What is added stands at the top of
    the file for error messages. ConfigError where the file has an axis of the same name."""
    data = dict(document.data)
    matrix = dict(data.get("matrix") or {})
    known = dict(matrix.get("axes") or {})
    places: dict[Key, Place] = dict(document.places)
    for axis, variants in axes.items():
        if axis in known:
            raise ConfigError(
                f"{document.path}: matrix.axes has {axis!r} already", "leave the option out, or the axis in the file"
            )
        known[axis] = {name: dict(changes) for name, changes in variants.items()}
        for name, changes in variants.items():
            for key in changes:
                places[("matrix", "axes", axis, name, key)] = places[()]
    matrix["axes"] = known
    if seeds:
        matrix["seeds"] = tuple(seeds)
        for number in range(len(seeds)):
            places[("matrix", "seeds", number)] = places[()]
    data["matrix"] = matrix
    return Document(document.path, data, places)


def policy_axis(names: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """`--policy NAME` ...: selection policies with their default options."""
    if len(set(names)) != len(names):
        raise UsageError(f"--policy: {', '.join(names)}: one is there twice", "give each policy once")
    found = {_plain(name): {"policies.selection": {"name": name, "options": {}}} for name in names}
    return {"policy": found} if found else {}


def value_axis(text: str) -> dict[str, dict[str, dict[str, Any]]]:
    """`--set KEY=VALUE,VALUE`: an axis of one dotted key of the campaign."""
    key, equals, values = text.partition("=")
    parts = [part.strip() for part in values.split(",")]
    if not equals or not key.strip() or not all(parts):
        raise UsageError(f"--set {text}: wanted KEY=VALUE,VALUE", "like --set twin.platform.battery_wh=40,60")
    found = [_scalar(part) for part in parts]
    told = [(isinstance(one, bool), one) for one in found]  # 40 and 4e1 are one value, 1 and true are not
    if any(one in told[:at] for at, one in enumerate(told)) or len({_plain(part) for part in parts}) < len(parts):
        raise UsageError(f"--set {text}: a value is there twice", "give each value once")
    return {_plain(key.strip()): {_plain(part): {key.strip(): one} for part, one in zip(parts, found, strict=True)}}


def value_axes(texts: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """All of `--set`, each an axis of its own key."""
    axes: dict[str, dict[str, dict[str, Any]]] = {}
    for text in texts:
        axis = value_axis(text)
        if axes.keys() & axis.keys():
            raise UsageError(f"--set {text}: its key is there twice", "give all values of a key in one --set")
        axes |= axis
    return axes


def _plain(text: str) -> str:
    """As a name: letters, digits, - and _."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in text)
    return name if name[:1].isalnum() else f"v{name}"


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def seeds_of(text: str) -> tuple[int, ...]:
    """`1-20`, `3`, or `1,2,5-7`."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError:
            raise UsageError(f"--seeds {text}: {part!r} is no number or range", "like --seeds 1-20") from None
        if not 0 <= high - low < 100_000:
            raise UsageError(f"--seeds {text}: {part!r} is no rising range", "like --seeds 1-20")
        found += range(low, high + 1)
    return tuple(found)


def cells_of(bench: Bench, document: Document, calibration: Calibration, stride: int) -> list[SweepCell]:
    """Every variant under every seed, in the order of the file.

    Raises:
        ConfigError: a mistake in the campaign or one of its variants, where it was written; repeats or a stop rule,
            which a sweep does not have.
        InvalidRunError: variants count work differently, and their figures cannot stand in one table.
    """
    whole = campaign_of(document)
    matrix = whole.matrix or Matrix()
    if matrix.repeats > 1 or matrix.stop is not None:
        what = "repeats" if matrix.repeats > 1 else "stop"
        raise ConfigError(
            f"{document.at(('matrix', what))}: matrix.{what}: a sweep runs every variant under every seed, once",
            "leave it out, or use hil simulate, which runs one cell after the other",
        )
    variants = variants_of(document)
    accounting_of_campaigns((variant.name, variant.campaign) for variant in variants)
    boards = msgspec.json.encode(calibration).decode()
    here = software()
    revision = here.revision + ("+changes" if here.changed else "")
    cells = []
    for variant in variants:
        variant.campaign.check_against(bench, document.path)
        check_policies(variant.campaign, document.path, variant.name if variant.labels else "")
        changes = {
            key: value
            for axis, name in variant.labels.items()
            for key, value in document.value(("matrix", "axes", axis, name)).items()
        }
        for seed in matrix.seeds or (whole.seed,):
            campaign = variant.campaign.model_copy(update={"seed": seed, "matrix": None})
            cell = SweepCell(
                "", variant.labels, changes, seed, bench.model_dump_json(), campaign.model_dump_json(), boards, stride,
                here.version, revision,
            )  # fmt: skip
            files = _files([campaign.model_dump(mode="json"), [board.profile for board in bench.boards]])
            cells.append(msgspec.structs.replace(cell, key=_key(cell, files)))
    return cells


def _key(cell: SweepCell, files: dict[str, str]) -> str:
    told = [
        FORMAT,
        cell.release,
        cell.revision,
        cell.bench,
        cell.campaign,
        cell.calibration,
        cell.stride,
        files,
    ]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _files(value: Any) -> dict[str, str]:
    """SHA-256 of what every text that names a file or folder leads to."""
    if isinstance(value, dict):
        return {path: digest for part in value.values() for path, digest in _files(part).items()}
    if isinstance(value, list | tuple):
        return {path: digest for part in value for path, digest in _files(part).items()}
    if not isinstance(value, str) or "/" not in value:
        return {}
    path = Path(value)
    if path.is_file():
        return {value: _digest([path])}
    return {value: _digest(sorted(p for p in path.rglob("*") if p.is_file()))} if path.is_dir() else {}


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while part := file.read(CHUNK):
                digest.update(part)
    return digest.hexdigest()
