"""No watt that a model gave stands under a sensor's name."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.core import Core
from ground_controller.decision import encode_decision
from ground_controller.explain_node import explain_node
from ground_controller.journal import Entry, Journal
from ground_controller.preparation import Prepared, prepare
from ground_controller.telemetry.power_read import NO_READING, decided_by
from ground_controller.telemetry.sources import quantities
from ground_controller.telemetry.tables import satellites
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire import messages as m
from hil_config.wire.provenance import Provenance, measured, modelled

METER, MODEL = measured("INA3221, module input"), modelled("coefficients x CPU time")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))


def _status(state: str, boot: str, power: Provenance) -> Entry:
    columns = [m.Quantity("power_w", "W", 10.0, power)]
    if power == METER:
        columns.append(m.Quantity("power_cpu_power_model_w", "W", 10.0, MODEL))
    body = m.encode(m.Status(node="alpha", boot_id=boot, state=state, quantities=tuple(columns)))  # type: ignore[arg-type]
    return Entry(0, 0.0, 0, "status", "alpha", boot, 0, body)


def _samples(seq: int, boot: str = "b1", **columns: float | None) -> Entry:
    batch = m.SampleBatch((seq,), {name: (value,) for name, value in columns.items()})
    record = m.Record(node="alpha", boot_id=boot, seq=seq, mono_ns=seq, wall_ns=1, body=batch)
    return Entry(0, 0.0, 0, "samples", "alpha", boot, seq, m.encode(record))


TICKS: tuple[tuple[list[Entry], float | None], ...] = (
    ([_status("serving", "b1", METER)], None),  # the profile's idle power
    ([_samples(1, power_w=4.5, power_cpu_power_model_w=3.0)], 4.5),
    ([_samples(2, temperature_c=40.0)], 4.5),  # another sampler's batch says nothing of power
    ([_samples(3, power_w=None, power_cpu_power_model_w=3.5)], None),  # refused: the model goes on
    ([_samples(4, power_w=5.0, power_cpu_power_model_w=3.5)], 5.0),
    ([_status("offline", "b1", METER)], None),
    ([_status("serving", "b2", MODEL)], None),  # back without its sensor, nothing read yet
    ([_samples(5, boot="b1", power_w=9.0)], None),  # of the boot before
    ([_samples(1, boot="b2", power_w=3.25)], 3.25),
)


@pytest.fixture
def journal(prepared: Prepared, tmp_path: Path) -> Journal:
    """What a controller would have recorded of these entries."""
    found = Journal.create(tmp_path / "run")
    card = msgspec.json.encode(prepared.setting.model).decode()
    for key, value in (
        ("bench", prepared.bench.model_dump_json()), ("campaign", prepared.campaign.model_dump_json()),
        ("model_card", card), ("anchor_host_ns", "0"),
        ("clock_offsets_ns", json.dumps({node: [0, 0] for node in prepared.setting.nodes})),
    ):  # fmt: skip
        found.set_meta(key, value)
    core = Core(prepared.setting, prepared.policy, 1, 5.0)
    for tick, (entries, _) in enumerate(TICKS):
        at_s = 5.0 * tick
        fresh = found.commit([one._replace(tick=tick, scenario_s=at_s) for one in entries])
        decision = core.advance(tick, at_s, fresh)
        found.commit([Entry(tick, at_s, tick, "decision", "", "", 0, encode_decision(decision))])
    return found


def test_only_readings_of_a_living_board_stand_under_its_sensor(journal: Journal) -> None:
    table = satellites(journal)
    column = [one.name for one in table.columns].index("power_w")
    rows = [row for row in table.rows() if row[2] == "alpha"]
    assert [row[column] for row in rows] == [wanted for _, wanted in TICKS]
    decided = [(one.column("power_w")[0], watts[0]) for _, one, watts in decided_by(journal)]
    assert decided[3][0] == 3.5 and np.isnan(decided[3][1]), "the policy did go on with the model"
    assert all(np.isnan(watts[1:]).all() for _, _, watts in decided_by(journal)), "the others never reported"


def test_a_board_that_came_back_without_its_sensor_is_not_called_measured(journal: Journal) -> None:
    found = quantities(journal)["power_w"]["alpha"].provenance
    assert found.kind == "modelled"
    assert str(METER) in found.by and str(MODEL) in found.by


def test_explaining_a_node_names_what_the_twin_went_on_with(journal: Journal) -> None:
    folder = journal.path.parent
    assert explain_node(folder, "alpha", 15.0).power_source == str(NO_READING)
    assert str(METER) in explain_node(folder, "alpha", 5.0).power_source
