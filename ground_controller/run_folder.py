"""A run folder and its manifest: what it holds, what made it, and whether this release can read it.

`manifest.json` is derived from the journal and the files beside it, and written whole or not at all. Hashes of the
record (journal, schedule) are those of the first manifest after the run's end; later ones keep them and name what has
changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ground_controller.journal import NAME as JOURNAL
from ground_controller.journal import Journal
from ground_controller.mixed import META as MIXED
from ground_controller.mixed import parts
from ground_controller.software import Software
from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault, InvalidRunError
from hil_config.wire.messages import Status, decode

FORMAT = 1
"""Of run folders. 0: without a manifest (before there was one); it is read, and what was not recorded is said."""
MANIFEST = "manifest.json"
RECORD = (JOURNAL, "schedule.hsched")
"""What everything else is derived from."""
ROLES = ("record", "derived", "log")
_PASSING = (".part", ".lock", "-wal", "-shm", ".pid")
_BLOCK = 1 << 20


class FileFacts(msgspec.Struct, frozen=True):
    """`role`: record (the rest follows from it), derived (made again by `hil export` and `hil report`), or log."""

    bytes: int
    sha256: str
    role: str


class BoardFacts(msgspec.Struct, frozen=True):
    """One board. `facts`: what it said of itself (model, serial, kernel, `power:` settings), empty if it said nothing.

    `boot_ids`: one for each start of its agent in the run.
    """

    name: str
    kind: str
    profile: str
    satellite: str
    agent_version: str
    boot_ids: tuple[str, ...]
    facts: dict[str, str]
    mac: str = ""


class RunManifest(msgspec.Struct, frozen=True):
    """See docs/reference/run-folder.md. `software` is None where the run did not record it."""

    format: int
    run: str
    kind: str
    campaign: str
    seed: int
    began_utc: str
    ended_utc: str
    complete: bool
    journal_version: int
    hashes: dict[str, str]
    boards: tuple[BoardFacts, ...]
    software: Software | None
    characterisation: tuple[dict[str, Any], ...]
    files: dict[str, FileFacts]
    changed: tuple[str, ...] = ()


def open_run(folder: Path) -> Journal:
    """The record of a run folder that this release can read; of a fleet with model nodes, that of the real ones.

    Raises:
        InvalidRunError: not a run folder, or one of a later format or journal version.
    """
    return parts(_whole(folder))[0]


def open_models(folder: Path) -> Journal | None:
    """The record of the model nodes of a fleet that has real ones too, as of a simulated run; None if it has none."""
    whole = _whole(folder)
    found = parts(whole)[1]
    if found is None:
        whole.close()
    return found


def _whole(folder: Path) -> Journal:
    if (folder / MANIFEST).exists():
        read_manifest(folder)
    return Journal.read(folder)


def read_manifest(folder: Path) -> RunManifest:
    """The manifest as it was written; InvalidRunError where there is none, or one of a later format."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        found = msgspec.json.decode(raw, type=dict[str, Any])
    except FileNotFoundError as error:
        raise InvalidRunError(f"{folder}: it has no {MANIFEST}", f"hil report {folder} writes one") from error
    except (OSError, ValueError) as error:
        raise InvalidRunError(f"{path}: {error}", f"remove it; hil report {folder} writes it again") from error
    if found.get("format") not in range(1, FORMAT + 1):
        raise InvalidRunError(
            f"{path}: run folder of format {found.get('format')!r}, this release reads up to {FORMAT}",
            "install the release that made it, or a later one",
        )
    try:
        return msgspec.json.decode(raw, type=RunManifest)
    except ValueError as error:
        raise InvalidRunError(f"{path}: {error}", f"remove it; hil report {folder} writes it again") from error


def write_manifest(folder: Path) -> RunManifest:
    """Derive the manifest and put it into the folder; older folders become folders of this format by it."""
    before = read_manifest(folder) if (folder / MANIFEST).exists() else None
    journal = Journal.read(folder)
    try:
        made = _derive(journal)
    finally:
        journal.close()
    try:
        files = {path.relative_to(folder).as_posix(): _facts(folder, path) for path in _files(folder)}
        changed: tuple[str, ...] = ()
        if before is not None and before.complete:
            kept = {name: before.files[name] for name in RECORD if name in before.files}
            changed = tuple(name for name, then in kept.items() if files.get(name) != then)
            files |= kept
        made = msgspec.structs.replace(made, files=dict(sorted(files.items())), changed=changed)
        write_durably(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror or error}", "check free space and permissions") from error
    return made


def changed_files(folder: Path, manifest: RunManifest, roles: tuple[str, ...] = ROLES) -> tuple[str, ...]:
    """Files of these roles that are not what the manifest says, or not there."""
    asked = {name: then for name, then in manifest.files.items() if then.role in roles}
    return tuple(
        name for name, then in asked.items() if not (folder / name).is_file() or _sha256(folder / name) != then.sha256
    )


def _derive(journal: Journal) -> RunManifest:
    bench, campaign = (msgspec.json.decode(journal.meta(key)) for key in ("bench", "campaign"))
    statuses: dict[str, list[Status]] = {}
    for entry in journal.entries("status"):
        statuses.setdefault(entry.node, []).append(decode(entry.body, Status))
    boards = tuple(
        _board(board, satellite, statuses.get(board["name"], []))
        for board, satellite in zip(bench["boards"], campaign["orbit"]["satellites"], strict=True)
    )
    keys = ("config", "manifest", "schedule", "profiles", "evaluation")
    hashes = {key: found for key in keys if (found := journal.meta(f"{key}_sha256", ""))}
    for key in ("bench", "campaign"):
        hashes[key] = hashlib.sha256(journal.meta(key).encode()).hexdigest()
    told = journal.meta("software", "")
    return RunManifest(
        FORMAT, journal.meta("run"), _kind(journal),
        campaign["campaign"], campaign["seed"], journal.meta("began_utc", ""), journal.meta("ended_utc", ""),
        bool(journal.meta("ended_utc", "")), int(journal.meta("schema_version")), dict(sorted(hashes.items())), boards,
        msgspec.json.decode(told, type=Software) if told else None,
        tuple(msgspec.json.decode(journal.meta("characterisation", "[]"))), {},
    )  # fmt: skip


def _kind(journal: Journal) -> str:
    if journal.meta("simulated", ""):
        return "simulated"
    return "boards and models" if journal.meta(MIXED, "") else "boards"


def _board(board: dict[str, Any], satellite: str, said: list[Status]) -> BoardFacts:
    facts: dict[str, str] = {}
    for status in said:
        facts |= status.facts
    versions = [status.agent_version for status in said if status.agent_version]
    return BoardFacts(
        board["name"], board["kind"], board["profile"], satellite, versions[-1] if versions else "",
        tuple(dict.fromkeys(status.boot_id for status in said)), facts, board.get("mac") or "",
    )  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.name != MANIFEST
        and not path.name.startswith(".")
        and not path.name.endswith(_PASSING)
        and path.relative_to(folder).parts[0] not in {"spool", "control"}
    )


def _facts(folder: Path, path: Path) -> FileFacts:
    name = path.relative_to(folder).as_posix()
    derived = name.startswith(("export/", "report.", "compare."))
    role = "record" if name in RECORD else "derived" if derived else "log"
    return FileFacts(path.stat().st_size, _sha256(path), role)


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
