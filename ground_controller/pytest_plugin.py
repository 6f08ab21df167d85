"""A pytest plugin: assert on campaigns in your own continuous integration.

Options: `--hil-run FOLDER` takes a run there is; `--hil-bench FILE --hil-campaign FILE` run one campaign for all tests
of the session, with `--hil-simulate` on model nodes. Fixtures: `hil_run`, its tables, metrics and manifest;
`hil_checks`, what `hil campaign verify` finds. Without an option, tests that ask for them are skipped and say so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ground_controller.run_data import RunData
    from ground_controller.verification.check import Check

MISSING = "give --hil-run FOLDER, or --hil-bench FILE and --hil-campaign FILE"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("SpaceMoE-HIL")
    group.addoption("--hil-run", metavar="FOLDER", help="The run to test.")
    group.addoption("--hil-bench", metavar="FILE", help="Bench of the campaign to run and test.")
    group.addoption("--hil-campaign", metavar="FILE", help="Campaign to run and test.")
    group.addoption("--hil-simulate", action="store_true", help="Run it on model nodes instead of the bench.")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which run is tested, where one is."""
    run, bench, campaign = (config.getoption(f"--hil-{name}") for name in ("run", "bench", "campaign"))
    if run:
        return [f"hil: run {run}"]
    how = "simulated" if config.getoption("--hil-simulate") else "on the bench"
    return [f"hil: {campaign} {how} ({bench})"] if bench and campaign else []


@pytest.fixture(scope="session")
def hil_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """The run. A campaign that ends with an error fails the tests that need it, with the command's own words."""
    from ground_controller import load_run

    option = request.config.getoption
    if folder := option("--hil-run"):
        return load_run(folder)
    bench, campaign = option("--hil-bench"), option("--hil-campaign")
    if not bench or not campaign:
        pytest.skip(MISSING)
    out = tmp_path_factory.mktemp("hil") / "run"
    verb = ("simulate",) if option("--hil-simulate") else ("campaign", "run")
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", *verb, bench, campaign, "--out", str(out), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"hil {' '.join(verb)} ended with {done.returncode}\n{done.stderr}", pytrace=False)
    return load_run(Path(json.loads(done.stdout)["run"]))


@pytest.fixture(scope="session")
def hil_checks(hil_run: RunData) -> tuple[Check, ...]:
    """The checks of `hil campaign verify` over that run."""
    from ground_controller.verification.verify import verify_run

    return verify_run(hil_run.folder)
