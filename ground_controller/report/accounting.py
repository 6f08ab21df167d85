"""One accounting of work in everything that stands side by side: whoever measures more than one run goes through here.

Under acceleration the joules, charge and wear of `duty` and of `once` do not stand for the same work
(docs/reference/metrics.md), so figures of both are never put into one table, plot or mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ground_controller.journal import Journal
from ground_controller.report.metrics import Metrics, measure
from hil_config.errors import InvalidRunError
from hil_config.schema.campaign import Campaign

AGREE = "duty and once, which agree at rate 1"


def one_accounting(runs: Iterable[tuple[str, str, float]]) -> str:
    """The work accounting that runs share, for whoever puts them side by side.

    Args:
        runs: (name, `duty` or `once`, orbit seconds in a host second) of each. At rate 1 both are the same.

    Raises:
        InvalidRunError: they mix `duty` and `once`: their joules, charge and wear do not stand for the same work.
    """
    kinds: dict[str, str] = {}
    for name, accounting, rate in runs:
        if rate != 1.0:
            kinds.setdefault(accounting, name)
    if len(kinds) > 1:
        told = ", ".join(f"{name} counts {kind}" for kind, name in sorted(kinds.items()))
        raise InvalidRunError(
            f"work accountings differ: {told}; charge, heat and wear of the two do not stand for the same work",
            "run one of them again with the other's twin.accounting, or both at orbit.rate 1",
        )
    return next(iter(kinds), AGREE)


def accounting_of_runs(folders: Iterable[Path]) -> str:
    """`one_accounting` of run folders, from what they began with."""
    told = []
    for folder in folders:
        journal = Journal.read(folder)
        try:
            campaign = msgspec.json.decode(journal.meta("campaign"))
        finally:
            journal.close()
        told.append((folder.name, str(campaign["twin"]["accounting"]), float(campaign["orbit"]["rate"])))
    return one_accounting(told)


def accounting_of_campaigns(campaigns: Iterable[tuple[str, Campaign]]) -> str:
    """`one_accounting` of what is going to run, by name: it is refused before a board works for it."""
    return one_accounting((name, one.twin.accounting, one.orbit.rate) for name, one in campaigns)


def accounting_of_metrics(found: Iterable[tuple[str, Metrics]]) -> str:
    """`one_accounting` of measured runs, by name."""
    return one_accounting((name, one.accounting, one.rate) for name, one in found)


def measure_together(folders: Sequence[Path]) -> list[Metrics]:
    """The numbers of several runs, in their order; InvalidRunError if they mix accountings."""
    accounting_of_runs(folders)
    return [measure(folder) for folder in folders]
