"""Is what the run says it used what is there: configuration, schedule, model, software?"""

from __future__ import annotations

from pathlib import Path

from ground_controller.journal import Journal
from ground_controller.preparation import Prepared
from ground_controller.run_folder import MANIFEST, RECORD, changed_files, read_manifest
from ground_controller.verification.check import Check, judged, listed, not_applicable
from hil_config.errors import HilError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import config_hash
from hil_config.wire.manifest import read_shard
from hil_config.wire.messages import Status, decode
from hil_config.wire.schedule_file import read_schedule, schedule_hash

CHANGED = "the run folder was changed after the run: take it from a copy that was not"


def configuration(journal: Journal) -> Check:
    """The recorded bench and campaign still have the recorded hash."""
    then = journal.meta("config_sha256")
    bench = Bench.model_validate_json(journal.meta("bench"))
    now = config_hash(bench, Campaign.model_validate_json(journal.meta("campaign")))
    return judged("configuration", now == then, f"SHA-256 {now[:12]}, recorded {then[:12]}", "journal", CHANGED)


def schedule(journal: Journal, folder: Path) -> Check:
    """The schedule file beside the journal is the one that was replayed."""
    path, then = folder / "schedule.hsched", journal.meta("schedule_sha256")
    try:
        read_schedule(path)
        now = schedule_hash(path.read_bytes())
    except HilError as error:
        return Check("schedule", "fail", error.message, str(path), CHANGED)
    return judged("schedule", now == then, f"SHA-256 {now[:12]}, recorded {then[:12]}", str(path), CHANGED)


def record_files(folder: Path) -> Check:
    """Journal and schedule are byte for byte those of the first manifest after the run's end."""
    if not (folder / MANIFEST).exists():
        return not_applicable("record files", f"the folder has no {MANIFEST} (it is written with report and export)")
    manifest = read_manifest(folder)
    if not manifest.complete:
        return not_applicable("record files", "the run had not ended when its manifest was written")
    wrong = sorted({*changed_files(folder, manifest, roles=("record",)), *manifest.changed})
    figure = f"{len(RECORD) - len(wrong)} of {len(RECORD)} files as in the manifest"
    return judged("record files", not wrong, figure, listed(wrong), CHANGED)


def shards(prepared: Prepared) -> Check:
    """Every shard file that the run's inputs name has the size and SHA-256 of the manifest."""
    wrong = []
    for shard in prepared.manifest.shards:
        try:
            read_shard(prepared.shards, shard)
        except HilError as error:
            wrong.append(error.message)
    figure = f"{len(prepared.manifest.shards) - len(wrong)} of {len(prepared.manifest.shards)} files as in the manifest"
    return judged("shards", not wrong, figure, listed(wrong) or str(prepared.shards), "hil models build")


def boards(journal: Journal) -> tuple[Check, Check]:
    """Every board served the run's model, and all agents were of one release."""
    if journal.meta("simulated", ""):
        reason = "model nodes load no shards and run no agent"
        return not_applicable("model on boards", reason), not_applicable("agent versions", reason)
    wanted = journal.meta("manifest_sha256")
    served: dict[str, set[str]] = {}
    versions: dict[str, set[str]] = {}
    for entry in journal.entries("status"):
        status = decode(entry.body, Status)
        if status.state == "serving":
            served.setdefault(status.node, set()).add(status.manifest_sha256)
        if status.agent_version:
            versions.setdefault(status.agent_version, set()).add(status.node)
    bench = Bench.model_validate_json(journal.meta("bench"))
    names = [board.name for board in bench.boards if board.kind != "model"]
    wrong = [f"{n}: " + (", ".join(s[:12] for s in served.get(n, ())) or "never served") for n in names
             if served.get(n) != {wanted}]  # fmt: skip
    told = [f"{version} on {', '.join(sorted(nodes))}" for version, nodes in sorted(versions.items())]
    return (
        judged("model on boards", not wrong, f"{len(names) - len(wrong)} of {len(names)} served manifest {wanted[:12]}",
               listed(wrong), "load the shards again, and run the campaign again"),
        judged("agent versions", len(versions) == 1, listed(told) or "no node said its version", "",
               "bring all boards to one release: hil provision upgrade"),
    )  # fmt: skip
