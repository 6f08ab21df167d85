"""From a campaign file with a matrix to its plan."""

from __future__ import annotations

from pathlib import Path

from ground_controller.matrix.order import cells
from ground_controller.matrix.plan import VERSION, Kind, Plan, Simulated
from ground_controller.policies.named import check_policies
from ground_controller.report.accounting import accounting_of_campaigns
from hil_config.errors import ConfigError, InvalidRunError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import campaign_of
from hil_config.schema.variants import variants_of
from hil_config.schema.yaml_text import read_yaml


def has_matrix(campaign_file: Path) -> bool:
    """Whether a file asks for many runs; ConfigError if it is none."""
    return campaign_of(read_yaml(campaign_file)).matrix is not None


def plan_of(bench: Bench, campaign_file: Path, kind: Kind, simulated: Simulated) -> Plan:
    """The whole matrix of a campaign file.

    Raises:
        ConfigError: anything wrong with the file or one of its variants; or repeats on model nodes, which would be
            equal to the byte; or variants that mix work accountings.
    """
    document = read_yaml(campaign_file)
    whole: Campaign = campaign_of(document)
    variants = variants_of(document)
    for variant in variants:
        variant.campaign.check_against(bench, campaign_file)
        check_policies(variant.campaign, campaign_file, variant.name)
    try:
        accounting_of_campaigns((variant.name, variant.campaign) for variant in variants)
    except InvalidRunError as error:
        raise ConfigError(
            f"{document.at(('matrix', 'axes'))}: matrix.axes: {error.message}",
            "vary twin.accounting in two matrices, or at orbit.rate 1, where both agree",
        ) from error
    matrix = whole.matrix
    assert matrix is not None  # whoever calls has asked
    if kind == "model nodes" and matrix.repeats > 1:
        raise ConfigError(
            f"{document.at(('matrix', 'repeats'))}: matrix.repeats: found {matrix.repeats}, wanted 1 on model nodes",
            "a simulated run repeats itself to the byte: give more seeds",
        )
    warm_up = matrix.warm_up if kind == "boards" else 0
    order = cells([v.name for v in variants], matrix.seeds or (whole.seed,), matrix.repeats, matrix.order_seed, warm_up)
    return Plan(
        VERSION, whole.campaign, kind, simulated, bench.model_dump_json(),
        {v.name: v.campaign.model_dump_json() for v in variants}, {v.name: v.labels for v in variants},
        matrix.model_dump_json(), tuple(order),
    )  # fmt: skip
