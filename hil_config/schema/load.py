"""Read bench.yaml and campaign.yaml; whatever is wrong with them is a ConfigError with file:line:column."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.explain import validated
from hil_config.schema.hardware import PATH_FIELDS
from hil_config.schema.profiles import is_profile_path, load_profile, profile_names
from hil_config.schema.strict import Strict
from hil_config.schema.yaml_text import Document, Key, dotted, read_yaml
from hil_config.wire.manifest import BLOCK

DEFAULTS = Path(__file__).parent.parent / "defaults"

FILE_KEYS: tuple[tuple[str, str, str], ...] = (
    ("model", "checkpoint", "reference"),
    ("model", "allocation", "none"),
    ("orbit", "elements", "demo"),
    ("orbit", "schedule", ""),
    ("orbit", "plan", ""),
    ("orbit", "plan_factual", ""),
    ("workload", "prompts", "reference"),
    ("workload", "evaluation", "reference or none"),
    ("workload", "trace", "none"),
)
"""(section, key, words that stand for what ships with the package, or for nothing); any other value is a path."""


def default_path(name: Literal["bench", "campaign"]) -> Path:
    """The embedded file of the demonstration."""
    return DEFAULTS / f"{name}.yaml"


def load_bench(path: Path) -> Bench:
    """The bench in `path`, with profiles that exist and absolute paths.

    Raises:
        ConfigError: see `read_yaml` and `validated`; or an unknown profile.
    """
    return bench_of(read_yaml(path))


def load_campaign(path: Path) -> Campaign:
    """The campaign in `path`. Paths in it are relative to its folder and exist; what is returned has absolute ones.

    Raises:
        ConfigError: see `read_yaml` and `validated`; or a file that is not there.
    """
    return campaign_of(read_yaml(path))


def bench_of(document: Document) -> Bench:
    """The bench that a document holds; errors as `load_bench`."""
    bench = validated(document, Bench)
    names = profile_names()
    for index, board in enumerate(bench.boards):
        if is_profile_path(board.profile):
            _check_profile(document, index, board.profile)
        elif board.profile not in names:
            near = difflib.get_close_matches(board.profile, names, n=1)
            raise _wrong(
                document, ("boards", index, "profile"),
                f"found {board.profile!r}, wanted a board profile"
                + (f"; did you mean {near[0]}?" if near else ""),
                f"use one of {', '.join(names)}, or the path of a profile of your own, NAME.yaml",
            )  # fmt: skip
    return _anchored(bench, document.path.parent)


def _check_profile(document: Document, index: int, written: str) -> None:
    file = document.path.parent / os.path.expanduser(written)
    if not os.path.isfile(file):
        raise _wrong(
            document, ("boards", index, "profile"), f"found {written!r}, but there is no file {file}",
            f"write a path relative to {document.path.name}, or one of {', '.join(profile_names())}",
        )  # fmt: skip
    load_profile(os.path.abspath(file))


def _anchored(bench: Bench, folder: Path) -> Bench:
    """Paths in a bench file are relative to its folder."""

    def absolute(path: str) -> str:
        return os.path.abspath(folder / os.path.expanduser(path))

    boards = []
    for board in bench.boards:
        parts: dict[str, Strict | str] = {"profile": absolute(board.profile)} if is_profile_path(board.profile) else {}
        if board.characterisation is not None:
            parts["characterisation"] = absolute(board.characterisation)
        for section, key in PATH_FIELDS:
            part: Strict | None = parts.get(section) or getattr(board, section)  # type: ignore[assignment]
            if part is not None and getattr(part, key) is not None:
                parts[section] = part.model_copy(update={key: absolute(getattr(part, key))})
        boards.append(board.model_copy(update=parts))
    identity = None if bench.identity is None else absolute(bench.identity)
    return bench.model_copy(update={"boards": tuple(boards), "identity": identity})


def campaign_of(document: Document) -> Campaign:
    """The campaign that a document holds; errors as `load_campaign`."""
    campaign = validated(document, Campaign)
    for section, key, word in FILE_KEYS:
        part = getattr(campaign, section)
        written = getattr(part, key)
        if written is None or written in word.split(" or "):
            continue
        file = document.path.parent / os.path.expanduser(written)
        if not os.path.exists(file):  # unlike Path.exists it is False, and no error, for an impossible name
            raise _wrong(
                document, (section, key), f"found {written!r}, but there is no {file}",
                f"write a path relative to {document.path.name}, or " + (f"`{word}`" if word else "leave the key out"),
            )  # fmt: skip
        # Absolute: it is recorded, and read again from wherever somebody replays the run.
        campaign = campaign.model_copy(update={section: part.model_copy(update={key: os.path.abspath(file)})})
    return campaign


def config_hash(bench: Bench, campaign: Campaign) -> str:
    """SHA-256 (hex) of both as canonical JSON.

    Files count by their names alone: a run has its own hashes of what is in them, and a campaign stays the
    same campaign in another folder. How a board is flashed, switched, metered and reached does not count, nor what is
    required of the figures: the run is the same.
    """
    reached = {"disk", "console", "power", "meter", "ssh", "mac", "characterisation"}
    plain: dict[str, Any] = {
        "bench": bench.model_dump(
            mode="json", exclude={"identity": True, "ground_port": True, "boards": {"__all__": reached}}
        ),
        "campaign": campaign.model_dump(mode="json", exclude={"requirements", "matrix"}),
    }
    # As before there were these keys: runs of older releases keep their hash.
    if campaign.power is None:
        del plain["campaign"]["power"]
    if campaign.model.block == BLOCK:
        del plain["campaign"]["model"]["block"]
    for section, key, _ in FILE_KEYS:
        if plain["campaign"][section][key] is not None:
            plain["campaign"][section][key] = Path(plain["campaign"][section][key]).name
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong(document: Document, key: Key, problem: str, hint: str) -> ConfigError:
    return ConfigError(f"{document.at(key)}: {dotted(key)}: {problem}", hint)
