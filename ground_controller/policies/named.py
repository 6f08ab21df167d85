"""Are the policies that a campaign names there, and may they have the options that it gives them?"""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import ConfigError
from hil_config.schema.campaign import Campaign
from hil_config.schema.yaml_text import read_yaml


def check_policies(campaign: Campaign, path: Path, variant: str = "") -> None:
    """ConfigError at the line of the campaign file that names a policy or gives its options.

    Args:
        variant: of a matrix, whose changes to policies stand under `matrix.axes`.
    """
    from ground_controller.policies import registry

    makers = {
        "placement": registry.placement_policy, "selection": registry.selection_policy,
        "precision": registry.precision_policy, "transmission": registry.transmission_policy,
        "replacement": registry.replacement_policy,
    }  # fmt: skip
    for kind, make in makers.items():
        chosen = getattr(campaign.policies, kind)
        try:
            make(chosen.name, chosen.options)
        except ConfigError as error:
            document = read_yaml(path)
            place = document.at(("matrix", "axes") if variant else ("policies", kind, "name"))
            of = f"variant {variant}: " if variant else ""
            hint = error.hint or f"docs/reference/policies.md says what {chosen.name} is, its file what its options are"
            raise ConfigError(f"{place}: {of}policies.{kind}: {error.message}", hint) from error
