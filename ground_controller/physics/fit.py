"""Fit a board's two-node thermal network to a measured load trace, and predict another trace with it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ground_controller.physics.thermal import ThermalNetwork, response_k_w
from hil_config.errors import DataFileError

Float = NDArray[np.float64]

COLUMNS = ("t_s", "power_w", "temp_c")
_RANGES = {"power_w": (0.0, 1e4, "watts, 0 to 10000"), "temp_c": (-100.0, 150.0, "degrees C, -100 to 150")}
LEAST_ROWS = 30
LEAST_SPREAD_W, LEAST_SPREAD_K = 0.2, 2.0
"""Range of power and of temperature without which resistances and the sink cannot be told from each other."""
COLDEST_SINK_C, WARMEST_SINK_C = -60.0, 60.0
"""Sinks outside these were fitted to something else than heat through two resistances."""
_STARTS = ((14.0, 12.0, 2.0, 200.0), (5.0, 20.0, 2.0, 300.0), (8.0, 12.0, 8.0, 60.0))
"""R1, C1, R2, C2 to start from: an orbit-like, a bench-like and a two-equal-parts board."""
USUAL_K_W = 8.0
"""Die to sink, about, of such boards."""


@dataclass(frozen=True)
class Trace:
    """A load trace [T]: seconds (rising), mean power until the next sample in W, die temperature in degrees C."""

    name: str
    time_s: Float
    power_w: Float
    temperature_c: Float


@dataclass(frozen=True)
class BoardFit:
    """Die to case, case to sink, the sink, and the case at the trace's start. `rmse_k` over the trace."""

    thermal_resistance_k_w: float
    thermal_capacity_j_k: float
    case_resistance_k_w: float
    case_capacity_j_k: float
    sink_c: float
    case_start_c: float
    rmse_k: float
    largest_error_k: float

    @property
    def network(self) -> ThermalNetwork:
        """Die and case over the fitted sink."""
        link = 1.0 / self.thermal_resistance_k_w
        return ThermalNetwork(
            np.array([self.thermal_capacity_j_k, self.case_capacity_j_k]), np.array([[0.0, link], [link, 0.0]]),
            np.array([0.0, 1.0 / self.case_resistance_k_w]), self.sink_c, np.zeros(2),
        )  # fmt: skip


def read_trace(path: Path) -> Trace:
    """A CSV with the columns t_s, power_w, temp_c. DataFileError names the line."""
    hint = f"wanted a CSV file with the columns {', '.join(COLUMNS)}"
    rows: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataFileError(f"{path}:1: no column {', '.join(missing)}; found {reader.fieldnames}", hint)
            for row in reader:
                rows.append([_number(row, name, f"{path}:{reader.line_num}", hint) for name in COLUMNS])
                if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
                    found = f"found {rows[-1][0]:g} after {rows[-2][0]:g}"
                    raise DataFileError(f"{path}:{reader.line_num}: t_s: {found}, wanted rising", hint)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: not text: {error}", hint) from error
    if len(rows) < LEAST_ROWS:
        raise DataFileError(f"{path}: {len(rows)} rows, wanted at least {LEAST_ROWS}", "record a longer trace")
    return Trace(path.name, *np.array(rows).T)


def _number(row: dict[str, str | None], name: str, where: str, hint: str) -> float:
    text = row[name]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataFileError(f"{where}: {name}: found {text!r}, wanted a number", hint)
    low, high, wanted = _RANGES.get(name, (-math.inf, math.inf, ""))
    if not low <= value <= high:
        raise DataFileError(f"{where}: {name}: found {value:g}, wanted {wanted}", hint)
    return value


def simulate(network: ThermalNetwork, case_start_c: float, trace: Trace) -> Float:
    """Die temperatures [T] of a two-node board that draws the trace's power from its first temperature on."""
    flow, sink = network.laplacian_w_k, network.sink_w_k * network.sink_c
    steps = np.diff(trace.time_s)
    responses = {step_s: response_k_w(network, flow, step_s) for step_s in set(steps.tolist())}
    now = np.array([trace.temperature_c[0], case_start_c])
    out = np.empty(len(trace.time_s))
    out[0] = now[0]
    heat = np.column_stack([trace.power_w, np.zeros(len(trace.time_s))]) + sink
    for k, step_s in enumerate(steps.tolist()):
        now = now + responses[step_s] @ (heat[k] - flow @ now)
        out[k + 1] = now[0]
    return out


def _as_fit(x: Float, error: Float) -> BoardFit:
    r1, c1, r2, c2 = np.exp(x[:4])
    worst = float(np.abs(error).max())
    return BoardFit(r1, c1, r2, c2, float(x[4]), float(x[5]), float(np.sqrt(np.mean(error**2))), worst)


def fit_board(trace: Trace) -> BoardFit:
    """Least squares over the whole trace, from several starts; the best is kept. All power becomes heat.

    Raises:
        DataFileError: power or temperature hardly move: many boards would fit as well as each other.
    """
    _refuse_flat(trace)
    best: BoardFit | None = None
    # Starts are of boards of a few watts; one of tens has less resistance and, as its case is as slow, more capacity.
    about_k_w = min(USUAL_K_W, float(np.ptp(trace.temperature_c)) / float(np.ptp(trace.power_w)))
    less = about_k_w / USUAL_K_W
    sink = float(trace.temperature_c[0]) - about_k_w * float(trace.power_w[0])
    for r1, c1, r2, c2 in _STARTS:

        def error(x: Float) -> Float:
            fit = _as_fit(x, np.zeros(1))
            return simulate(fit.network, fit.case_start_c, trace) - trace.temperature_c

        lower = np.r_[np.log([0.05, 0.5, 0.01, 0.5]), -150.0, -150.0]
        upper = np.r_[np.log([200.0, 1e4, 200.0, 1e6]), 120.0, 150.0]
        start = np.log([r1 * less, c1 / less, r2 * less, c2 / less])
        x0 = np.clip(np.r_[start, sink, trace.temperature_c[0]], lower, upper)
        found = least_squares(error, x0, bounds=(lower, upper), x_scale="jac", max_nfev=40)
        fit = _as_fit(found.x, found.fun)
        if best is None or fit.rmse_k < best.rmse_k:
            best = fit
    assert best is not None
    return best


def _refuse_flat(trace: Trace) -> None:
    for name, values, least, unit in (
        ("power_w", trace.power_w, LEAST_SPREAD_W, "W"), ("temp_c", trace.temperature_c, LEAST_SPREAD_K, "K"),
    ):  # fmt: skip
        if (spread := float(np.ptp(values))) < least:
            raise DataFileError(
                f"{trace.name}: {name} varies by {spread:.3g} {unit}, wanted at least {least:g}: any board would fit",
                "record idle, then load, then idle again, each until the temperature settles",
            )


def doubts(trace: Trace, fit: BoardFit) -> tuple[str, ...]:
    """Why not to trust a fit: a sink that no bench or satellite has, or a network slower than the trace is long."""
    told = []
    if not COLDEST_SINK_C <= fit.sink_c <= WARMEST_SINK_C:
        told.append(f"a sink at {fit.sink_c:.0f} C: temperature does not follow this power; look at the trace")
    slow_s = (fit.thermal_resistance_k_w + fit.case_resistance_k_w) * fit.case_capacity_j_k
    if slow_s > (long_s := float(np.ptp(trace.time_s))):
        told.append(
            f"the case follows within {slow_s:.0f} s, the trace lasts {long_s:.0f} s: sink and slow part are guesses"
        )
    return tuple(told)


def predict(fit: BoardFit, trace: Trace) -> Float:
    """Die temperatures [T] of another trace. Its case starts where it would rest below the first temperature."""
    share = fit.case_resistance_k_w / (fit.thermal_resistance_k_w + fit.case_resistance_k_w)
    case = fit.sink_c + (float(trace.temperature_c[0]) - fit.sink_c) * share
    return simulate(fit.network, case, trace)
