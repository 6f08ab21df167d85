"""`matrix` of a campaign: what is varied, how often it is run, in which order, and when it is enough."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from hil_config.schema.numbers import Count, Text
from hil_config.schema.requirements import Metric, Statistic, check_statistic
from hil_config.schema.strict import Name, Strict, Wanted, refuse

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Changes = dict[Text, Any]
"""Dotted key of the campaign (`policies.selection.name`, `twin.start.1.charge`) -> its value."""


class Stop(Strict):
    """Further blocks, each with a seed of its own, until a mean is known well enough in every variant."""

    metric: Annotated[Metric, Wanted("a metric that can be required, see docs/how-to/require.md")] = Field(
        description="Figure whose mean over seeds is to be known."
    )
    statistic: Statistic = Field(default="value", description="As in `requirements`.")
    within_percent: float = Field(
        description="Enough when half of the 95 % interval is at most this share of the mean.", gt=0, le=100
    )
    most_seeds: int = Field(description="Seeds at most, whatever the interval is.", ge=2, le=1_000)

    @model_validator(mode="after")
    def _check(self) -> Stop:
        check_statistic(self.metric, self.statistic)
        return self


class Matrix(Strict):
    """Variants x seeds x repeats, run in randomised complete blocks."""

    axes: dict[Name, dict[Name, Changes]] = Field(
        default={}, description="Axis (policy, orbit, model) -> its variants by name, each with the keys it changes."
    )
    seeds: tuple[Seed, ...] = Field(
        default=(), description="One block each; none: the campaign's seed.", max_length=1_000
    )
    repeats: Count = Field(default=1, description="Runs of every variant and seed; above 1 on boards only.")
    order_seed: Seed = Field(default=1, description="Of the order of blocks, and of the variants in each.")
    warm_up: int = Field(default=1, description="Runs before the first block that do not count.", ge=0, le=10)
    stop: Stop | None = Field(default=None, description="When it is enough; null: after the seeds given.")

    @model_validator(mode="after")
    def _check(self) -> Matrix:
        for axis, variants in self.axes.items():
            if not variants:
                raise refuse(("axes", axis), "no variant, wanted at least one", "write NAME: {key: value}")
            for name, key in ((name, key) for name, changes in variants.items() for key in changes):
                if key.partition(".")[0] in {"campaign", "matrix", "seed"}:
                    raise refuse(("axes", axis, name, key), "is not for a variant to change", "seeds: matrix.seeds")
        if len(set(self.seeds)) != len(self.seeds):
            raise refuse(("seeds",), f"found {list(self.seeds)}, wanted each seed once", "a second run is a repeat")
        if self.stop is not None and self.stop.most_seeds < len(self.seeds):
            raise refuse(
                ("stop", "most_seeds"),
                f"found {self.stop.most_seeds}, wanted at least {len(self.seeds)}: as many as seeds",
                "raise most_seeds or give fewer seeds",
            )  # fmt: skip
        return self
