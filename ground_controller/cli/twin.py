"""`hil twin`: the presets of the satellite twin, and the fit of a board's heat to a measured trace."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from ground_controller.physics.fit import BoardFit, Trace, doubts, fit_board, predict, read_trace
from hil_config.schema.platforms import load_platform, platform_names

TRACE = click.Path(path_type=Path)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
_PLATFORM_KEYS = (
    "thermal_resistance_k_w",
    "thermal_capacity_j_k",
    "case_resistance_k_w",
    "case_capacity_j_k",
    "sink_c",
)


@click.group()
def twin() -> None:
    """The modelled satellites that the boards' watts are spent in."""


@twin.command("platforms")
@JSON_FLAG
def platforms_command(as_json: bool) -> None:
    """Presets of satellite buses, with the source of their numbers."""
    presets = [load_platform(name) for name in platform_names()]
    if as_json:
        click.echo(json.dumps({preset.name: preset.model_dump() for preset in presets}))
        return
    for preset in presets:
        click.echo(f"{preset.name}\n  {preset.source}")
        numbers = preset.model_dump(exclude={"name", "source"})
        click.echo("  " + ", ".join(f"{key} {value:g}" for key, value in numbers.items()) + "\n")


@twin.command("fit")
@click.argument("trace", type=TRACE)
@click.option(
    "--predict", "others", type=TRACE, multiple=True, help="Another trace to predict with the fit; repeatable."
)
@JSON_FLAG
def fit_command(trace: Path, others: tuple[Path, ...], as_json: bool) -> None:
    """Fit a board's heat to TRACE, a CSV file with t_s, power_w and temp_c.

    Prints the numbers for `twin.platform` of a campaign, and the residuals.
    """
    measured = read_trace(trace)
    unseen = [read_trace(path) for path in others]
    fit = fit_board(measured)
    errors = {other.name: predict(fit, other) - other.temperature_c for other in unseen}
    rmse = {name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()}
    if as_json:
        told = {"trace": measured.name, "fit": asdict(fit), "predicted_rmse_k": rmse, "doubts": doubts(measured, fit)}
        click.echo(json.dumps(told))
        return
    _tell(measured, fit, rmse)


def _tell(trace: Trace, fit: BoardFit, rmse: dict[str, float]) -> None:
    console = Console()
    table = Table("number", "value", title=f"fitted to {trace.name} ({len(trace.time_s)} samples)", box=None)
    for key in _PLATFORM_KEYS:
        table.add_row(key, f"{getattr(fit, key):.4g}")
    console.print(table)
    fast_s = fit.thermal_resistance_k_w * fit.thermal_capacity_j_k
    console.print(
        f"total {fit.thermal_resistance_k_w + fit.case_resistance_k_w:.1f} K/W, fast time constant {fast_s:.0f} s;"
        f" the case began at {fit.case_start_c:.1f} C"
    )
    console.print(f"residuals: RMSE {fit.rmse_k:.2f} K, largest {fit.largest_error_k:.2f} K")
    for doubt in doubts(trace, fit):
        console.print(f"doubtful: {doubt}")
    for name, value in rmse.items():
        console.print(f"predicts {name} (not fitted): RMSE {value:.2f} K")
