"""What a lab may assert on a campaign in its own continuous integration."""

from __future__ import annotations

from ground_controller.run_data import RunData
from ground_controller.verification.check import Check


def test_text_came_and_none_was_lost(hil_run: RunData) -> None:
    assert hil_run.metrics.tokens > 50
    assert not hil_run.metrics.records_missing


def test_no_satellite_was_over_its_limit(hil_run: RunData) -> None:
    assert hil_run.pandas("satellites")["temperature_c"].max() < 60.0


def test_the_record_can_be_published(hil_checks: tuple[Check, ...]) -> None:
    assert not [check for check in hil_checks if check.outcome == "fail"]
