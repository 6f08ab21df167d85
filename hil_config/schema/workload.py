"""`workload` of a campaign: which texts, of which length, and when they are asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hil_config.schema.numbers import Count, Text
from hil_config.schema.strict import Strict, refuse


class Workload(Strict):
    """The text that is generated."""

    prompts: Text = Field(default="reference", description="`reference`, or a JSON file of prompts.")
    evaluation: Text = Field(
        default="none",
        description="`none`, `reference`, or a JSON evaluation set: scored through the nodes beside the prompts.",
    )
    arrivals: Literal["closed", "poisson", "trace", "requests"] = Field(
        default="closed",
        description="When requests begin: `closed`: as others end; `poisson`: at `rate_per_s`, whatever is under way;"
        " `trace`: when a CSV file says; `requests`: when `hil serve` hands them in.",
    )
    rate_per_s: float | None = Field(
        default=None, description="Arrivals a host second, of `poisson`; seeded by the campaign.", gt=0, le=1_000
    )
    trace: Text = Field(
        default="none",
        description="`none`, or a CSV file with at_s (host seconds) and, if given, prompt_tokens and output_tokens.",
    )
    batch: Count = Field(default=1, description="Requests that arrive at the same time.")
    concurrency: int = Field(default=6, description="Requests in flight; of `closed` and `requests`.", ge=1, le=256)
    queue: int = Field(default=16, description="Requests that wait for a place, of `requests`.", ge=0, le=4_096)
    modelled_concurrency: int = Field(
        default=6,
        description="Requests in flight among model boards, where the bench has some beside real ones.",
        ge=1,
        le=4_096,
    )
    prompt_tokens: int | None = Field(
        default=None,
        description="Length of every prompt in tokens, cut or joined to it; null: as they are written.",
        ge=2,
        le=1_000_000,
    )
    max_new_tokens: int = Field(default=48, description="Tokens generated for each request at most.", ge=1, le=4_096)
    requests: int | None = Field(default=None, description="Requests in all; null: as many as fit.", ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _check(self) -> Workload:
        if (self.arrivals == "poisson") != (self.rate_per_s is not None):
            raise refuse(
                ("rate_per_s",), f"found {self.rate_per_s or 'null'} with arrivals: {self.arrivals}",
                "arrivals: poisson wants rate_per_s, the others have none",
            )  # fmt: skip
        if (self.arrivals == "trace") != (self.trace != "none"):
            raise refuse(
                ("trace",), f"found {self.trace!r} with arrivals: {self.arrivals}",
                "arrivals: trace wants a file, the others have none",
            )  # fmt: skip
        if self.batch > 1 and (
            self.arrivals == "requests" or (self.arrivals == "closed" and self.batch > self.concurrency)
        ):
            raise refuse(
                ("batch",), f"found {self.batch}, wanted at most concurrency ({self.concurrency}), and 1 for requests",
                "raise concurrency, or lower batch",
            )  # fmt: skip
        return self
