"""BUPT-1's Raspberry Pi 4B (Xing et al., MobiCom 2024): temperature from the power trace, fitted and predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ground_controller.cli.twin import twin
from ground_controller.physics.fit import BoardFit, Trace, doubts, fit_board, predict, read_trace, simulate
from hil_config.errors import DataFileError
from hil_config.schema.platforms import load_platform

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("place", ["orbit", "bench"])
@pytest.mark.parametrize(("fitted", "unseen"), [(4, 1), (1, 4)])
def test_bupt_1_temperature_from_its_power(place: str, fitted: int, unseen: int) -> None:
    fit = fit_board(read_trace(DATA / f"{place}_pi4b_{fitted}core.csv"))
    other = read_trace(DATA / f"{place}_pi4b_{unseen}core.csv")
    error = predict(fit, other) - other.temperature_c
    assert fit.rmse_k <= 1.3
    assert float(np.sqrt(np.mean(error**2))) <= 2.5
    total = fit.thermal_resistance_k_w + fit.case_resistance_k_w
    assert total == pytest.approx(16.5 if place == "orbit" else 7.0, rel=0.05)


def test_the_default_platform_is_that_fit() -> None:
    fit = fit_board(read_trace(DATA / "orbit_pi4b_4core.csv"))
    preset = load_platform("12u-bupt1")
    for name in ("thermal_resistance_k_w", "thermal_capacity_j_k", "case_resistance_k_w", "case_capacity_j_k"):
        assert getattr(preset, name) == pytest.approx(getattr(fit, name), rel=0.02)
    assert preset.sink_c == pytest.approx(fit.sink_c, abs=0.1)


def test_a_simulated_board_is_found_again() -> None:
    board = BoardFit(5.0, 15.0, 2.0, 300.0, 24.0, 30.0, 0.0, 0.0)
    trace = read_trace(DATA / "bench_pi4b_4core.csv")
    exact = trace.__class__("simulated", trace.time_s, trace.power_w, simulate(board.network, 30.0, trace))
    fit = fit_board(exact)
    assert fit.rmse_k < 1e-3
    assert fit.thermal_resistance_k_w == pytest.approx(5.0, rel=1e-2)
    assert fit.case_capacity_j_k == pytest.approx(300.0, rel=1e-2)


@pytest.mark.parametrize("first_w", [60.0, 15.0])
def test_a_board_of_sixty_watts_is_found_again(first_w: float) -> None:
    board = BoardFit(0.3, 60.0, 0.4, 1500.0, 20.0, 25.0, 0.0, 0.0)
    time_s = np.arange(540.0) * 10.0
    power_w = np.where((time_s // 900.0) % 2.0 == 0.0, first_w, 75.0 - first_w)
    begun = Trace("strong", time_s, power_w, np.full(540, 30.0))
    fit = fit_board(begun.__class__("strong", time_s, power_w, simulate(board.network, 25.0, begun)))
    assert fit.rmse_k < 0.05
    assert fit.sink_c == pytest.approx(20.0, abs=0.5)
    assert fit.thermal_resistance_k_w + fit.case_resistance_k_w == pytest.approx(0.7, rel=0.02)


def test_the_command_prints_numbers_for_a_campaign() -> None:
    bench = [str(DATA / f"bench_pi4b_{n}core.csv") for n in (1, 4)]
    done = CliRunner().invoke(twin, ["fit", bench[0], "--predict", bench[1], "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["fit"]["rmse_k"] < 1.3
    assert told["predicted_rmse_k"]["bench_pi4b_4core.csv"] < 2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t_s,power_w\n1,2\n", ":1: no column temp_c"),
        ("t_s,power_w,temp_c\n0,1,20\nx,1,20\n", ":3: t_s: found 'x', wanted a number"),
        ("t_s,power_w,temp_c\n0,1,20\n0,1,20\n", ":3: t_s: found 0 after 0"),
        ("t_s,power_w,temp_c\n0,1,nan\n", ":2: temp_c: found 'nan'"),
        ("t_s,power_w,temp_c\n0,1,20\n9,-1,20\n", ":3: power_w: found -1, wanted watts"),
        ("t_s,power_w,temp_c\n0,1,313.15\n", ":2: temp_c: found 313.15, wanted degrees C"),
        ("t_s,power_w,temp_c\n0,1,20\n", "1 rows, wanted at least 30"),
    ],
)
def test_a_bad_trace_is_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(DataFileError) as caught:
        read_trace(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("power_w", "temperature_c", "words"),
    [
        (np.full(80, 3.0), np.linspace(20.0, 50.0, 80), "power_w varies by 0 W, wanted at least 0.2"),
        (np.linspace(1.0, 5.0, 80), np.full(80, 40.0), "temp_c varies by 0 K, wanted at least 2"),
    ],
)
def test_a_trace_that_any_board_would_fit_is_refused(
    power_w: np.ndarray[Any, Any], temperature_c: np.ndarray[Any, Any], words: str
) -> None:
    with pytest.raises(DataFileError, match=words):
        fit_board(Trace("flat.csv", np.arange(80.0) * 10.0, power_w, temperature_c))


def test_a_temperature_that_does_not_follow_its_power_is_doubted() -> None:
    """It falls all the while power steps up and down: the fit needs a sink that nobody has, and says so."""
    time_s = np.arange(81.0) * 10.0
    trace = Trace("falling.csv", time_s, 3.0 + (time_s // 100.0) % 2.0, 60.0 - time_s / 20.0)
    told = doubts(trace, fit_board(trace))
    assert any("temperature does not follow this power" in one for one in told)
    assert any("sink and slow part are guesses" in one for one in told)
    measured = read_trace(DATA / "orbit_pi4b_4core.csv")
    assert doubts(measured, fit_board(measured)) == ()
