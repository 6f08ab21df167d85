"""Were the campaign's requirements met? A figure that is not known has not met its bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np

from hil_config.errors import RequirementNotMet
from hil_config.schema.requirements import PerNode, Requirement, Spread

if TYPE_CHECKING:
    from ground_controller.report.metrics import Metrics

_TWIN = "satellite temperature, charge, wear"
_TIMES = "token and frame times"
_SOURCE = {
    "ttft_ms": _TIMES, "tpot_ms": _TIMES, "tokens_per_s": _TIMES, "agreement": "generated text",
    "given_up_nats": "generated text", "kept_mass": "generated text", "energy_gross_j": "power_w",
    "energy_net_j": "power_w", "gross_j_per_token": "power_w", "net_j_per_token": "power_w", "node_net_j": "power_w",
    **dict.fromkeys(("temperature_peak_c", "over_soft_limit_s", "out_of_service_s", "charge_end", "wear",
                     "voltage_least_v"), _TWIN),
}  # fmt: skip
"""Under which name of `Metrics.sources` a figure's source stands; the others are counted in the journal."""


class RequirementResult(msgspec.Struct, frozen=True):
    """`found` None: the run does not give the figure, and `met` is false. `bound` is `at most 250`; `source` of it."""

    metric: str
    statistic: str
    bound: str
    found: float | None
    met: bool
    source: str

    @property
    def text(self) -> str:
        """For a person: `p95 of tpot_ms at most 250: found 122.3`."""
        name = self.metric if self.statistic == "value" else f"{self.statistic} of {self.metric}"
        return f"{name} {self.bound}: " + ("not known" if self.found is None else f"found {self.found:.6g}")


def judge(requirements: Sequence[Requirement], metrics: Metrics) -> tuple[RequirementResult, ...]:
    """Each requirement against the run's figures."""
    return tuple(_judged(one, metrics) for one in requirements)


def _judged(one: Requirement, metrics: Metrics) -> RequirementResult:
    found = figure(one.metric, one.statistic, metrics)
    if one.at_most is not None:
        bound, met = f"at most {one.at_most:g}", found is not None and found <= one.at_most
    else:
        assert one.at_least is not None  # the schema wants one of them
        bound, met = f"at least {one.at_least:g}", found is not None and found >= one.at_least
    return RequirementResult(one.metric, one.statistic, bound, found, met, source(one.metric, metrics))


def figure(metric: str, statistic: str, metrics: Metrics) -> float | None:
    """A figure of a run that can be required; None if the run does not give it."""
    if metric in get_args(Spread):
        spread: dict[str, float] = getattr(metrics, metric)
        return spread.get(statistic)
    if metric in get_args(PerNode):
        field = "net_j" if metric == "node_net_j" else metric
        values = [getattr(node, field) for node in metrics.nodes]
        if not values or None in values:
            return None
        return float({"max": max(values), "min": min(values), "mean": np.mean(values)}[statistic])
    if metric == "finished_share":
        return metrics.finished / metrics.requests if metrics.requests else None
    if metric == "degraded_share":
        return metrics.degraded_tokens / metrics.tokens if metrics.tokens else None
    if metric == "restarts":
        return float(sum(metrics.restarts.values()))
    if metric == "lost_nodes":
        return float(len(metrics.lost_nodes))
    if metric == "kept_mass" and not metrics.tokens:
        return None
    value = getattr(metrics, metric)
    return None if value is None else float(value)


def source(metric: str, metrics: Metrics) -> str:
    """Where a figure came from, as the report says it."""
    key = _SOURCE.get(metric)
    if key is None:
        modelled = metrics.sources.get(_TIMES, "").startswith("modelled(")
        return "counted in the record of a simulated run" if modelled else "counted in the journal"
    found = [text for name, text in metrics.sources.items() if name == key or name.startswith(f"{key} of ")]
    return "; ".join(found) or "nothing reported it"


def refuse_unmet(run: str, results: Sequence[RequirementResult]) -> None:
    """RequirementNotMet that names every one that was not met."""
    unmet = [one for one in results if not one.met]
    if unmet:
        raise RequirementNotMet(
            f"{run}: {len(unmet)} of {len(results)} requirements not met: {'; '.join(one.text for one in unmet)}",
            "the run is valid; the bench under this campaign is not good enough, or the bound is wrong",
        )
