"""Where a run's figures came from, and what they are silent about."""

from __future__ import annotations

from typing import Any

import msgspec

from ground_controller.journal import Journal
from ground_controller.mixed import META as MIXED
from ground_controller.mixed import Mixed
from ground_controller.report.links import LinkResult
from ground_controller.report.sky_sources import sky_sources
from ground_controller.telemetry.sources import by_provenance, generated, quantities, simulated_modes, stride, timed
from hil_config.wire.messages import Status, decode


def sources(journal: Journal, campaign: dict[str, Any]) -> dict[str, str]:
    """Each reported quantity with where it came from."""
    found = {
        name if len(groups) == 1 else f"{name} of {', '.join(nodes)}": str(provenance)
        for name, by_node in sorted(quantities(journal).items())
        for groups in [by_provenance(by_node)]
        for provenance, nodes in groups.items()
    }
    return {
        **found,
        **_models(journal),
        **_modes(journal),
        "token and frame times": str(timed(journal, "monotonic clocks of client and gateways")),
        "generated text": str(generated(journal, "onnxruntime on quantised shards")),
        **sky_sources(campaign["orbit"]),
        "satellite temperature, charge, wear": "modelled(twin: thermal network and battery)",
        "energy of transmission, time of migrations": "modelled(bytes sent x J/bit of the platform; contact plan)",
    }


def _models(journal: Journal) -> dict[str, str]:
    """That some nodes of the fleet are models, whose figures are none of these."""
    text = journal.meta(MIXED, "")
    if not text or journal.meta("simulated", ""):
        return {}
    found = msgspec.json.decode(text, type=Mixed)
    return {f"{len(found.nodes)} model nodes, apart": f"modelled(board models: {found.boards})"}


def _modes(journal: Journal) -> dict[str, str]:
    """Of a simulated run in power modes: in which its boards' work was calibrated, and in which it is calculated."""
    uses = simulated_modes(journal)
    return {
        f"work of {use.profile} in mode {use.mode}": f"modelled({'calibrated: ' if use.calibrated else ''}{use.origin})"
        for use in uses
    }


def first_line(found: dict[str, str]) -> str:
    """The report's first line, from `sources`."""
    kinds: dict[str, list[str]] = {"measured": [], "modelled": [], "fake": []}
    for name, source in found.items():
        kinds[source.partition("(")[0]].append(f"{name} ({source.partition('(')[2][:-1]})")
    return " ".join(
        f"{kind.capitalize()}: {'; '.join(values) if values else 'nothing'}." for kind, values in kinds.items()
    )


def not_measured(
    journal: Journal, campaign: dict[str, Any], links: tuple[LinkResult, ...], left_out: int
) -> tuple[str, ...]:
    """What a reader might expect and will not find.

    Args:
        left_out: decoded tokens without a full record of their steps.
    """
    absent = ["the link between client and gateways (out of band, not shaped)"]
    if campaign["workload"].get("evaluation", "none") != "none":
        absent.append("the share of the energy that went into scoring the evaluation set (it is in the totals)")
    if "temperature_c" not in quantities(journal):
        absent.append("die temperature (no thermal zone on these nodes)")
    if stride(journal) > 1:
        absent.append(f"what happened between detailed windows, 1 of {stride(journal)}: counts are multiplied")
    if campaign["orbit"]["rate"] != 1:
        absent.append("anything about die temperature in mission time: the orbit ran accelerated")
    if left_out:
        absent.append(f"where the time of {left_out} decoded tokens went: no full record of their steps")
    absent += [
        f"the delay of some frames from {one.source} to {one.target}: the histogram holds {sum(one.histogram)} of"
        f" {one.frames}"
        for one in links
        if not one.whole
    ]
    return (*absent, *_sensors(journal))


def _sensors(journal: Journal) -> list[str]:
    """Sensors that were looked for and are not there, by reason."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for entry in journal.entries("status"):
        for one in decode(entry.body, Status).missing:
            found.setdefault((one.name, one.reason), {})[entry.node] = None
    return [f"{name} on {', '.join(nodes)}: {reason}" for (name, reason), nodes in sorted(found.items())]
