"""campaign.yaml: what is to be done with a bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.matrix import Matrix
from hil_config.schema.numbers import Count, NotNegative, Share, Text
from hil_config.schema.orbit import Orbit
from hil_config.schema.platforms import PlatformChoice
from hil_config.schema.power import Power
from hil_config.schema.requirements import Requirement
from hil_config.schema.strict import Name, Strict, Wanted, refuse
from hil_config.schema.workload import Workload
from hil_config.schema.yaml_text import Key, dotted, read_yaml

Option = Annotated[bool | int | float | str, Wanted("a number, a text, true or false")]


class Model(Strict):
    """The language model and how it is cut and copied."""

    checkpoint: Text = Field(default="reference", description="`reference`, or the folder of a checkpoint.")
    precision: Literal["fp32", "fp16", "int8", "int4"] = Field(
        default="int8", description="Precision of the expert shards."
    )
    block: Literal[32, 64, 128] = Field(
        default=32, description="Inputs that share a scale at int8 and int4: longer is faster and less exact."
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
        description="One entry per board, in the bench's order.", min_length=1, max_length=2_048
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
    precision: Policy = Field(
        default=Policy(name="fixed"), description="At which precision each host serves its experts, tick by tick."
    )
    transmission: Policy = Field(
        default=Policy(name="full"), description="In which codec hidden states go, frame by frame."
    )
    replacement: Policy = Field(
        default=Policy(name="stay"), description="Which experts move to other boards while the run goes on."
    )
    routing: Literal["direct", "snapshot_dijkstra", "time_expanded", "cgr"] = Field(
        default="direct", description="The way of frames: the direct link, or over other boards where that is quicker."
    )


class Control(Strict):
    """Times of the control loop, in host seconds."""

    tick_s: float = Field(default=0.5, description="From one decision to the next.", ge=0.05, le=60)
    plan_ttl_s: float = Field(default=5.0, description="A gateway calls a plan older than this expired.", gt=0, le=600)
    expert_timeout_s: float = Field(default=2.0, description="A gateway asks another host after this.", gt=0, le=600)
    clock_check_s: float = Field(
        default=60.0, description="From one check of every node's clock to the next.", ge=1, le=86_400
    )
    token_timeout_s: float = Field(default=6.0, description="The client begins again after this.", gt=0, le=600)
    idle_s: float = Field(
        default=0.0,
        description="Before the first request and after the last the boards are left idle for so long, and their idle"
        " power is measured. At least 30 for a baseline; 0: none, and net energy uses the profile's idle power.",
        ge=0,
        le=3_600,
    )

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
    policies: Policies = Field(default=Policies(), description="Who decides what.")
    links: Links = Field(default=Links(), description="The links between boards.")
    workload: Workload = Field(default=Workload(), description="The text that is generated.")
    control: Control = Field(default=Control(), description="Times of the control loop.")
    power: Power | None = Field(default=None, description="Power modes of the boards; null: none is ordered.")
    requirements: tuple[Requirement, ...] = Field(
        default=(), description="Bounds on the run's figures, each reported as met or not.", max_length=64
    )
    matrix: Matrix | None = Field(default=None, description="Many runs instead of one: variants, seeds, repeats.")

    @model_validator(mode="after")
    def _check_power(self) -> Campaign:
        power, limits = self.power, self.twin.limits
        if power is None:
            return self
        if power.ease_above_c is not None and power.ease_above_c >= limits.temperature_soft_c:
            raise refuse(
                ("power", "ease_above_c"),
                f"found {power.ease_above_c:g}, wanted less than temperature_soft_c ({limits.temperature_soft_c:g})",
                "above the soft limit a board takes no new work at all: slow it down before",
            )
        if power.ease_below_charge is not None and power.ease_below_charge <= limits.charge_soft:
            raise refuse(
                ("power", "ease_below_charge"),
                f"found {power.ease_below_charge:g}, wanted more than charge_soft ({limits.charge_soft:g})",
                "below the soft limit a board takes no new work at all: slow it down before",
            )
        return self

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
