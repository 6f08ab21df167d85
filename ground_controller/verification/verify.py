"""All checks of a run, in the manner of MLPerf's compliance checks: each passes, fails or has no object.

A run that fails a check may still be of use to whoever ran it; its figures are not to be published.
"""

from __future__ import annotations

from pathlib import Path

from ground_controller.journal import Journal
from ground_controller.mixed import parts
from ground_controller.replay import prepare_again, replay_run
from ground_controller.verification import clocks, energy, hashes, instruments, record
from ground_controller.verification.check import Check, judged, listed, not_applicable
from hil_config.errors import HilError, InvalidRunError


def verify_run(folder: Path) -> tuple[Check, ...]:
    """Every check of the run in `folder`, in the order in which a reader trusts; InvalidRunError if it is no run."""
    journal = Journal.read(folder)
    try:
        own = parts(journal)[0]  # what boards did; model boards beside them load nothing and are never late
        sound = record.file(journal)
        if sound.outcome == "fail":
            return (sound, not_applicable("everything else", "the journal cannot be read through"))
        checks = [
            sound, record.ended(journal), hashes.configuration(journal), hashes.schedule(journal, folder),
            hashes.record_files(folder), *hashes.boards(own),
            record.records(journal), record.messages(journal), record.ticks(journal), record.tokens(own),
        ]  # fmt: skip
        if not journal.meta("anchor_host_ns", ""):
            return (*checks, not_applicable("everything else", "the run ended before its clock was started"))
        checks += [
            clocks.offsets(journal), clocks.drift(journal), instruments.fakes(own), instruments.gaps(own),
            instruments.readings(own), instruments.throttling(own), *energy.windows(own),
        ]  # fmt: skip
        return (*checks, *_derived(journal, folder))
    finally:
        journal.close()


def _derived(journal: Journal, folder: Path) -> tuple[Check, Check]:
    """What follows from the same inputs now: the model's files, and every decision."""
    hint = "verify with the release and the files that made the run"
    try:
        prepared = prepare_again(journal)
    except HilError as error:
        reason = "the run's inputs cannot be had again"
        return Check("replay", "fail", error.message, "", error.hint or hint), not_applicable("shards", reason)
    found = replay_run(folder)
    good = not found.mismatches and not found.unchecked and found.ticks > 0
    figure = (f"{found.ticks} control and {found.gates} gate decisions derived again, {found.mismatches} mismatches, "
              f"{found.unchecked} not checkable")  # fmt: skip
    return hashes.shards(prepared), judged("replay", good, figure, listed(found.first), hint)


def refuse_failed(folder: Path, checks: tuple[Check, ...]) -> None:
    """InvalidRunError, naming what failed, if anything did."""
    failed = [check for check in checks if check.outcome == "fail"]
    if failed:
        raise InvalidRunError(
            f"{folder}: {len(failed)} of {len(checks)} checks failed: {', '.join(check.name for check in failed)}",
            next((check.hint for check in failed if check.hint), ""),
        )
