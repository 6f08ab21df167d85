"""campaign.yaml, section `orbit`: who sees whom, and what goes wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, model_validator

from hil_config.schema.numbers import Count, NotNegative, Positive, Share, Text
from hil_config.schema.strict import Name, Strict, refuse

MAX_SAMPLES = 1_000_000
"""Samples of a link schedule; the compiler has the same limit."""


class Shell(Strict):
    """A Walker shell of circular orbits; its satellites are called NAME-P00S00 and so on."""

    name: Name = Field(description="Head of its satellites' names.")
    altitude_km: float = Field(description="Above the equator's radius.", ge=100, le=100_000)
    inclination_deg: float = Field(description="Of all its planes.", ge=0, le=180)
    planes: int = Field(description="Orbital planes.", ge=1, le=1_000)
    per_plane: int = Field(description="Satellites in each.", ge=1, le=1_000)
    phasing: NotNegative = Field(default=0.0, description="Walker's F, below `planes`.")
    pattern: Literal["delta", "star"] = Field(default="delta", description="Nodes over 360 or 180 degrees.")


class Station(Strict):
    """A ground station."""

    name: Text = Field(description="As `satellites` names it.")
    latitude_deg: float = Field(description="Geodetic, north is positive.", ge=-90, le=90)
    longitude_deg: float = Field(description="East is positive.", ge=-180, le=360)
    height_m: float = Field(default=0.0, description="Over the ellipsoid.", ge=-500, le=10_000)
    min_elevation_deg: float = Field(default=10.0, description="Least elevation of a link.", ge=-5, le=90)
    mask: tuple[tuple[float, float], ...] = Field(
        default=(), description="Horizon: pairs of azimuth and least elevation in degrees.", max_length=360
    )


class OrbitFault(Strict):
    """A departure of the factual schedule from the predicted one, in scenario seconds."""

    kind: Literal["outage", "rate_drop", "late_contact", "ephemeris_error"] = Field(description="What goes wrong.")
    satellite: Text = Field(description="Whose.")
    other: str = Field(default="", description="The other end of the link; empty: all links of the satellite.")
    start_s: NotNegative = Field(default=0.0, description="From then on.")
    end_s: Positive | None = Field(default=None, description="Until then; null: to the end.")
    value: float = Field(
        default=0.0, description="rate_drop: factor. late_contact: seconds late. ephemeris_error: seconds ahead."
    )


class Orbit(Strict):
    """The orbit that is replayed over the bench."""

    elements: Text = Field(
        default="demo",
        description="`demo`, or a file of two-line elements, of OMMs (.csv, .json, .xml), or an OEM (.oem).",
    )
    satellites: tuple[Text, ...] = Field(
        description="One satellite per board, in the bench's order, as the element file writes them.",
        min_length=2, max_length=2_048,
    )  # fmt: skip
    epoch_utc: Text = Field(description="Scenario second 0, like 2024-10-21T08:20:00Z.")
    duration_s: float = Field(default=600.0, description="Orbit seconds to replay.", gt=0, le=2_592_000)
    step_s: Positive = Field(default=1.0, description="Orbit seconds between samples of the link schedule.")
    rate: float = Field(default=10.0, description="Orbit seconds per host second.", ge=0.01, le=1_000)
    delay_scale: float = Field(default=1.0, description="Link delays are multiplied by this.", ge=0, le=1_000)
    grazing_km: float = Field(
        default=80.0, description="A path that dips below this height is blocked.", ge=0, le=1_000
    )
    max_range_km: float = Field(default=5_016.0, description="Longest link.", gt=0, le=100_000)
    link_rate_mbit_s: float = Field(default=100.0, description="Rate of every link.", gt=0, le=1_000_000)
    acceleration: Literal["orbit", "links"] = Field(
        default="orbit",
        description="With a rate K: `orbit` moves the orbit K times as fast over links with true delays; `links` also "
        "divides delays by K and multiplies rates by K.",
    )
    relay: Literal["none", "mapped", "constellation"] = Field(
        default="none",
        description="Pairs without a direct link: down, through the other mapped satellites, or through all "
        "satellites of the elements and shells.",
    )
    isl: Literal["in_range", "nearest", "grid"] = Field(
        default="in_range", description="Which satellites have links, with relay `constellation`."
    )
    neighbours: Count = Field(default=4, description="Links a satellite, with isl `nearest`.")
    max_turn_deg_s: Positive | None = Field(
        default=None, description="A link breaks where the direction to the other end turns faster; null: never."
    )
    survival: Share = Field(default=1.0, description="Probability that a link between satellites works at all.")
    redraw_s: Positive | None = Field(
        default=None, description="With `survival`: which links work is drawn again after this time; null: once."
    )
    ground_rule: Literal["all", "nearest", "longest_visible"] = Field(
        default="all", description="Which of the satellites in view a ground station has a link to."
    )
    frame_loss: Share = Field(default=0.0, description="Probability that a frame is lost on a link.")
    shells: tuple[Shell, ...] = Field(default=(), description="Walker shells besides the elements.", max_length=16)
    stations: tuple[Station, ...] = Field(
        default=(), description="Ground stations; `satellites` may name them, last.", max_length=64
    )
    faults: tuple[OrbitFault, ...] = Field(
        default=(), description="What happens and was not predicted.", max_length=256
    )
    schedule: Text | None = Field(
        default=None, description="A compiled schedule file to replay instead of compiling elements."
    )
    plan: Text | None = Field(
        default=None,
        description="A contact plan (CSV, see `hil schedule import`) whose links are replayed instead of those that "
        "the geometry gives.",
    )
    plan_factual: Text | None = Field(
        default=None, description="With `plan`: the plan of what really happens; `plan` is then the prediction."
    )
    plan_sunlight: Share | None = Field(
        default=None,
        description="With `plan`: share of the Sun's disc that all satellites see all the time; null: from the "
        "elements of satellites of those names.",
    )

    @model_validator(mode="after")
    def _check(self) -> Orbit:
        _check_instant(self.epoch_utc)
        for index, name in enumerate(self.satellites):
            if name in self.satellites[:index]:
                first = self.satellites.index(name)
                raise refuse(
                    ("satellites", index),
                    f"found {name!r}, which is satellites[{first}] already",
                    "give every board its own satellite",
                )
        if self.plan is not None and self.schedule is not None:
            raise refuse(("plan",), "found a contact plan beside orbit.schedule, wanted one of them", "keep one")
        if self.plan_factual is not None and self.plan is None:
            raise refuse(
                ("plan_factual",),
                "found without orbit.plan, which it departs from",
                "name the prediction at orbit.plan",
            )
        steps = self.duration_s / self.step_s
        if steps < 0.5 or abs(steps - round(steps)) > 1e-9 * max(steps, 1.0):
            raise refuse(
                ("step_s",),
                f"found {self.step_s:g}, wanted a part of duration_s ({self.duration_s:g}) without remainder",
                "choose a step_s that divides duration_s",
            )
        if steps + 1 > MAX_SAMPLES:
            raise refuse(
                ("step_s",),
                f"found {self.step_s:g}, which makes {steps + 1:.0f} samples of {self.duration_s:g} s,"
                f" wanted at most {MAX_SAMPLES}",
                "choose a longer step_s",
            )
        return self


def _check_instant(text: str) -> None:
    hint = "write the instant in UTC, like 2024-10-21T08:20:00Z"
    try:
        instant = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as error:
        raise refuse(("epoch_utc",), f"found {text!r}, wanted an ISO 8601 instant", hint) from error
    if instant.utcoffset() != timedelta(0):
        raise refuse(("epoch_utc",), f"found {text!r}, wanted an instant that says it is UTC", hint)
