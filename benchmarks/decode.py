"""Distributed decode time per token against the onnxruntime time on its critical path, four nodes, no orbital delay."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ground_controller.campaign import run_campaign
from ground_controller.journal import Journal
from ground_controller.preparation import prepare
from ground_controller.report.metrics import columns
from ground_controller.telemetry import tables
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign

SECONDS = 12.0
RUNTIME = ("trunk_us", "expert_us", "head_us")


def _inputs() -> tuple[Bench, Campaign]:
    """The demo without orbit: one request at a time, no delay, links faster than the loopback."""
    bench, campaign = load_bench(default_path("bench")), load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(
        update={
            "rate": 1.0,
            "duration_s": SECONDS,
            "delay_scale": 0.0,
            "link_rate_mbit_s": 1e6,
            "max_range_km": 6_000.0,
        }
    )
    limits = campaign.twin.limits.model_copy(
        update={"temperature_soft_c": 140.0, "temperature_hard_c": 150.0, "charge_soft": 0.02, "charge_hard": 0.01}
    )
    changes = {
        "orbit": orbit,
        "model": campaign.model.model_copy(update={"hidden_codec": "fp32"}),
        "twin": campaign.twin.model_copy(update={"limits": limits}),
        "workload": campaign.workload.model_copy(update={"concurrency": 1}),
    }
    return bench, campaign.model_copy(update=changes).with_selection("topk")


def run() -> None:
    """One short run; medians over its decoded tokens."""
    bench, campaign = _inputs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run_campaign(prepare(bench, campaign), folder, lambda progress: None)
        journal = Journal.read(folder)
        try:
            steps = columns(tables.steps(journal))
            tokens = columns(tables.tokens(journal))
        finally:
            journal.close()
    runtime: dict[tuple[int, int], float] = {}
    for i, rows in enumerate(steps["rows"]):
        if rows == 1:
            key = (steps["request"][i], steps["start"][i])
            runtime[key] = runtime.get(key, 0.0) + sum(steps[part][i] for part in RUNTIME)
    total = [us for us, first in zip(tokens["since_us"], tokens["first"], strict=True) if not first]
    whole, inside = float(np.median(total)), float(np.median(list(runtime.values())))
    print(
        f"decode {whole / 1e3:.2f} ms/token at the client, onnxruntime on its critical path {inside / 1e3:.2f} ms, "
        f"ratio {whole / inside:.2f} (medians of {len(total)} tokens)"
    )
