"""Platform presets: the satellite bus a board stands for, as numbers with their sources. They ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from hil_config.errors import ConfigError
from hil_config.schema.explain import validated
from hil_config.schema.numbers import Efficiency, NotNegative, Positive, Share, Text
from hil_config.schema.strict import Name, Strict
from hil_config.schema.yaml_text import read_yaml

PLATFORMS = Path(__file__).parent.parent / "platforms"


class PlatformPreset(Strict):
    """See `ground_controller.physics.platform` for how the numbers are used."""

    name: Name = Field(description="Name of the preset; that of its file.")
    source: str = Field(description="Where the numbers are from, and which are assumed.", min_length=1)
    thermal_resistance_k_w: Positive = Field(description="Die of the board to its case.")
    thermal_capacity_j_k: Positive = Field(description="Of the die and what is close to it.")
    case_resistance_k_w: Positive = Field(description="Case of the board to the sink or the plate.")
    case_capacity_j_k: Positive = Field(description="Of the case.")
    sink_c: float = Field(description="Temperature of the sink; not used with a plate.", ge=-270, le=150)
    environment_w: float = Field(description="Heat into the die besides its own power.")
    plate_capacity_j_k: NotNegative = Field(description="Of the plate that radiates; 0: there is none, but a sink.")
    plate_emitting_m2: NotNegative = Field(description="Infrared emissivity x area towards space.")
    plate_sun_m2: NotNegative = Field(description="Solar absorptance x area towards the Sun.")
    plate_earth_m2: NotNegative = Field(description="Solar absorptance x area towards the Earth.")
    plate_infrared_m2: NotNegative = Field(description="Infrared emissivity x area towards the Earth.")
    bus_heat_share: Share = Field(description="Share of the base load that heats the plate.")
    altitude_km: Positive = Field(description="For the view of the Earth.")
    battery_wh: Positive = Field(description="Battery capacity.")
    series_ohm: Positive = Field(description="Series resistance of a 118.8 Wh pack.")
    rc_ohm: Positive = Field(description="Resistance of its RC element.")
    rc_s: Positive = Field(description="Time constant of its RC element.")
    charge_efficiency: Efficiency = Field(description="Array to battery terminals.")
    discharge_efficiency: Efficiency = Field(description="Battery terminals to load.")
    base_load_w: NotNegative = Field(description="Load of the bus without the board.")
    array_area_m2: NotNegative = Field(description="Solar array area.")
    array_efficiency: Share = Field(description="Solar array efficiency.")
    array_cos_incidence: Share = Field(description="Mean cosine of the Sun's incidence while sunlit.")
    transmit_j_per_bit: NotNegative = Field(description="Energy of a bit sent to another satellite; modelled.")


class PlatformChoice(Strict):
    """A preset, and numbers that differ from it; null keeps the preset's."""

    preset: Text = Field(default="12u-bupt1", description="Name of a platform preset.")
    thermal_resistance_k_w: Positive | None = Field(default=None, description="Die of the board to its case.")
    thermal_capacity_j_k: Positive | None = Field(default=None, description="Of the die and what is close to it.")
    case_resistance_k_w: Positive | None = Field(
        default=None, description="Case of the board to the sink or the plate."
    )
    case_capacity_j_k: Positive | None = Field(default=None, description="Of the case.")
    sink_c: float | None = Field(
        default=None, description="Temperature of the sink; not used with a plate.", ge=-270, le=150
    )
    environment_w: float | None = Field(default=None, description="Heat into the die besides its own power.")
    plate_capacity_j_k: NotNegative | None = Field(
        default=None, description="Of the plate that radiates; 0: there is none, but a sink."
    )
    plate_emitting_m2: NotNegative | None = Field(default=None, description="Infrared emissivity x area towards space.")
    plate_sun_m2: NotNegative | None = Field(default=None, description="Solar absorptance x area towards the Sun.")
    plate_earth_m2: NotNegative | None = Field(default=None, description="Solar absorptance x area towards the Earth.")
    plate_infrared_m2: NotNegative | None = Field(
        default=None, description="Infrared emissivity x area towards the Earth."
    )
    bus_heat_share: Share | None = Field(default=None, description="Share of the base load that heats the plate.")
    altitude_km: Positive | None = Field(default=None, description="For the view of the Earth.")
    battery_wh: Positive | None = Field(default=None, description="Battery capacity.")
    series_ohm: Positive | None = Field(default=None, description="Series resistance of a 118.8 Wh pack.")
    rc_ohm: Positive | None = Field(default=None, description="Resistance of its RC element.")
    rc_s: Positive | None = Field(default=None, description="Time constant of its RC element.")
    charge_efficiency: Efficiency | None = Field(default=None, description="Array to battery terminals.")
    discharge_efficiency: Efficiency | None = Field(default=None, description="Battery terminals to load.")
    base_load_w: NotNegative | None = Field(default=None, description="Load of the bus without the board.")
    array_area_m2: NotNegative | None = Field(default=None, description="Solar array area.")
    array_efficiency: Share | None = Field(default=None, description="Solar array efficiency.")
    array_cos_incidence: Share | None = Field(
        default=None, description="Mean cosine of the Sun's incidence while sunlit."
    )
    transmit_j_per_bit: NotNegative | None = Field(
        default=None, description="Energy of a bit sent to another satellite; modelled."
    )


def platform_names() -> tuple[str, ...]:
    """Names that `load_platform` knows, sorted."""
    return tuple(sorted(path.stem for path in PLATFORMS.glob("*.yaml")))


@cache
def load_platform(name: str) -> PlatformPreset:
    """The preset called `name`, or ConfigError listing those there are."""
    names = platform_names()
    if name not in names:
        raise ConfigError(f"there is no platform preset {name!r}", f"use one of {', '.join(names)}")
    return validated(read_yaml(PLATFORMS / f"{name}.yaml"), PlatformPreset)
