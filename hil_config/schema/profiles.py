"""Board profiles: the modelled numbers of a kind of board, with their sources. Some ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hil_config.errors import ConfigError
from hil_config.schema.explain import validated
from hil_config.schema.power import PowerMode, check_modes
from hil_config.schema.strict import Name, OwnCode, Strict
from hil_config.schema.yaml_text import read_yaml

PROFILES = Path(__file__).parent.parent / "profiles"


class ProfileSensor(Strict):
    """A sensor that boards of this kind have; `driver` is a name of the agent's table (`hil-agent sensors`)."""

    driver: Name | OwnCode = Field(description="Name of the sensor driver, or `module:find` of your own.")
    where: str = Field(default="", description="Root path, program or port; empty: the usual place.")
    hz: float = Field(default=0.0, description="Readings a second; 0: the agent's rate.", ge=0, le=1000)
    shunt_ohm: float = Field(default=0.0, description="Resistance of an external shunt.", ge=0, le=10)


class ProfileSafety(Strict):
    """Cut-offs that the agent keeps by itself on boards of this kind."""

    die_stop_c: float = Field(description="Die temperature at which new work stops, in C.", gt=0, le=125)
    die_resume_c: float = Field(description="Die temperature below which it goes on, in C.", gt=0, le=125)
    silence_s: float = Field(default=0.0, description="Silence of the ground that reduces the duty; 0: never.", ge=0)
    eased_duty: float = Field(default=0.25, description="Share of time it computes then.", ge=0.01, le=1)


class BoardProfile(Strict):
    """Modelled power is idle_w + per_core_w x busy cores, as long as no sensor measures it."""

    name: Name = Field(description="Name of the profile; that of its file.")
    idle_w: float = Field(description="Power of the idle board in W.", gt=0, le=500)
    per_core_w: float = Field(description="Power of one busy core on top of that, in W.", gt=0, le=500)
    cores: int = Field(description="Cores of the board.", ge=1, le=256)
    cpu_scale: float = Field(
        description="Board core-seconds for the work of one core-second of the host that stands for it.",
        gt=0,
        le=100,
    )
    memory_mb: int = Field(description="Memory in MB.", ge=64, le=1 << 20)
    expert_slots: int = Field(description="Experts the board may hold.", ge=0, le=100_000)
    sensors: tuple[ProfileSensor, ...] = Field(default=(), description="Sensors to look for, the best power first.")
    safety: ProfileSafety | None = Field(default=None, description="Cut-offs on the board; none for a process.")
    modes: tuple[PowerMode, ...] = Field(
        default=(), description="Power modes that such boards offer, the fastest first.", max_length=32
    )
    source: str = Field(description="Where the numbers are from, and which are assumed.", min_length=1)

    @model_validator(mode="after")
    def _check_modes(self) -> BoardProfile:
        check_modes(self.modes)
        return self

    def mode(self, name: str) -> PowerMode | None:
        """The mode of that name, or the first one; None without modes."""
        return next((mode for mode in self.modes if mode.name == name), self.modes[0] if self.modes else None)

    def agent_fields(self) -> dict[str, Any]:
        """What an agent on such a board is told about it: fields of its configuration file."""
        power = self.model_dump(include={"idle_w", "per_core_w", "cores", "cpu_scale"})
        return {
            "power_model": {"profile": self.name, **power},
            "sensors": [sensor.model_dump(exclude_defaults=True) for sensor in self.sensors],
            **({"safety": self.safety.model_dump()} if self.safety else {}),
        }


def profile_names() -> tuple[str, ...]:
    """Names that `load_profile` knows, sorted."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def is_profile_path(name: str) -> bool:
    """Is it the path of a profile of the user's own, rather than a name of ours?"""
    return name.endswith((".yaml", ".yml"))


@cache
def load_profile(name: str) -> BoardProfile:
    """The profile called `name`, or in the file `name` if that ends in .yaml. ConfigError listing those there are, or
    saying what is wrong in the file."""
    if is_profile_path(name):
        return validated(read_yaml(Path(name)), BoardProfile)
    names = profile_names()
    if name not in names:
        raise ConfigError(f"there is no board profile {name!r}", f"use one of {', '.join(names)}")
    return validated(read_yaml(PROFILES / f"{name}.yaml"), BoardProfile)
