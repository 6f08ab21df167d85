"""`requirements` of a campaign: bounds on figures of the report, each met or not."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from hil_config.schema.strict import Strict, Wanted, refuse

Spread = Literal["ttft_ms", "tpot_ms", "decide_ms", "lateness_ms"]
"""Figures with quantiles over tokens or ticks."""
PerNode = Literal[
    "temperature_peak_c", "over_soft_limit_s", "out_of_service_s", "charge_end", "wear", "voltage_least_v",
    "node_net_j",
]  # fmt: skip
"""Figures with one value a node."""
Whole = Literal[
    "tokens", "tokens_per_s", "finished_share", "degraded_share", "restarts", "lost_nodes", "lost_rows", "agreement",
    "given_up_nats", "kept_mass", "energy_gross_j", "energy_net_j", "gross_j_per_token", "net_j_per_token",
]  # fmt: skip
"""Figures with one value a run."""
Metric = Literal[Spread, PerNode, Whole]
Statistic = Literal["value", "p50", "p95", "p99", "max", "min", "mean"]
OF_SPREAD: tuple[Statistic, ...] = ("p50", "p95", "p99", "max")
OF_NODES: tuple[Statistic, ...] = ("max", "min", "mean")


def statistics_of(metric: str) -> tuple[Statistic, ...]:
    """Which statistics a metric has."""
    if metric in get_args(Spread):
        return OF_SPREAD
    return OF_NODES if metric in get_args(PerNode) else ("value",)


def check_statistic(metric: Metric, statistic: str) -> None:
    """Refused at the key `statistic` if the metric has none of that name."""
    allowed = statistics_of(metric)
    if statistic not in allowed:
        raise refuse(
            ("statistic",), f"found {statistic!r}, wanted {' or '.join(allowed)} of {metric}",
            f"write statistic: {allowed[0]}",
        )  # fmt: skip


class Requirement(Strict):
    """One bound. A figure that the run does not give has not met it."""

    metric: Annotated[Metric, Wanted("a metric that can be required, see docs/how-to/require.md")] = Field(
        description="Figure of the report that is bounded."
    )
    statistic: Statistic = Field(
        default="value",
        description="`p50`, `p95`, `p99`, `max` of times; `max`, `min`, `mean` over nodes; `value` of the others.",
    )
    at_most: float | None = Field(default=None, description="Met when the figure is not above this, in its unit.")
    at_least: float | None = Field(default=None, description="Met when the figure is not below this, in its unit.")

    @model_validator(mode="after")
    def _check(self) -> Requirement:
        check_statistic(self.metric, self.statistic)
        if (self.at_most is None) == (self.at_least is None):
            raise refuse(
                ("metric",), f"{self.metric} has {'no bound' if self.at_most is None else 'two bounds'}, wanted one",
                "write at_most or at_least; a second bound is a second requirement",
            )  # fmt: skip
        return self
