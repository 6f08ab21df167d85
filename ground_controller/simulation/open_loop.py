"""Requests that arrive by themselves at model nodes: each at its own calculated instant, whatever is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ground_controller.arrival_times import Due, poisson, read_trace
from ground_controller.simulation.agenda import Agenda
from hil_config.errors import UsageError
from hil_config.schema.campaign import Campaign


class OpenLoop:
    """Args:
    begin: begins one generation; False when no more are wanted.
    """

    def __init__(self, due: Iterator[Due], batch: int, agenda: Agenda, begin: Callable[[], bool]) -> None:
        self._due = due
        self._batch = batch
        self._agenda = agenda
        self._begin = begin
        self.exhausted = False

    def start(self) -> None:
        """Put the first arrival on the agenda; each puts the next one there."""
        one = next(self._due, None)
        if one is None:
            self.exhausted = True
        else:
            self._agenda.at(one.at_s, self._arrive)

    def _arrive(self) -> None:
        if all(self._begin() for _ in range(self._batch)):
            self.start()
        else:
            self.exhausted = True


def arrivals_of(campaign: Campaign, stride: int) -> Iterator[Due] | None:
    """When a campaign's requests arrive; None: as others end.

    Raises:
        UsageError: a workload that model nodes cannot have.
    """
    work = campaign.workload
    boards = "run it on boards: hil campaign run"
    if work.arrivals == "requests" or work.prompt_tokens:
        raise UsageError("model nodes replay recorded generations: none is asked for, or has another prompt", boards)
    if work.arrivals == "closed":
        if work.batch > 1:
            raise UsageError("model nodes begin generations of a closed loop one at a time", "leave workload.batch out")
        return None
    if stride > 1:
        raise UsageError(f"arrivals at instants of their own want stride 1, found {stride}", "hil simulate --stride 1")
    if work.rate_per_s is not None:
        return poisson(work.rate_per_s, campaign.seed)
    trace = read_trace(Path(work.trace))
    if any(one.prompt_tokens or one.output_tokens for one in trace):
        raise UsageError(f"{work.trace}: model nodes replay recorded generations, whose lengths are given", boards)
    return iter(trace)
