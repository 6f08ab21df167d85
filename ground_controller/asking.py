"""Who asks a run for generations: what `workload.arrivals` of its campaign names."""

from __future__ import annotations

from pathlib import Path

from ground_controller.arrival_times import poisson, read_trace
from ground_controller.arrivals import Arrivals
from ground_controller.endpoint.hatch import hatch
from ground_controller.feed import Source, closed_loop, prompts_of
from ground_controller.preparation import Prepared


def asking(prepared: Prepared, folder: Path, begun: int = 0, elapsed_s: float = 0.0) -> Source:
    """The campaign's own source, after the first `begun` of its requests and `elapsed_s` host seconds of the run.

    Raises:
        DataFileError: the trace is malformed.
        EnvironmentFault: the run folder can hold no socket.
    """
    workload = prepared.campaign.workload
    if workload.arrivals == "closed":
        return closed_loop(prepared, begun)
    if workload.arrivals == "requests":
        return hatch(prepared, folder)
    if workload.rate_per_s is not None:
        due = poisson(workload.rate_per_s, prepared.campaign.seed)
    else:
        due = iter(read_trace(Path(workload.trace)))
    room = prepared.manifest.model.context
    return Arrivals(due, prompts_of(prepared), workload.batch, workload.max_new_tokens, room, begun, elapsed_s)
