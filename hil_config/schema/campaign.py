"""campaign.yaml: what is to be done with a bench."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.platforms import PlatformChoice
from hil_config.schema.strict import Name, Strict, Wanted, refuse
from hil_config.schema.yaml_text import Key, dotted, read_yaml

MAX_SAMPLES = 1_000_000
"""Samples of a link schedule; the compiler has the same limit."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=64)]
Option = Annotated[bool | int | float | str, Wanted("a number, a text, true or false")]


class Model(Strict):
    """The language model and how it is cut and copied."""

    checkpoint: Text = Field(default="reference", description="`reference`, or the folder of a checkpoint.")
    precision: Literal["fp32", "fp16", "int8", "int4"] = Field(
        default="int8", description="Precision of the expert shards."
    )
    allocation: Text = Field(
        default="none",
        description="`none`, or a file of `hil models budget`: a precision for every expert, or none at all.",
    )
    trunk_slices: Count = Field(default=2, description="Layer ranges of the trunk, each on a gateway of its own.")
    replicas: Count = Field(default=2, description="Boards that hold each expert.")
    hidden_codec: Literal["fp32", "fp16", "int8", "int4"] = Field(
        default="fp16", description="Hidden states between boards."
    )


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
        min_length=2, max_length=64,
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


class Start(Strict):
    """One satellite at scenario second 0."""

    temperature_c: float = Field(description="Temperature of its board.", ge=-100, le=150)
    charge: Share = Field(description="State of charge, 0 to 1.")


class Limits(Strict):
    """Beyond a soft limit a node takes no new work; beyond a hard one it is out of service."""

    temperature_soft_c: float = Field(default=60.0, description="No new work above this.", ge=-100, le=150)
    temperature_hard_c: float = Field(default=75.0, description="Out of service above this.", ge=-100, le=150)
    charge_soft: Share = Field(default=0.35, description="No new work below this state of charge.")
    charge_hard: Share = Field(default=0.2, description="Out of service below this state of charge.")
    temperature_hysteresis_c: NotNegative = Field(
        default=3.0, description="Back in service this far below the soft limit."
    )
    charge_hysteresis: Share = Field(default=0.05, description="Back in service this far above the soft limit.")

    @model_validator(mode="after")
    def _check_order(self) -> Limits:
        if self.temperature_hard_c <= self.temperature_soft_c:
            raise refuse(
                ("temperature_hard_c",),
                f"found {self.temperature_hard_c:g}, wanted more than temperature_soft_c ({self.temperature_soft_c:g})",
                "a board slows down at the soft limit before it stops at the hard one",
            )
        if self.charge_hard >= self.charge_soft:
            raise refuse(
                ("charge_hard",),
                f"found {self.charge_hard:g}, wanted less than charge_soft ({self.charge_soft:g})",
                "a board slows down at the soft limit before it stops at the hard one",
            )
        if self.charge_soft + self.charge_hysteresis > 1.0:
            raise refuse(
                ("charge_hysteresis",),
                f"found {self.charge_hysteresis:g}, wanted at most 1 - charge_soft ({1.0 - self.charge_soft:g})",
                "above a charge of 1 a node could never return",
            )
        return self


class Twin(Strict):
    """The modelled satellites that the boards' watts are spent in."""

    accounting: Literal["duty", "once"] = Field(
        default="duty",
        description="`duty`: the power of a tick stands for all the orbit seconds it replays; `once`: idle power does,"
        " and what is above it counts for the host seconds it was drawn.",
    )
    start: tuple[Start, ...] = Field(
        description="One entry per board, in the bench's order.", min_length=1, max_length=64
    )
    limits: Limits = Field(default=Limits(), description="Limits on temperature and charge.")
    platform: PlatformChoice = Field(default=PlatformChoice(), description="The satellite bus.")


class Policy(Strict):
    """A policy by name, or `module:Name` of your own, with its options."""

    name: Text = Field(description="Name of the policy.")
    options: dict[str, Option] = Field(
        default={}, description="Options of the policy; those left out keep their defaults."
    )


class Policies(Strict):
    """Who decides."""

    placement: Policy = Field(default=Policy(name="rank_match"), description="Which board holds which expert.")
    selection: Policy = Field(
        default=Policy(name="lyapunov"), description="Which experts and hosts are used, tick by tick."
    )


class Workload(Strict):
    """The text that is generated."""

    prompts: Text = Field(default="reference", description="`reference`, or a JSON file of prompts.")
    evaluation: Text = Field(
        default="none",
        description="`none`, `reference`, or a JSON evaluation set: scored through the nodes beside the prompts.",
    )
    concurrency: int = Field(default=6, description="Requests in flight.", ge=1, le=256)
    max_new_tokens: int = Field(default=48, description="Tokens generated for each request at most.", ge=1, le=4_096)
    requests: int | None = Field(default=None, description="Requests in all; null: as many as fit.", ge=1, le=1_000_000)


class Control(Strict):
    """Times of the control loop, in host seconds."""

    tick_s: float = Field(default=0.5, description="From one decision to the next.", ge=0.05, le=60)
    plan_ttl_s: float = Field(default=5.0, description="A gateway calls a plan older than this expired.", gt=0, le=600)
    expert_timeout_s: float = Field(default=2.0, description="A gateway asks another host after this.", gt=0, le=600)
    clock_check_s: float = Field(
        default=60.0, description="From one check of every node's clock to the next.", ge=1, le=86_400
    )
    token_timeout_s: float = Field(default=6.0, description="The client begins again after this.", gt=0, le=600)

    @model_validator(mode="after")
    def _check_order(self) -> Control:
        for longer, shorter in (("plan_ttl_s", "tick_s"), ("token_timeout_s", "expert_timeout_s")):
            found, least = getattr(self, longer), getattr(self, shorter)
            if found <= least:
                raise refuse(
                    (longer,),
                    f"found {found:g}, wanted more than {shorter} ({least:g})",
                    f"raise {longer} or lower {shorter}",
                )
        return self


class LinkCodec(Strict):
    """A codec of its own for the link between two boards, both ways."""

    between: tuple[Name, Name] = Field(description="Two boards of the bench.")
    codec: Literal["fp32", "fp16", "int8", "int4"] = Field(description="How hidden states are written there.")


class Links(Strict):
    """What links do beyond the orbit's delay, rate and outages."""

    codecs: tuple[LinkCodec, ...] = Field(default=(), description="Links that differ from model.hidden_codec.")

    relay: bool = Field(default=False, description="Frames to a board whose link is down go over other boards.")
    jitter_s: float = Field(default=0.0, description="Delays vary evenly by so much either way.", ge=0.0, le=1.0)


class Campaign(Strict):
    """A campaign file. Units are part of the keys."""

    campaign: Name = Field(description="Name of the campaign; part of the names of its runs.")
    seed: int = Field(default=1, description="Of everything that is drawn.", ge=0, le=2**32 - 1)
    model: Model = Field(default=Model(), description="The language model.")
    orbit: Orbit = Field(description="The orbit.")
    twin: Twin = Field(description="The satellites' heat and charge.")
    policies: Policies = Field(default=Policies(), description="Placement and selection.")
    links: Links = Field(default=Links(), description="The links between boards.")
    workload: Workload = Field(default=Workload(), description="The text that is generated.")
    control: Control = Field(default=Control(), description="Times of the control loop.")

    def check_against(self, bench: Bench, path: Path | None = None) -> None:
        """What only both files together show.

        Args:
            path: the campaign file; with it the error names line and column.

        Raises:
            ConfigError: not as many satellites or start entries as boards, or more copies than boards.
        """
        boards = len(bench.boards)
        names = ", ".join(board.name for board in bench.boards)
        for key, found in (
            (("orbit", "satellites"), len(self.orbit.satellites)),
            (("twin", "start"), len(self.twin.start)),
        ):
            if found != boards:
                raise _crossed(
                    path, key,
                    f"found {found} entries, wanted {boards}: one per board of bench {bench.bench} ({names})",
                    "write as many entries as the bench has boards, in their order",
                )  # fmt: skip
        known = {board.name for board in bench.boards}
        for index, one in enumerate(self.links.codecs):
            if not set(one.between) <= known or one.between[0] == one.between[1]:
                raise _crossed(
                    path, ("links", "codecs", index, "between"),
                    f"found {list(one.between)}, wanted two of the boards of bench {bench.bench} ({names})",
                    "name two boards as they stand in the bench file",
                )  # fmt: skip
        if self.model.replicas > boards:
            raise _crossed(
                path, ("model", "replicas"),
                f"found {self.model.replicas}, wanted at most {boards}, the boards of bench {bench.bench}",
                "a board holds an expert once",
            )  # fmt: skip

    def with_selection(self, name: str) -> Campaign:
        """The same campaign under the selection policy `name` with its default options."""
        policies = self.policies.model_copy(update={"selection": Policy(name=name)})
        return self.model_copy(update={"policies": policies})


def _crossed(path: Path | None, key: Key, problem: str, hint: str) -> ConfigError:
    where = read_yaml(path).at(key) if path else "campaign"
    return ConfigError(f"{where}: {dotted(key)}: {problem}", hint)
