"""Power modes: what kinds of boards offer, and what a campaign does with it."""

from __future__ import annotations

from pydantic import Field, model_validator

from hil_config.schema.numbers import Share
from hil_config.schema.strict import Name, Strict, refuse


class PowerMode(Strict):
    """A power mode as an agent is ordered into it."""

    name: Name = Field(description="Name of the mode; unique in its profile.")
    duty: float = Field(default=1.0, description="Share of time that the node may compute.", ge=0.01, le=1)
    cpu_khz: int | None = Field(default=None, description="Cap of the cores' frequency in kHz.", gt=0)
    nvp_mode: int | None = Field(default=None, description="Number of the mode in nvpmodel, on a Jetson.", ge=0)
    speed: float | None = Field(
        default=None,
        description="Speed against the first mode. Modelled: for simulations of a mode that was not calibrated and"
        " that neither duty nor cpu_khz tells apart.",
        gt=0,
        le=100,
    )

    def setting(self) -> dict[str, float]:
        """Its numbers by name, without those it does not have."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


def check_modes(modes: tuple[PowerMode, ...]) -> None:
    """Refused below the key `modes`: names that come twice, and modes that leave out what another one sets."""
    names: set[str] = set()
    for index, mode in enumerate(modes):
        if mode.name in names:
            raise refuse(("modes", index, "name"), f"found {mode.name!r} twice", "give every mode its own name")
        names.add(mode.name)
        for key in ("cpu_khz", "nvp_mode"):
            if (getattr(mode, key) is None) != (getattr(modes[0], key) is None):
                raise refuse(
                    ("modes", index), f"{key} is set by mode {mode.name} or {modes[0].name} and not by the other",
                    f"set {key} in all modes or in none, or what one mode set would stay in the next",
                )  # fmt: skip


class Power(Strict):
    """What the boards' power modes are in a run. Boards whose profile lists none stay as they are."""

    mode: Name | None = Field(
        default=None,
        description="Boards that offer a mode of this name stay in it for the whole run, the others in their first.",
    )
    ease_above_c: float | None = Field(
        default=None,
        description="Above this temperature of the twin a board goes into its second mode; into each further one"
        " after equal steps towards temperature_soft_c.",
        ge=-100,
        le=150,
    )
    ease_below_charge: Share | None = Field(
        default=None, description="The same below this state of charge, in steps towards charge_soft."
    )

    @model_validator(mode="after")
    def _check_one(self) -> Power:
        eased = self.ease_above_c is not None or self.ease_below_charge is not None
        if eased == (self.mode is not None):
            raise refuse(
                ("mode",) if eased else (),
                f"found {'both a mode' if eased else 'neither a mode'} {'and' if eased else 'nor'} limits that change"
                " it, wanted one of them",
                "write mode, or ease_above_c and ease_below_charge, or leave power out",
            )
        return self
